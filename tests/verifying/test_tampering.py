"""A ledger that somebody edited: what the hashes tell, and what only recomputation does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysubset.errors import RunFolderError
from raysubset.files import json_bytes
from raysubset.local_run import run_local
from tests.small_runs import BLOCKS, Left, assert_same_run, play, prepared
from tests.verifying.runs import copied, damaged, digest, failures, reseal


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**BLOCKS), tmp_path_factory.mktemp("left") / "run")[1]


@pytest.fixture
def run(left: Left, tmp_path: Path) -> Path:
    return copied(left.path, tmp_path / "run")


def edit(path: Path, **values: Any) -> None:
    path.write_bytes(json_bytes(json.loads(path.read_bytes()) | values))


def rewrite(path: Path, **columns: Any) -> None:
    """Write a table anew with other columns, as a valid file."""
    table = pq.read_table(path)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values, table[name].type))
    pq.write_table(table, path, write_page_checksum=True)


def test_a_selection_whose_hash_was_made_anew_breaks_the_chain_behind_it(run: Path):
    folder = run / "rounds" / "0001"
    rewrite(folder / "selection.parquet", weight=[2.0] * 36)
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    files = manifest["files"] | {"selection.parquet": digest(folder / "selection.parquet")}
    edit(folder / "MANIFEST.json", files=files)
    assert "rounds/0002/MANIFEST.json" in damaged(run)
    (finding,) = [f for f in failures(run) if f.name == "manifests"]
    assert "rounds/0001/MANIFEST.json" in finding.found


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("key", ["experiment", "data", "parent", "round", "more"])
def test_an_edited_manifest_is_named_by_itself_or_by_the_next(run: Path, number: int, key: str):
    path = run / "rounds" / f"{number:04d}" / "MANIFEST.json"
    edit(path, **{key: 7 if key == "round" else "f" * 64})
    after = f"rounds/{number + 1:04d}/MANIFEST.json" if number < 2 else "MANIFEST.json"
    assert {str(path.relative_to(run)), after} & damaged(run)
    assert after in damaged(run), "what comes after does not continue it"


def test_a_round_that_was_removed_is_missed(run: Path):
    for number, expected in ((1, "rounds/0001/MANIFEST.json"), (2, "rounds/0002/MANIFEST.json")):
        folder = run / "rounds" / f"{number:04d}"
        shutil.move(folder, run.parent / "away")
        assert expected in damaged(run)
        shutil.move(run.parent / "away", folder)
    assert not failures(run)


def test_rounds_in_another_order_are_noticed(run: Path):
    rounds = run / "rounds"
    (rounds / "0001").rename(rounds / "x")
    (rounds / "0002").rename(rounds / "0001")
    (rounds / "x").rename(rounds / "0002")
    assert {"rounds/0001/MANIFEST.json", "rounds/0002/MANIFEST.json"} <= damaged(run)


def test_a_round_of_another_run_does_not_continue_this_one(run: Path, tmp_path: Path):
    other = play(prepared(**BLOCKS, seed=1), tmp_path / "other")[1]
    shutil.rmtree(run / "rounds" / "0001")
    shutil.copytree(other.rounds[1], run / "rounds" / "0001")
    assert "rounds/0001/MANIFEST.json" in damaged(run)


def test_an_end_that_continues_no_round_that_can_be_read_is_told_so(run: Path):
    (run / "rounds" / "0000" / "MANIFEST.json").write_text("{}")
    (finding,) = [f for f in failures(run) if f.name == "manifests"]
    assert any(
        each["file"] == "MANIFEST.json" and "does not continue nothing" in each["what"]
        for each in finding.facts["differences"]
    )


def test_an_edited_figure_is_named_with_what_it_was(run: Path):
    path = run / "history.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    last = json.loads(lines[-1])
    before = last["validation_accuracy"]
    lines[-1] = json.dumps(last | {"validation_accuracy": 0.999}) + "\n"
    path.write_text("".join(lines))
    (finding,) = failures(run)
    assert finding.name == "history"
    assert f"expected {before}" in finding.found and "found 0.999" in finding.found


@pytest.mark.parametrize("key", ["test_accuracy", "validation_accuracy", "visits", "seed"])
def test_an_edited_result_is_named_and_made_again(run: Path, left: Left, key: str):
    edit(run / "result.json", **{key: 1})
    assert damaged(run) == {"result.json"}
    run_local(prepared(**BLOCKS), run, resume=True)
    assert_same_run(Left(run), left)
    assert not failures(run)


def test_a_result_that_was_sealed_anew_still_has_to_agree_with_the_rounds(run: Path):
    edit(run / "result.json", validation_accuracy=0.999)
    reseal(run)
    (finding,) = failures(run)
    assert finding.name == "result" and "validation_accuracy" in finding.found


def test_options_that_were_edited_are_not_resumed_with(run: Path):
    path = run / "experiment.yaml"
    path.write_text(path.read_text().replace("lr: 0.05", "lr: 0.06"))
    assert damaged(run) == {"experiment.yaml"}
    changed = prepared(**BLOCKS, training__lr=0.06)  # as --resume reads them from there
    with pytest.raises(RunFolderError, match=r"experiment\.yaml is not what the first round"):
        run_local(changed, run, resume=True)


def test_a_file_that_nobody_wrote_is_found_wherever_it_lies(run: Path):
    names = ("rounds/0001/notes.txt", "x.py", "rounds/0009/weights.pt", "tensorboard/evil.pkl")
    for name in names:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("")
        assert damaged(run) == {name}
        (run / name).unlink()


# ---- forged whole: every hash is right


def test_a_forged_gain_is_recomputed_from_the_checkpoint(run: Path):
    path = run / "rounds" / "0002" / "selection.parquet"
    gains = pq.read_table(path)["gain"].to_numpy().copy()
    gains[3] *= 1.001
    rewrite(path, gain=gains)
    reseal(run)
    assert not failures(run), "the hashes alone do not tell"
    (finding,) = failures(run, gains=True)
    assert finding.name == "gains" and "pick 3" in finding.found and "0002" in finding.found


@pytest.mark.parametrize("options", [{}, {"selection__glister__picks": "exact"}])
def test_a_forged_pick_is_recomputed_from_the_checkpoint(
    left: Left, tmp_path: Path, options: dict[str, Any]
):
    """A worse example of the same class, with a gain that is its own."""
    run = tmp_path / "run"
    play(prepared(**BLOCKS | options), run)
    path = run / "rounds" / "0002" / "selection.parquet"
    table = pq.read_table(path)
    ids, labels = table["id"].to_numpy().copy(), table["label"].to_numpy()
    last = np.flatnonzero(labels == labels[0])[-1]
    ids[0], ids[last] = ids[last], ids[0]
    gains = table["gain"].to_numpy().copy()
    gains[0], gains[last] = gains[last], gains[0]
    rewrite(path, id=ids, gain=gains)
    reseal(run)
    assert not failures(run)
    (finding,) = failures(run, gains=True)
    assert finding.name == "gains" and "pick 0" in finding.found


def test_a_forged_random_choice_is_drawn_again(run: Path):
    path = run / "rounds" / "0000" / "selection.parquet"
    table = pq.read_table(path)
    ids, labels = table["id"].to_numpy().copy(), table["label"].to_numpy().copy()
    ids[[0, 1]], labels[[0, 1]] = ids[[1, 0]], labels[[1, 0]]
    rewrite(path, id=ids, label=labels)
    reseal(run)
    assert not failures(run)
    (finding,) = failures(run, gains=True)
    assert "rounds/0000/selection.parquet is not the choice of this seed and data" in finding.found


NONSENSE: dict[str, dict[str, Any]] = {
    "chooses an id twice": {"id": lambda ids: [ids[1], *ids[1:]]},
    "not in the pool": {"id": lambda ids: [10**6, *ids[1:]]},
    "another label": {"label": lambda labels: [1 - labels[0] % 2, *labels[1:]]},
    "order of choice": {"rank": lambda ranks: [1, 0, *ranks[2:]]},
    "weights that are not finite": {"weight": lambda weights: [float("inf"), *weights[1:]]},
    "gains that are not finite": {"gain": lambda gains: [float("nan"), *gains[1:]]},
    "another round": {"round": lambda rounds: [0, *rounds[1:]]},
    "other epochs": {"epoch": lambda epochs: [9] * len(epochs)},
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_forged_table_that_no_strategy_can_choose_is_refused_without_data(run: Path, what: str):
    path = run / "rounds" / "0002" / "selection.parquet"
    table = pq.read_table(path)
    ((column, change),) = NONSENSE[what].items()
    rewrite(path, **{column: change(table[column].to_pylist())})
    reseal(run)
    found = [f for f in failures(run) if f.name == "choices"]
    assert len(found) == 1 and what in found[0].found
