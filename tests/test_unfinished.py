"""What a stop, a kill or damage costs in the middle of a round: the epoch in progress, no more."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import Stopped
from raysubset.learn.learner import EpochTrace, Learner
from raysubset.learn.local import LocalPool
from raysubset.local_run import run_local
from tests.killed_runs import Death, Job
from tests.small_runs import BLOCKS, Left, Watcher, assert_same_run, play, prepared

LONG: dict[str, Any] = BLOCKS | {"selection__select_every": 3, "selection__candidates": 2.0}
"""Two rounds of three epochs; 3 batches an epoch, so each training event is a batch."""
BATCHES = 3


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**LONG), tmp_path_factory.mktemp("whole") / "run")[1]


def stop_at_batch(batch: int) -> Watcher:
    """Stop before the batch-th batch of the run (from 0)."""

    def see(_: int, name: str) -> None:
        if name == "training" and watch.names.count("training") == batch + 1:
            raise Stopped("asked to stop")

    watch = Watcher(see)
    return watch


def resumed(folder: Path, **changes: Any) -> tuple[Left, list[int], int]:
    """Go on; return what was left, the epochs that were trained, and how often was selected."""
    epochs, selections = list[int](), list[int]()
    epoch, select = Learner._epoch, LocalPool.select

    def counted(learner: Learner, order: Any, index: int, number: int, *how: Any) -> EpochTrace:
        epochs.append(number)
        return epoch(learner, order, index, number, *how)

    def chosen(pool: LocalPool, phase: Any, weights: Any) -> Any:
        selections.append(phase.round)
        return select(pool, phase, weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "_epoch", counted)
        patch.setattr(LocalPool, "select", chosen)
        left = play(prepared(**LONG | changes), folder, resume=True)[1]
    return left, epochs, len(selections)


@pytest.mark.parametrize("batch", range(2, 6 * BATCHES))
def test_a_stop_costs_the_epoch_in_progress_and_no_selection(
    batch: int, whole: Left, tmp_path: Path
):
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), folder, watch=stop_at_batch(batch))
    left, epochs, selections = resumed(folder)
    assert epochs == list(range(batch // BATCHES, 6))
    assert selections == (1 if batch < 3 * BATCHES else 0)  # that of the round to come
    assert_same_run(left, whole)
    assert not list(folder.glob("rounds/*/partial"))


def test_a_run_stopped_in_every_epoch_ends_as_if_it_never_was(whole: Left, tmp_path: Path):
    folder, parts = tmp_path / "run", 0
    while True:
        try:
            run_local(prepared(**LONG), folder, resume=True, watch=stop_at_batch(BATCHES + 1))
            break
        except Stopped:
            parts += 1
    assert parts == 5  # each finishes one epoch, and the last one two
    assert_same_run(Left(folder), whole)


def test_a_held_epoch_is_kept_by_a_stop_though_none_was_to_be_written(
    whole: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raysubset.learn.partial.HOLD_S", 0)
    rare: dict[str, Any] = {"resources__checkpoint_every_s": 3600}
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**LONG | rare), folder, watch=stop_at_batch(2 * BATCHES + 1))
    left, epochs, selections = resumed(folder)  # how often epochs are written is free on resume
    assert epochs == [2, 3, 4, 5] and selections == 1
    assert_same_run(left, whole)


def test_cheap_epochs_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[Path] = []
    monkeypatch.setattr(
        "raysubset.learn.partial.write_partial", lambda *given: written.append(given[0])
    )
    options = {k: v for k, v in LONG.items() if k != "resources__checkpoint_every_s"}
    play(prepared(**options), tmp_path / "run")
    assert not written


@pytest.mark.parametrize("batch", [BATCHES, 2 * BATCHES + 1, 4 * BATCHES + 2, 5 * BATCHES + 2])
def test_a_kill_costs_the_epoch_in_progress_and_what_was_being_written(
    batch: int, kill: Callable[..., bool], whole: Left, tmp_path: Path
):
    folder = tmp_path / "run"
    watch = Watcher(lambda *_: None)
    play(prepared(**LONG), tmp_path / "events", watch=watch)
    events = [i for i, name in enumerate(watch.names) if name == "training"]
    job = Job(options=LONG, place=str(folder))
    assert kill(job, Death(at="event", count=events[batch] + 1))
    kept = len(list(folder.glob("rounds/*/MANIFEST.json"))) * 3
    for path in folder.glob("rounds/*/partial/MANIFEST.json"):
        kept += json.loads(path.read_text())["epochs"]
    left, epochs, _ = resumed(folder)
    assert epochs == list(range(kept, 6))
    assert kept >= batch // BATCHES - 1
    assert_same_run(left, whole)


# ---- what is damaged or of another run is not used, and does no harm


def damage_of(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def other_key(path: Path) -> None:
    path.write_text(path.read_text().replace('"key": "', '"key": "0'))


def nothing(path: Path) -> None:
    path.unlink()


BAD: dict[str, tuple[str, Callable[[Path], None], bool]] = {
    "half a state": ("0001-*/weights.safetensors", damage_of, True),
    "no optimizer": ("0001-*/trainer.pt", nothing, True),
    "half of what was seen": ("traces-*", damage_of, True),
    "half a manifest": ("MANIFEST.json", damage_of, True),
    "another round's": ("MANIFEST.json", other_key, True),
    "no manifest": ("MANIFEST.json", nothing, True),
    "half a choice": ("selection.parquet", damage_of, False),
    "half a beginning": ("round.json", damage_of, False),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_epochs_are_trained_again_to_the_same_end(
    name: str, whole: Left, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    what, harm, choice_stands = BAD[name]
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), folder, watch=stop_at_batch(4 * BATCHES + 1))
    (path,) = (folder / "rounds/0001/partial").glob(what)
    harm(path)
    left, epochs, selections = resumed(folder)
    assert epochs == [3, 4, 5] and selections == (0 if choice_stands else 1)
    assert_same_run(left, whole)
    assert ("again" in caplog.text) == (name != "no manifest")


def test_epochs_of_a_round_that_followed_another_one_are_not_used(whole: Left, tmp_path: Path):
    """The round before is damaged, so its own is redone; what followed it belongs to nothing."""
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), folder, watch=stop_at_batch(4 * BATCHES + 1))
    stray = tmp_path / "stray"
    shutil.copytree(folder / "rounds/0001/partial", stray)
    shutil.rmtree(folder / "rounds")
    (folder / "rounds/0000").mkdir(parents=True)
    shutil.copytree(stray, folder / "rounds/0000/partial")
    left, epochs, selections = resumed(folder)
    assert epochs == list(range(6)) and selections == 2
    assert_same_run(left, whole)


def test_a_disk_that_is_full_for_epochs_does_not_end_the_run(
    whole: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raysubset.learn.partial.write_partial", full)
    assert_same_run(play(prepared(**LONG), tmp_path / "run")[1], whole)
    assert "could not be kept" in caplog.text
