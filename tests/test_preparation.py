from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysubset.errors import ConfigError, DataError, ModelError, RaySubsetError, RunFolderError
from raysubset.experiment import Experiment, nest
from raysubset.local_run import run_local
from raysubset.preparation import (
    Prepared,
    check_folder,
    environment,
    for_strategy,
    new_run_folder,
    open_ledger,
    parts_table,
    prepare,
)
from raysubset.records import read_table
from tests.small_runs import experiment, prepared

HERE = "tests.test_preparation"


def headless(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes), nn.Softmax(1))


def frozen(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)).requires_grad_(False)


def sure(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def table(folder: Path, rows: list[list[Any]], header: str = "a,b,label") -> Path:
    path = folder / "rows.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def good_rows(count: int = 40) -> list[list[Any]]:
    draw = np.random.default_rng(0)
    return [[*draw.normal(size=2).round(3), i % 2] for i in range(count)]


def of_table(path: Path, **options: Any) -> Experiment:
    own = {"data__format": "auto", "data__limit": None, "data__path": str(path)}
    return experiment(**own, **options)


BAD: list[tuple[dict[str, Any], type[RaySubsetError], str]] = [
    (
        {"selection__fraction": 0.01},
        ConfigError,
        r"budget of 1 ids is too small for 2 .*BatchNorm needs 2 per rank.*--selection\.fraction",
    ),
    ({"resources__workers": 40}, ConfigError, r"too small for 40 .*lower --resources\.workers"),
    (
        {"training__batch_size": 3},
        ConfigError,
        r"training\.batch_size=3 is too small for 2 ranks; give at least 4",
    ),
    (
        {"training__epochs": 2, "selection__select_every": 5},
        ConfigError,
        r"leaves no epoch for GLISTER to select for; raise epochs",
    ),
    ({"training__momentum": 0.0}, ConfigError, r"nesterov=true needs training\.momentum above 0"),
    (
        {"model__name": f"{HERE}:headless"},
        ModelError,
        r"no nn\.Linear makes.*its layers: .*Softmax",
    ),
    ({"model__name": f"{HERE}:frozen"}, ModelError, "unfreeze the head"),
    ({"model__name": f"{HERE}:absent"}, ModelError, "has no 'absent'"),
    ({"model__name": "resnet81"}, ModelError, "did you mean 'resnet18'"),
    ({"model__head": "7.weight"}, ModelError, r"model\.head='7\.weight' is not in the model"),
    ({"data__limit": 10}, ConfigError, r"--data\.limit=10 is too small for 10 classes"),
    ({"data__validation": 30}, ConfigError, "data.validation"),
    (
        {"data__path": "/nowhere/at/all.csv", "data__format": "auto"},
        RaySubsetError,
        "/nowhere/at/all",
    ),
]


@pytest.mark.parametrize(("options", "error", "said"), BAD)
def test_what_cannot_run_is_refused_with_the_remedy_before_anything_is_written(
    options: dict[str, Any],
    error: type[RaySubsetError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(error, match=f"(?s){said}") as caught:
        run_local(prepare(experiment(**options)), tmp_path / "run")
    assert caught.value.exit_code == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1, 2, -1], "-1"),
        ([1, 2, ""], "label"),
        (["nan", 2, 1], "rows.csv"),
        (["inf", 2, 1], "rows.csv"),
    ],
)
def test_f11_f12_a_bad_row_is_refused_by_file_and_row_before_anything_is_written(
    row: list[Any], said: str, tmp_path: Path
):
    rows = good_rows()
    rows[17] = row
    path = table(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        run_local(prepare(of_table(path)), tmp_path / "run")
    message = str(caught.value)
    assert "17" in message and said in message and "rows.csv" in message
    assert os.listdir(tmp_path) == ["rows.csv"]


def test_f13_a_single_class_is_refused(tmp_path: Path):
    path = table(tmp_path, [[a, b, 0] for a, b, _ in good_rows()])
    with pytest.raises(DataError, match="class"):
        prepare(of_table(path))


def test_f13_a_class_of_validation_that_the_pool_lacks_is_refused(tmp_path: Path):
    path = table(tmp_path, good_rows())
    (tmp_path / "val.csv").write_text("a,b,label\n1,2,0\n1,2,1\n3,4,2\n")
    with pytest.raises(DataError, match="validation"):
        prepare(of_table(path, data__validation=str(tmp_path / "val.csv")))


def test_augmenting_a_table_is_refused_before_anything_is_written(tmp_path: Path):
    ready = of_table(table(tmp_path, good_rows()), training__augment="crop")
    with pytest.raises(ConfigError, match=r"training\.augment='crop' alters images"):
        run_local(prepare(ready), tmp_path / "run")
    assert os.listdir(tmp_path) == ["rows.csv"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"resources\.device=cuda"):
        run_local(prepared(resources__device="cuda"), tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_a_model_without_batch_norm_needs_one_row_per_rank():
    ready = prepared(model__name=f"{HERE}:sure", selection__fraction=0.015)
    assert {phase.budget for phase in ready.phases} == {2}
    with pytest.raises(ConfigError, match="BatchNorm needs 2 per rank"):
        prepared(selection__fraction=0.015)


def test_f14_a_budget_below_the_classes_is_a_warning():
    ready = prepared(model__name=f"{HERE}:sure", selection__fraction=0.05)
    notes = [note for note in ready.notes if "below the 10 classes" in note]
    assert len(notes) == 1
    assert "the budget of 7 is below" in notes[0] and "--selection.fraction" in notes[0]
    assert not [note for note in prepared().notes if "classes" in note]


def test_the_default_experiment_runs_on_the_embedded_data():
    ready = prepare(Experiment())
    assert ready.problem.parts.pool.name == "digits"
    assert ready.phases[-1].strategy == "glister"


def test_f19_duplicates_are_told_and_dropped_where_asked(tmp_path: Path):
    rows = good_rows(80)
    rows[::4] = rows[1::4]
    path = table(tmp_path, rows)
    options = {"selection__fraction": 0.5}
    plain, filtered = (
        prepare(of_table(path, **options, selection__filters=f)) for f in ([], ["duplicates"])
    )
    copies = plain.identity["pool"] - filtered.identity["pool"]
    assert copies > 0
    assert f"the filters dropped {copies} of {plain.identity['pool']} pool rows" in filtered.notes
    assert any("exact duplicates" in note for note in plain.notes)
    assert plain.problem.parts.fingerprint == filtered.problem.parts.fingerprint
    listed = parts_table(filtered).to_pylist()
    reasons = {row["id"]: row["dropped"] for row in listed if row["dropped"]}
    assert reasons == dict(filtered.verdict.reasons) and len(reasons) == copies


def test_another_strategy_shares_data_and_model_and_nothing_else():
    ready = prepared()
    other = for_strategy(ready, "adaptive-random")
    assert other.problem is ready.problem
    assert other.experiment == experiment(selection__strategy="adaptive-random")
    assert {phase.strategy for phase in other.phases} == {"adaptive-random"}
    assert other.phases[-1].total_visits == ready.phases[-1].total_visits
    assert other.identity == ready.identity


def test_the_identity_changes_with_the_data_and_not_with_the_training():
    assert prepared().identity == prepared(training__lr=0.3).identity
    for options in ({"seed": 1}, {"data__limit": 220}, {"data__validation": 0.2}):
        assert prepared(**options).identity["data"] != prepared().identity["data"]


def test_a_label_that_was_edited_refuses_to_resume(tmp_path: Path):
    rows = good_rows()
    first = prepare(of_table(table(tmp_path, rows), selection__fraction=0.5))
    run_local(first, tmp_path / "run")
    rows[4][2], rows[5][2] = rows[5][2], rows[4][2]
    edited = prepare(of_table(table(tmp_path, rows), selection__fraction=0.5))
    with pytest.raises(RunFolderError, match="data data: "):
        run_local(edited, tmp_path / "run", resume=True)


def test_the_table_of_parts_names_every_row_once():
    ready = prepared(data__tuning=0.2)
    listed = parts_table(ready)
    parts = ready.problem.parts
    assert parts.tuning is not None
    for name in ("pool", "validation", "tuning", "test"):
        part = getattr(parts, name)
        mine = [row for row in listed.to_pylist() if row["part"] == name]
        assert [row["id"] for row in mine] == part.id_N.tolist()
        assert [row["label"] for row in mine] == part.label_N.tolist()
    assert listed.num_rows == 200 == len(set(listed["id"].to_pylist()))


def test_a_run_folder_holds_the_parts_and_the_environment(tmp_path: Path):
    ledger = open_ledger(prepared(), tmp_path / "run")
    ledger.close()
    assert read_table(tmp_path / "run" / "parts.parquet").num_rows == 200
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"experiment.yaml", "environment.json", "fingerprint.json", "rounds"} <= names


def test_checking_a_folder_leaves_nothing_behind(tmp_path: Path):
    check_folder(prepared(), tmp_path / "new" / "run")
    assert os.listdir(tmp_path) == []
    open_ledger(prepared(), tmp_path / "run").close()
    check_folder(prepared(), tmp_path / "run", resume=True)
    with pytest.raises(RunFolderError, match="is used; add --resume"):
        check_folder(prepared(), tmp_path / "run")


def test_f30_the_environment_records_no_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-and-more")
    recorded = environment()
    assert "hunter2" not in str(recorded)
    assert recorded["versions"]["torch"] == str(torch.__version__).partition("+")[0] or (
        recorded["versions"]["torch"] == torch.__version__
    )
    assert recorded["memory_bytes"] > 2**28 and recorded["cpu_count"] >= 1


def test_a_new_run_folder_is_the_first_that_is_free(tmp_path: Path):
    names: list[str] = []
    for _ in range(3):
        path = new_run_folder(experiment(seed=4), "digits", tmp_path)
        assert path.is_absolute() and not path.exists()
        path.mkdir()
        names.append(path.name)
    assert names == [f"digits-glister-0.25-s4-{n}" for n in (1, 2, 3)]


def test_a_prepared_run_does_not_depend_on_how_its_options_were_written():
    nested = {"selection": {"fraction": "0.25"}, "training": {"epochs": 6.0}}
    flat = experiment().model_dump(mode="json")
    again = Experiment.of({**flat, "selection": flat["selection"] | nested["selection"]})
    assert again == experiment()
    assert isinstance(prepared(), Prepared) and nest({"a.b": 1}) == {"a": {"b": 1}}
