"""Whatever bytes lie in a run folder, it is opened whole, refused in a sentence, or begun again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.errors import RaySubsetError, RunFolderError
from raysubset.files import json_bytes
from raysubset.learn.partial import Open, partial_of
from raysubset.learn.weights import Weights
from raysubset.ledger import Ledger
from raysubset.records import read_history, read_selection, read_table
from raysubset.unfinished import read_begun
from raysubset.verifying.examination import verify
from tests.bare_ledgers import POOL, Folder, a_round, commit, quick_and_closed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
BYTES = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())
END = ("result.json", "MANIFEST.json")
FILES = (
    *("rounds/0001/MANIFEST.json", "rounds/0000/MANIFEST.json", "history.jsonl", *END),
    *("experiment.yaml", "fingerprint.json", "rounds/0001/metrics.json"),
    *("rounds/0001/selection.parquet", "rounds/0001/observations.safetensors"),
    *("rounds/0001/checkpoint/weights.safetensors", "rounds/0001/checkpoint/trainer.pt"),
    *("rounds/0002/partial/round.json", "rounds/0002/partial/selection.parquet"),
)


@pytest.fixture(autouse=True)
def _quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    yield from quick_and_closed(monkeypatch)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """By whether it is finished: two rounds are committed; and a third one is begun, or the end."""
    home = tmp_path_factory.mktemp("runs")
    for finished in (True, False):
        folder = Folder(home / str(finished)).with_rounds(2, finished=finished)
        if not finished:
            ledger = folder.open(resume=True)
            ledger.begin(a_round(2).phase, a_round(2).selection)
            ledger.close()
    return {finished: home / str(finished) for finished in (True, False)}


def copy_of(runs: dict[bool, Path], name: str, home: Path) -> Folder:
    """Return a copy of the run that has this file."""
    shutil.copytree(runs[name in END], home / "run")
    return Folder(home / "run")


def use(ledger: Ledger) -> None:
    """Read all that a resumed run reads, and hold it to what was written."""
    done, weights = ledger.done, ledger.weights
    assert done <= 2 and (done == 0) == (weights is None)
    if isinstance(weights, Weights):
        assert weights.state()["w"].tolist() == [float(done - 1)] * 3
        assert ledger.observations(POOL).visits_N.tolist() == [done - 1] * POOL
    assert ledger.result in (None, {"accuracy": 0.5})
    choice = ledger.begun(a_round(done).phase)
    if choice is not None:
        assert choice.ids.tolist() == a_round(done).selection.ids.tolist()
        assert choice.fraction == 0.25 and choice.num_pool == POOL
        assert choice.weights is None and dict(choice.facts) == {}
    kept = {(line["kind"], line["round"]) for line in ledger.history()}
    assert kept == {(kind, n) for n in range(done) for kind in ("epoch", "round")}
    told = [line["validation_accuracy"] for line in ledger.history() if line["kind"] == "round"]
    assert told == [n / 10 for n in range(done)]


@settings(max_examples=60)
@given(st.sampled_from(FILES), BYTES, st.data())
def test_f17_a_ledger_with_any_bytes_in_any_file_loads_no_damage(
    runs: dict[bool, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    content: bytes,
    data: st.DataObject,
):
    folder = copy_of(runs, name, tmp_path_factory.mktemp("f"))
    path = folder.path / name
    whole = path.read_bytes()
    if data.draw(st.booleans(), label="damaged in place"):
        at = data.draw(st.integers(0, len(whole)), label="at")
        content = whole[:at] + content[:5] + whole[at + data.draw(st.integers(0, 5)) :]
    path.write_bytes(content)
    assert content == whole or verify(str(folder.path), gains=False).exit_code == 1
    with suppress(RaySubsetError):  # refused in a sentence is as good as begun again
        ledger = folder.open(resume=True)
        use(ledger)
        commit(ledger, ledger.done)
        ledger.close()


@settings(max_examples=40)
@given(st.sampled_from(["rounds/0000/MANIFEST.json", "MANIFEST.json"]), JSON, st.data())
def test_f17_a_manifest_with_any_values_is_refused_or_another_name_for_the_same(
    runs: dict[bool, Path],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    value: Any,
    data: st.DataObject,
):
    """Well-formed: one value of a real manifest is another."""
    folder = copy_of(runs, name, tmp_path_factory.mktemp("f"))
    path = folder.path / name
    manifest = json.loads(path.read_bytes())
    key = data.draw(st.sampled_from(sorted(manifest)))
    if key == "files" and data.draw(st.booleans()):
        manifest[key][data.draw(st.sampled_from(sorted(manifest[key])))] = value
    else:
        manifest[key] = value
    path.write_bytes(json_bytes(manifest))
    assert verify(str(folder.path), gains=False).exit_code == 1
    with suppress(RaySubsetError):
        ledger = folder.open(resume=True)
        use(ledger)
        ledger.close()


@settings(max_examples=60)
@given(JSON, st.data())
def test_f17_kept_epochs_with_any_values_are_passed_over(
    tmp_path_factory: pytest.TempPathFactory, value: Any, data: st.DataObject
):
    told: dict[str, Any] = {
        "key": "k",
        "epochs": 1,
        "state": "0001-a",
        "files": {},
        "seconds": 1.0,
        "sha256": "0" * 64,
    }
    folder = tmp_path_factory.mktemp("p")
    told[data.draw(st.sampled_from(sorted(told)))] = value
    for name in ("MANIFEST.json", "round.json"):
        (folder / name).write_bytes(json.dumps(told).encode())
    assert partial_of(Open(folder=str(folder), key="k", every_s=0)) is None
    assert read_begun(folder, {"round": 0}) is None


@given(st.lists(BYTES | st.just(b'{"kind": "round", "round": 1}'), max_size=6))
def test_f17_a_history_of_any_lines_is_read_as_far_as_it_is_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
):
    folder = tmp_path_factory.mktemp("h")
    (folder / "history.jsonl").write_bytes(b"\n".join(lines))
    for line in read_history(folder):
        assert isinstance(line["round"], int) and isinstance(line["kind"], str)


# ---- Parquet


COLUMNS = {"round": 0, "epoch": 0, "rank": 0, "id": 0, "label": 0, "gain": 0.0, "weight": 1.0}
CELLS = st.none() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=3)


@settings(max_examples=60)
@given(st.binary(max_size=300), st.booleans())
def test_f17_any_bytes_are_a_table_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, framed: bool
):
    path = tmp_path_factory.mktemp("t") / "selection.parquet"
    path.write_bytes(b"PAR1" + content + b"PAR1" if framed else content)
    with pytest.raises(RunFolderError, match=r"selection\.parquet cannot be read"):
        read_table(path)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from([*COLUMNS, "x"]), CELLS, max_size=8),
    st.sampled_from([0, 1, 3]),
    st.booleans(),
)
def test_f17_any_table_is_a_choice_or_an_error_that_names_the_file(
    tmp_path_factory: pytest.TempPathFactory, cells: dict[str, Any], rows: int, whole: bool
):
    path = tmp_path_factory.mktemp("t") / "selection.parquet"
    columns = {**COLUMNS, **cells} if whole else cells
    table = pa.table({name: [value] * rows for name, value in columns.items()})
    pq.write_table(table, path, write_page_checksum=True)
    try:
        choice = read_selection(path, num_pool=10, num_classes=2, round_=1)
    except RunFolderError as error:
        assert str(path) in str(error)
        return
    assert len(choice.ids) == len(choice.gains) == len(choice.labels) == rows
    assert choice.ids.dtype == "int64" and choice.gains.dtype == "float32"
