"""A person's table from end to end: its transform and keys are in the run, and may not change."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from raysubset.answers import explain, export
from raysubset.cli import call
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment, nest
from raysubset.files import write_json
from raysubset.learn.checkpoint import file_hash
from raysubset.learn.transform import TRANSFORM, read_transform
from raysubset.local_run import run_local
from raysubset.preparation import Prepared, prepare
from raysubset.records import read_table
from raysubset.report.run_report import write_report
from raysubset.selecting.point import stored_values
from raysubset.selecting.ready import from_checkpoint
from raysubset.verifying.examination import verify
from tests.learn.sources_on_disk import write_table
from tests.small_runs import Left, Watcher, assert_same_run

ROWS = 80
SMALL: dict[str, Any] = {
    "data.key_column": "name",
    "data.drop": ("note",),
    "data.categorical": ("zone",),
    "model.name": "mlp",
    "training.epochs": 4,
    "training.batch_size": 8,
    "selection.fraction": 0.3,
    "selection.select_every": 2,
    "selection.batch_size": 16,
    "resources.workers": 2,
}
WORDS = [
    "--local",
    "--model.name",
    "mlp",
    "--training.epochs",
    "2",
    "--selection.select_every",
    "1",
]


class _StopNow(Exception):
    pass


def people(seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    label = np.arange(ROWS) % 2
    return {
        "name": [f"p/{i:03d}" if i else "=1+2" for i in range(ROWS)],
        "age": draw.normal(40 + 10 * label, 5),
        "city": draw.choice(["Oslo", "<b>Rome", "Lima"], ROWS),
        "zone": draw.choice([1, 2, 10], ROWS),
        "note": [f"note {i}" for i in range(ROWS)],
        "label": np.where(label, "rich", "poor"),
    }


def ready(path: Path, begun: Path | None = None, **own: Any) -> Prepared:
    options = SMALL | {"data.path": str(path)} | {k.replace("__", "."): v for k, v in own.items()}
    return prepare(Experiment.of(nest(options)), begun=begun)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "people.csv", as_arrow(people()))


@pytest.fixture(scope="module")
def run(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table") / "run"
    run_local(made := ready(source), folder)
    write_report(folder, None)
    assert made.problem.transform is not None
    return folder


def stop_in_round(number: int) -> Callable[[int, str], None]:
    """Return what stops a run when a round is trained, before it is committed."""
    seen = list[str]()

    def stop(_: int, name: str) -> None:
        seen.append(name)
        if seen.count("done") > number:
            raise _StopNow

    return stop


def as_arrow(columns: dict[str, Any]) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_the_transform_in_the_run_is_the_one_that_it_trains_with(source: Path, run: Path):
    stored, mine = read_transform(run), ready(source).problem.transform
    assert stored is not None and mine is not None
    assert stored.columns == mine.columns
    assert [column.name for column in stored.columns] == ["age", "city", "zone"]
    np.testing.assert_array_equal(stored.normalize.mean, mine.normalize.mean)
    np.testing.assert_array_equal(stored.normalize.std, mine.normalize.std)
    told = json.loads((run / TRANSFORM).read_text())
    assert {"scikit-learn", "raysubset"} <= told["versions"].keys()
    assert told["columns"][2]["categories"] == ["1", "2", "10"]


def test_only_pool_rows_give_mean_and_scale(tmp_path: Path):
    columns = people()
    first = ready(write_table(tmp_path / "a.parquet", columns), seed=3)
    held = np.setdiff1d(np.arange(ROWS), first.problem.parts.pool.id_N)
    columns["age"][held] += 1e6
    again = ready(write_table(tmp_path / "b.parquet", columns), seed=3)
    before, after = first.problem.transform, again.problem.transform
    assert before is not None and after is not None and len(held)
    np.testing.assert_array_equal(before.normalize.mean, after.normalize.mean)
    np.testing.assert_array_equal(before.normalize.std, after.normalize.std)


def test_a_manifest_answers_for_the_transform(run: Path, tmp_path: Path):
    assert verify(run, gains=True).exit_code == 0
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / TRANSFORM).write_text((copy / TRANSFORM).read_text() + "\n")
    assert verify(copy).exit_code == 1
    (copy / TRANSFORM).unlink()
    assert verify(copy).exit_code == 1


def test_a_key_that_was_edited_in_a_choice_is_found(run: Path, tmp_path: Path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    folder = sorted((copy / "rounds").iterdir())[-1]
    path, manifest = folder / "selection.parquet", folder / "MANIFEST.json"
    before, parent = file_hash(path), file_hash(manifest)
    table = pq.read_table(path)
    keys = pa.array(["p/999", *table["key"].to_pylist()[1:]], pa.string())
    pq.write_table(table.set_column(table.num_columns - 1, "key", keys), path)
    manifest.write_text(manifest.read_text().replace(before, file_hash(path)))
    last = copy / "MANIFEST.json"
    last.write_text(last.read_text().replace(parent, file_hash(manifest)))
    found = verify(copy, gains=False).to_json()
    assert "has another key for id" in str(found)


def test_a_run_that_stopped_goes_on_with_columns_in_another_order(source: Path, tmp_path: Path):
    whole = tmp_path / "whole"
    run_local(ready(source), whole)

    cut, path = tmp_path / "cut", tmp_path / "people.csv"
    path.write_bytes(source.read_bytes())
    with pytest.raises(_StopNow):
        run_local(ready(path), cut, watch=Watcher(stop_in_round(1)))
    write_table(path, as_arrow(dict(reversed(people().items()))))
    run_local(ready(path, begun=cut), cut, resume=True)
    assert_same_run(Left(cut), Left(whole))
    for a, b in zip(Left(cut).rounds, Left(whole).rounds, strict=True):
        keys = [read_table(each / "selection.parquet")["key"].to_pylist() for each in (a, b)]
        assert keys[0] == keys[1]


def test_a_run_killed_before_its_transform_was_written_writes_it_when_it_goes_on(
    source: Path, tmp_path: Path
):
    cut = tmp_path / "cut"
    with pytest.raises(_StopNow):
        run_local(ready(source), cut, watch=Watcher(stop_in_round(0)))
    shutil.rmtree(cut / "rounds" / "0000", ignore_errors=True)
    (cut / TRANSFORM).unlink()
    run_local(ready(source), cut, resume=True)
    mine = ready(source).problem.transform
    stored = read_transform(cut)
    assert stored is not None and mine is not None and stored.columns == mine.columns
    assert verify(cut, gains=False).exit_code == 0


CHANGED = {
    "missing": (lambda t: t.drop_columns(["age"]), "column 'age' (number) is missing"),
    "new": (lambda t: t.append_column("x", t["zone"]), "column 'x' (number) is new"),
    "renamed": (
        lambda t: t.rename_columns({"age": "years"}),
        "column 'age' is missing and 'years' is new (renamed?)",
    ),
    "kind": (
        lambda t: t.set_column(1, "age", pa.array(["old"] * ROWS)),
        "column 'age' is category, but was number",
    ),
}


@pytest.mark.parametrize("change", CHANGED)
def test_changed_columns_are_refused_with_the_difference(
    change: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    alter, said = CHANGED[change]
    other = write_table(tmp_path / "other.parquet", alter(as_arrow(people())))
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    stored = yaml.safe_load((copy / "experiment.yaml").read_text())
    stored["data"]["path"] = str(other)
    (copy / "experiment.yaml").write_text(yaml.safe_dump(stored))
    before = sorted(p.name for p in copy.iterdir())
    assert call(["run", "--local", "--run-dir", str(copy), "--resume"])[0] == 2
    assert said in capsys.readouterr().err
    assert sorted(p.name for p in copy.iterdir()) == before
    out = tmp_path / "out"
    words = ["--data", str(other), "--run-dir", str(out), "--local"]
    weights = next(run.glob("rounds/*/checkpoint/*.safetensors"))
    for checkpoint in (run, weights):
        more = ["--model.name", "mlp"] if checkpoint == weights else []
        if checkpoint == weights:
            more += ["--data.key_column", "name", "--data.drop", "note"]
            more += ["--data.categorical", "zone"]
        assert call(["select", "--checkpoint", str(checkpoint), *words, *more])[0] == 2
        assert said in capsys.readouterr().err and not out.exists()


def test_a_runs_model_chooses_from_another_table_through_the_runs_own_transform(
    run: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    columns = people(seed=9)
    columns["city"][5] = "Kyiv"
    columns["age"] = columns["age"] * 7
    other = write_table(tmp_path / "other.parquet", dict(reversed(columns.items())))
    out = tmp_path / "out"
    words = ["select", "--checkpoint", str(run), "--data", str(other), "--run-dir", str(out)]
    assert call([*words, "--local"])[0] == 0
    told = capsys.readouterr().out
    assert "'Kyiv' (1 rows)" in told and "means and scales are the run's own" in told
    table = read_table(out / "selection.parquet")
    assert table["key"].to_pylist() == [columns["name"][i] for i in table["id"].to_pylist()]
    values = stored_values(str(run))
    values["data"]["path"] = str(other)
    chosen = from_checkpoint(Experiment.of(values), str(run)).problem
    stored = read_transform(run)
    assert stored is not None and chosen.parts.pool.columns == stored.columns
    np.testing.assert_array_equal(chosen.normalize.mean, stored.normalize.mean)
    np.testing.assert_array_equal(chosen.normalize.std, stored.normalize.std)
    # the same rows under the run's own path go in as they always did
    same = ["select", "--checkpoint", str(run), "--run-dir", str(tmp_path / "same"), "--local"]
    assert call(same)[0] == 0 and "the run's own" not in capsys.readouterr().out
    columns["label"] = np.where(columns["label"] == "rich", "yes", "no")
    write_table(other, columns)
    words[-1] = str(tmp_path / "third")
    assert call([*words, "--local"])[0] == 2
    assert "has the classes no, yes, but the model" in capsys.readouterr().err


def test_a_run_of_an_older_version_goes_on_and_is_whole(source: Path, tmp_path: Path):
    """Without a transform, and without the fields and keys that came later."""
    own = {"data__key_column": None, "data__drop": ("note", "name")}
    old = tmp_path / "old"
    with pytest.raises(_StopNow):
        run_local(ready(source, **own), old, watch=Watcher(stop_in_round(1)))
    (old / TRANSFORM).unlink()
    manifest = old / "rounds" / "0000" / "MANIFEST.json"
    told = json.loads(manifest.read_text())
    del told["run"][TRANSFORM]
    write_json(manifest, told)
    run_local(ready(source, begun=old, **own), old, resume=True)
    assert not (old / TRANSFORM).exists()
    assert verify(old, gains=True).exit_code == 0
    run_local(ready(source, **own), tmp_path / "new")
    assert_same_run(Left(old), Left(tmp_path / "new"))


def test_fields_that_came_later_change_no_digest_where_they_are_unset():
    plain = Experiment()
    values = plain.deciding
    later = {
        "data": "key_column drop categorical split hub_config hub_revision layout labels_key",
        "model": "adapter inputs frozen",
    }
    for section, names in later.items():
        for name in names.split():
            del values[section][name]
    text = json.dumps(values, sort_keys=True)
    assert plain.digest == hashlib.sha256(text.encode()).hexdigest()
    for option, value in (("data.drop", "a"), ("model.frozen", True), ("model.inputs", "raw")):
        assert Experiment.of(nest({option: value})).digest != plain.digest


def test_names_of_columns_are_read_alike_from_words_and_lists():
    wanted = ("a", '"b,c"', "d")
    for given in ('a, "b,c",d', ["a", '"b,c"', "d"], ['a,"b,c"', "d", "a"], wanted):
        experiment = Experiment.of({"data": {"drop": given}})
        assert experiment.data.drop == wanted
        assert Experiment.of(yaml.safe_load(experiment.to_yaml())) == experiment


def test_every_choice_report_and_export_tells_the_persons_own_keys(run: Path, tmp_path: Path):
    names = people()["name"]
    for folder in Left(run).rounds:
        table = read_table(folder / "selection.parquet")
        assert table["key"].to_pylist() == [names[i] for i in table["id"].to_pylist()]
    chosen = read_table(Left(run).rounds[-1] / "selection.parquet")["id"].to_pylist()
    told = json.loads(export(run, "json", output=str(tmp_path / "x.json")).read_text())
    assert (told["ids"], told["keys"]) == (chosen, [names[i] for i in chosen])
    table = read_table(export(run, "parquet", output=str(tmp_path / "x.parquet")))
    assert table["key"].to_pylist() == told["keys"]
    with open(export(run, "csv", output=str(tmp_path / "x.csv")), newline="") as file:
        cells = [row["key"] for row in csv.DictReader(file)]
    assert cells == [f"'{k}" if k.startswith("=") else k for k in told["keys"]]
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    named = [k for k in names if html.escape(k) in page]
    assert named and all(k.replace("=", "\\=") in text or k in text for k in named)


def test_ids_that_an_older_version_exported_without_keys_are_whole(run: Path, tmp_path: Path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = export(copy, "json")
    assert verify(copy, gains=False).exit_code == 0
    told = json.loads(path.read_text())
    del told["keys"]
    path.write_text(json.dumps(told) + "\n")
    assert verify(copy, gains=False).exit_code == 0
    told["ids"][0] += 1
    path.write_text(json.dumps(told) + "\n")
    assert verify(copy, gains=False).exit_code == 1


def test_explain_takes_a_key_and_says_what_was_meant(run: Path, capsys: pytest.CaptureFixture[str]):
    by_id, by_key = explain(run, 7), explain(run, key="p/007")
    assert by_id == by_key and by_id.key == "p/007"
    assert call(["explain", str(run), "--key", "p/007"])[0] == 0
    assert capsys.readouterr().out.startswith("id 7 (p/007): label rich")
    for asked, near in (("p/0007", "p/007"), ("P/011", "p/011"), ("data/p/x/042", "p/042")):
        assert call(["explain", str(run), "--key", asked])[0] == 2
        assert f"'{near}'" in capsys.readouterr().err.partition("did you mean")[2]
    with pytest.raises(ConfigError, match=r"names no row of this run; Its 80 keys look like"):
        explain(run, key="@@@@")
    for words in ([], ["--id", "7", "--key", "p/007"]):
        assert call(["explain", str(run), *words])[0] == 2
        assert "--id NUMBER or --key KEY" in capsys.readouterr().err


def test_a_key_of_several_rows_is_refused_with_their_ids(tmp_path: Path, run: Path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    parts = read_table(copy / "parts.parquet")
    twins = [
        "same" if part == "pool" else key
        for part, key in zip(parts["part"].to_pylist(), parts["key"].to_pylist(), strict=True)
    ]
    at = parts.column_names.index("key")
    pq.write_table(parts.set_column(at, "key", pa.array(twins)), copy / "parts.parquet")
    with pytest.raises(ConfigError, match=r"--key=same names \d+ rows of the pool \(ids .*--id"):
        explain(copy, key="same")
    bare = pa.array([None] * len(twins), pa.string())
    pq.write_table(parts.set_column(at, "key", bare), copy / "parts.parquet")
    with pytest.raises(ConfigError, match=r"has no keys, its rows are known by their number"):
        explain(copy, key="same")


def test_categories_of_held_out_rows_alone_are_told(tmp_path: Path):
    columns = people()
    pool = ready(write_table(tmp_path / "a.parquet", columns)).problem.parts.pool.id_N
    held = np.setdiff1d(np.arange(ROWS), pool)
    columns["zone"][held[:3]] = 77
    notes = ready(write_table(tmp_path / "b.parquet", columns)).notes
    told = [note for note in notes if "no pool row has" in note]
    assert told and all("column 'zone'" in note and "'77'" in note for note in told)
    assert sum(int(note.split(": ")[1].split()[0]) for note in told) == 3


BAD = {
    "text that names": (lambda t: t, [], "'name' has 80 different values"),
    "a date": (
        lambda t: t.append_column("day", pa.array([0] * ROWS, pa.date32())),
        ["--data.drop", "name,note"],
        "'day' has type date32",
    ),
    "key collision": (
        lambda t: t,
        ["--data.key_column", "city", "--data.drop", "name,note"],
        "keys to more than one row",
    ),
    "missing label": (
        lambda t: t.set_column(5, "label", pa.array([None, *["x", "y"] * 39, "x"])),
        ["--data.drop", "name,note"],
        "1 of 80 labels are missing",
    ),
    "no such column": (lambda t: t, ["--data.drop", "nmae"], "did you mean 'name'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_table_that_cannot_be_learned_from_ends_with_2_before_any_work(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    alter, options, said = BAD[case]
    path = write_table(tmp_path / "x.parquet", alter(as_arrow(people())))
    out = tmp_path / "out"
    words = ["run", *WORDS, "--data", str(path), "--run-dir", str(out), *options]
    assert call(words)[0] == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told and not out.exists()


def test_unseen_categories_are_named_at_the_start_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    columns = {**people(), "city": np.array(["Kyiv", *people()["city"][1:]])}
    write_table(tmp_path / "train.parquet", people())
    write_table(tmp_path / "test.parquet", columns)
    words = ["run", *WORDS, "--data", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    words += ["--data.key_column", "name", "--data.drop", "note", "--data.categorical", "zone"]
    assert call(words)[0] == 0
    note = "test: column 'city': 1 of 80 rows hold categories that no train row has: 'Kyiv'"
    assert note in capsys.readouterr().out
    assert "no train row has" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["adult", "letter", "dna"])
def test_one_command_compares_glister_with_controls_on_real_tables(
    name: str, shared_data: Path, tmp_path: Path
):
    data, out = shared_data / "tabular" / name, tmp_path / "run"
    words = ["compare", *WORDS, "--data", str(data), "--data.limit", "300", "--fraction", "0.2"]
    assert call([*words, "--run-dir", str(out)])[0] == 0
    page = (out / "report.html").read_text()
    for row in ("glister", "adaptive-random", "full-compressed"):
        assert row in page
        stored = read_transform(out / row)
        assert (
            stored is not None
            and stored.normalize.mean.numel()
            == {
                "adult": 14,
                "letter": 16,
                "dna": 180,
            }[name]
        )
        assert json.loads((out / row / "result.json").read_text())["strategy"] == row


def test_what_looks_like_a_mistake_is_told_or_refused_with_the_option_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    columns = {"id": np.arange(100) + 10**5, "size": np.arange(100) % 7, "label": ["a", "b"] * 50}
    data = write_table(tmp_path / "x.csv", columns)
    words = ["run", "--local", "--data", str(data), "--epochs", "11", "--run-dir"]
    assert call([*words, str(tmp_path / "run"), "--model.frozen", "true"])[0] == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "column 'id' has another whole number in each of 100 rows" in out
    assert "--data.drop id" in out and "'size'" not in out
    assert "keeps the fresh, random weights of auto" in out
    for more, told in (
        (["--data", str(data), "--data.label_column", "id"], "100 classes in 100 rows"),
        (["--data.label_column", "label"], "digits has no columns"),
        (["--data", str(data), "--epochs", "10"], "raise epochs to 11 or more"),
    ):
        assert call(["run", "--local", *more, "--run-dir", str(tmp_path / "y")])[0] == 2
        assert told in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "y").exists()
