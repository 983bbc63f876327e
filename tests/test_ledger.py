from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysubset import ledger as ledger_module
from raysubset.errors import RunFolderError
from raysubset.experiment import Experiment
from raysubset.learn.checkpoint import Files, file_hash
from raysubset.ledger import Ledger
from raysubset.records import read_history, read_table, write_selection
from tests.bare_ledgers import (
    ENVIRONMENT,
    IDENTITY,
    Folder,
    a_round,
    commit,
    holds,
    quick_and_closed,
    saver,
)
from tests.small_runs import experiment


@pytest.fixture(autouse=True)
def _quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    yield from quick_and_closed(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


# ---- what is written


def test_a_round_is_done_when_its_manifest_is_there(folder: Folder):
    ledger = folder.open()
    save, saved = saver(ledger, 0), Event()

    def late() -> tuple[Files, float]:
        assert saved.wait(60)
        return save()

    ledger.append(a_round(0), late)
    assert ledger.done == 0
    assert ledger.weights is None
    assert not list(folder.path.rglob("MANIFEST.json")) and not ledger.history()
    saved.set()
    ledger.settle()
    assert (folder.round(0) / "MANIFEST.json").is_file()
    holds(ledger, 1)


def test_the_manifest_holds_the_hash_of_every_file_and_of_the_manifest_before(tmp_path: Path):
    folder = Folder(tmp_path / "run", keep=9).with_rounds(3)
    parent = ""
    for number in range(3):
        manifest = json.loads((folder.round(number) / "MANIFEST.json").read_text())
        there = {
            str(p.relative_to(folder.round(number))): file_hash(p)
            for p in folder.round(number).rglob("*")
            if p.is_file() and p.name != "MANIFEST.json"
        }
        assert manifest["files"] == there and len(there) == 5
        assert (manifest["round"], manifest["parent"]) == (number, parent)
        assert manifest["data"] == IDENTITY["data"]
        parent = file_hash(folder.round(number) / "MANIFEST.json")


def test_a_new_run_records_its_config_data_and_environment(folder: Folder):
    folder.open().close()
    assert Experiment.of(Experiment.read(folder.path / "experiment.yaml")) == experiment(
        resources__keep_checkpoints=2
    )
    assert json.loads((folder.path / "fingerprint.json").read_text()) == IDENTITY
    assert json.loads((folder.path / "environment.json").read_text()) == ENVIRONMENT


def test_the_selection_is_written_with_its_types_and_values(tmp_path: Path):
    chosen = replace(
        a_round(7).selection,
        ids=np.array([2**40, 3, 9, 1], dtype=np.int64),
        labels=np.array([1, 0, 1, 0]),
        gains=np.array([0.5, np.nan, -1.0, 0.25], dtype=np.float32),
        weights=np.array([1.5, 1, 2, 0.5], dtype=np.float32),
        epochs=2,
    )
    phase = replace(a_round(7).phase, epochs=range(10, 12))
    write_selection(tmp_path / "selection.parquet", chosen, phase)
    table = read_table(tmp_path / "selection.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "round": "int32",
        "epoch": "int32",
        "rank": "int64",
        "id": "int64",
        "label": "int64",
        "gain": "float",
        "weight": "float",
    }
    rows = table.to_pydict()
    assert rows["round"] == [7] * 4
    assert rows["epoch"] == [10, 10, 11, 11]
    assert rows["rank"] == [0, 1, 0, 1]
    assert rows["id"] == [2**40, 3, 9, 1]
    assert rows["label"] == [1, 0, 1, 0]
    assert rows["weight"] == [1.5, 1, 2, 0.5]
    np.testing.assert_array_equal(table["gain"].to_numpy(), chosen.gains)


def test_a_selection_without_weights_weighs_one(tmp_path: Path):
    write_selection(tmp_path / "selection.parquet", a_round(0).selection, a_round(0).phase)
    assert read_table(tmp_path / "selection.parquet")["weight"].to_pylist() == [1.0] * 5


def test_f17_a_flipped_bit_in_the_ids_is_found_by_the_page_checksum(tmp_path: Path):
    path = tmp_path / "selection.parquet"
    write_selection(path, a_round(0).selection, a_round(0).phase)
    meta = pq.read_metadata(path).row_group(0).column(3)
    assert meta.path_in_schema == "id"
    content = bytearray(path.read_bytes())
    content[meta.dictionary_page_offset + meta.total_compressed_size - 1] ^= 4
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"selection\.parquet cannot be read"):
        read_table(path)


def test_history_has_a_line_per_epoch_and_round_and_no_nan(folder: Folder):
    folder.with_rounds(2)
    lines = read_history(folder.path)
    assert [(line["kind"], line["round"]) for line in lines] == [
        *(("epoch", 0), ("epoch", 0), ("round", 0)),
        *(("epoch", 1), ("epoch", 1), ("round", 1)),
    ]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [0, 1, 2, 3]
    assert lines[2]["share"] is None and lines[2]["strategy"] == "glister"
    assert "NaN" not in (folder.path / "history.jsonl").read_text()
    assert lines[5]["seconds_checkpoint_write"] > 0


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_the_newest_checkpoints_are_kept_and_every_selection(tmp_path: Path, keep: int):
    folder = Folder(tmp_path / "run", keep=keep).with_rounds(5)
    for number in range(5):
        kept = number >= 5 - keep
        assert (folder.round(number) / "checkpoint").is_dir() == kept
        assert (folder.round(number) / "observations.safetensors").is_file() == kept
        assert (folder.round(number) / "selection.parquet").is_file()
        assert (folder.round(number) / "MANIFEST.json").is_file()
    holds(folder.open(resume=True), 5)


# ---- who may open it


def test_a_used_folder_without_resume_is_refused_and_left_as_it_is(folder: Folder):
    before = folder.with_rounds(2, finished=True).files()
    with pytest.raises(RunFolderError, match="is used; add --resume") as caught:
        folder.open()
    assert str(folder.path) in str(caught.value) and "differs" not in str(caught.value)
    assert folder.files() == before
    with pytest.raises(RunFolderError, match="is used; add --resume") as caught:
        folder.open(changed=experiment(seed=5))
    assert "seed: 0 -> 5" in str(caught.value)
    assert folder.files() == before


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"training__lr": 0.5}, "training.lr: 0.05 -> 0.5"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"selection__strategy": "random"}, "selection.strategy: glister -> random"),
        ({"resources__workers": 3}, "resources.workers: 2 -> 3"),
        ({"resources__threads_per_rank": 2}, "resources.threads_per_rank: 1 -> 2"),
        ({"resources__device": "cpu"}, "resources.device: auto -> cpu"),
        ({"selection__glister__picks": "block(3)"}, "selection.glister.picks: exact -> block(3)"),
    ],
)
def test_f26_a_name_reused_by_another_experiment_is_refused_with_the_difference(
    folder: Folder, options: dict[str, Any], shown: str
):
    before = folder.with_rounds(1).files()
    with pytest.raises(RunFolderError) as caught:
        folder.open(resume=True, changed=experiment(**options))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("belongs to another run, so it cannot be resumed:")
    assert lines[1:-1] == [f"  {shown}"]
    assert folder.files() == before


@pytest.mark.parametrize(
    "options",
    [
        {"resources__scorers": 7},
        {"resources__placement": "crew"},
        {"resources__start_timeout_s": 5.0},
        {"resources__call_timeout_s": 5.0},
        {"resources__max_failures": 0},
        {"resources__keep_checkpoints": 5},
    ],
)
def test_where_a_run_runs_may_change_on_resume(folder: Folder, options: dict[str, Any]):
    folder.with_rounds(2)
    ledger = folder.open(resume=True, changed=experiment(**options))
    holds(ledger, 2)
    commit(ledger, 2)
    holds(ledger, 3)
    ledger.close()
    holds(folder.open(resume=True), 3)


def test_f18_other_data_are_refused_with_the_difference(folder: Folder):
    folder.with_rounds(1)
    with pytest.raises(RunFolderError) as caught:
        folder.open(resume=True, data="e" * 64, parts={"pool": 21})
    message = str(caught.value)
    assert f"data data: {'d' * 64} -> {'e' * 64}" in message
    assert "data parts: {'pool': 20} -> {'pool': 21}" in message
    assert "data name" not in message
    holds(folder.open(resume=True), 1)


def test_a_folder_of_something_else_is_refused_and_left_as_it_is(folder: Folder):
    folder.path.mkdir()
    (folder.path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="not empty and holds no run"):
            folder.open(resume=resume)
    assert os.listdir(folder.path) == ["thesis.tex"]


def test_a_folder_with_rounds_but_no_config_is_not_overwritten(folder: Folder):
    folder.with_rounds(1)
    (folder.path / "experiment.yaml").unlink()
    before = folder.files()
    with pytest.raises(RunFolderError, match="holds no run"):
        folder.open(resume=True)
    assert folder.files() == before


@pytest.mark.parametrize("below", ["", "run", "a/b/c"])
def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path: Path, below: str):
    """A file where a folder should be: no permission stops root, this does."""
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / below
    for act in (lambda: Folder(path).open(), lambda: checked(path)):
        with pytest.raises(RunFolderError, match=r"cannot be written \(.+\); choose another") as e:
            act()
        assert str(path) in str(e.value)
    assert (tmp_path / "file").read_text() == "" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_by_name(tmp_path: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(RunFolderError, match=r"cannot be written \(Permission denied\)"):
        Folder(tmp_path / "locked" / "run").open()


def checked(path: Path, resume: bool = False) -> None:
    Ledger(path, experiment(resources__keep_checkpoints=2), IDENTITY).check(resume=resume)


def test_a_check_refuses_what_opening_would_and_leaves_nothing(folder: Folder, tmp_path: Path):
    checked(folder.path)
    assert os.listdir(tmp_path) == []
    before = folder.with_rounds(1).files()
    with pytest.raises(RunFolderError, match="is used"):
        checked(folder.path)
    checked(folder.path, resume=True)
    assert folder.files() == before


def test_f26_a_second_writer_is_refused_by_the_name_of_the_first(folder: Folder):
    first = folder.with_rounds(1).open(resume=True)
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="is in use by process") as caught:
            folder.open(resume=resume)
        assert f"process {os.getpid()} on {os.uname().nodename}" in str(caught.value)
    commit(first, 1)
    first.close()
    second = folder.open(resume=True)
    holds(second, 2)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_f26_a_writer_in_another_process_keeps_the_folder_until_it_dies(folder: Folder):
    folder.with_rounds(1)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=hold, args=(folder, there))
    process.start()
    try:
        assert here.recv() == "held"
        with pytest.raises(RunFolderError, match=f"in use by process {process.pid} on"):
            folder.open(resume=True)
    finally:
        process.kill()
        process.join()
    holds(folder.open(resume=True), 1)


def hold(folder: Folder, pipe: Any) -> None:
    ledger = folder.open(resume=True)
    pipe.send("held")
    pipe.recv()
    ledger.close()


@pytest.mark.parametrize("how", ["deleted", "of another machine"])
def test_f26_a_stale_writer_whose_folder_was_taken_over_writes_nothing_more(
    folder: Folder, how: str
):
    """Where no lock of the system holds the second one off: it is deleted, or does not reach it."""
    stale, lock = folder.with_rounds(1).open(resume=True), folder.path / ".lock"
    if how == "deleted":
        lock.unlink()
        fresh = folder.open(resume=True)
        commit(fresh, 1)
        fresh.close()
        who = "another process"
    else:
        lock.write_text(who := "process 7 on far")
    before = folder.files()
    for write in (
        lambda: commit(stale, 1),
        lambda: stale.begin(a_round(1).phase, a_round(1).selection),
        lambda: stale.finish({"accuracy": 0.5}),
    ):
        with pytest.raises(RunFolderError, match=f"was taken over by {who}, so this process"):
            write()
    assert folder.files() == before
    stale.close()
    holds(folder.open(resume=True), 2 if how == "deleted" else 1)


def test_a_run_that_began_and_ended_meanwhile_is_not_begun_anew(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
):
    """Between the look at an empty folder and the lock, another process may have come and gone."""
    take = ledger_module.take_lock

    def late(path: Path, what: str, shown: str) -> Any:
        monkeypatch.setattr(ledger_module, "take_lock", take)
        folder.with_rounds(2, finished=True)
        return take(path, what, shown)

    monkeypatch.setattr(ledger_module, "take_lock", late)
    with pytest.raises(RunFolderError, match="is used; add --resume"):
        folder.open()
    holds(folder.open(resume=True), 2)


@pytest.mark.parametrize("crashed_after", range(5))
def test_a_crash_while_a_folder_is_begun_leaves_a_folder_that_can_be_begun(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, crashed_after: int
):
    """Killed between any two of the files that a new run writes first."""
    replaced, count = os.replace, iter(range(99))

    def killed(source: Any, target: Any) -> None:
        if next(count) == crashed_after:
            shutil.copy(source, Path(target).parent / ".experiment.yaml.left")
            raise KeyboardInterrupt
        replaced(source, target)

    monkeypatch.setattr(os, "replace", killed)
    try:
        folder.open().close()
    except KeyboardInterrupt:
        monkeypatch.undo()
        ledger = folder.open(resume=crashed_after % 2 == 0)
        holds(ledger, 0)
        ledger.close()
    monkeypatch.undo()
    holds(folder.open(resume=True), 0)
