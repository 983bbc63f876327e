"""A URI keeps what a folder keeps of a round in progress: finished epochs, whatever dies."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from raysubset.errors import RunFolderError, Stopped
from raysubset.learn.learner import EpochTrace, Learner
from raysubset.learn.local import LocalPool
from raysubset.local_run import run_local
from raysubset.storage import mirror, owner, remote
from tests.buckets import URI, WORDS, Bucket, Dead
from tests.small_runs import BLOCKS, Left, Watcher, assert_same_run, play, prepared

LONG: dict[str, Any] = BLOCKS | {"selection__select_every": 3, "selection__candidates": 2.0}
BATCHES = 3
"""Of an epoch; two rounds of three epochs, so each training event is a batch."""
PATIENCE_S = 60.0
DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(remote.random, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(owner, "BEAT_S", 60.0)
    monkeypatch.setattr(mirror, "LOOK_S", 0.002)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**LONG), tmp_path_factory.mktemp("whole") / "run")[1]


def partials(bucket: Bucket) -> list[str]:
    return [
        str(p.relative_to(bucket.folder / "run"))
        for p in bucket.folder.rglob("*")
        if p.is_file() and "partial" in p.parts
    ]


def kept(bucket: Bucket) -> int:
    """Return how many epochs the bucket holds, of committed rounds and the open one."""
    rounds = bucket.folder / "run" / "rounds"
    epochs = 3 * len(list(rounds.glob("*/MANIFEST.json")))
    for path in rounds.glob("*/partial/MANIFEST.json"):
        with suppress(ValueError):  # it is being written
            epochs += json.loads(path.read_text())["epochs"]
    return epochs


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "the mirror does not come so far"
        time.sleep(0.002)


def at_batch(batch: int, do: Callable[[], object]) -> Watcher:
    """Do something before the batch-th batch of the run (from 0)."""

    def see(_: int, name: str) -> None:
        if name == "training" and watch.names.count("training") == batch + 1:
            do()

    watch = Watcher(see)
    return watch


def stop() -> None:
    raise Stopped("asked to stop")


def resumed() -> tuple[list[int], int]:
    """Go on from the bucket alone; return the epochs that were trained, and the selections."""
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
        run_local(prepared(**LONG), URI, resume=True)
    return epochs, len(selections)


@pytest.mark.parametrize("batch", range(2, 6 * BATCHES, 2))
def test_a_stop_costs_the_epoch_in_progress_and_no_selection(
    batch: int, whole: Left, bucket: Bucket
):
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), URI, watch=at_batch(batch, stop))
    assert kept(bucket) == batch // BATCHES
    epochs, selections = resumed()
    assert epochs == list(range(batch // BATCHES, 6))
    assert selections == (1 if batch < 3 * BATCHES else 0)  # that of the round to come
    assert_same_run(Left(bucket.folder / "run"), whole)
    assert not partials(bucket)


@DYING
@pytest.mark.parametrize("batch", [4, 8, 10, 14, 17])
def test_a_kill_costs_what_was_not_mirrored_yet(batch: int, whole: Left, bucket: Bucket):
    def die() -> None:
        # The epoch before the last may still be on its way to the disk; the others are there.
        until(lambda: kept(bucket) >= batch // BATCHES - 1)
        bucket.die_at(0)
        raise Dead("the power is gone")

    with pytest.raises(Dead):
        run_local(prepared(**LONG), URI, watch=at_batch(batch, die))
    bucket.live()
    there = kept(bucket)
    epochs, _ = resumed()
    assert epochs == list(range(there, 6))
    assert_same_run(Left(bucket.folder / "run"), whole)
    assert not partials(bucket)


@DYING
@pytest.mark.parametrize("victim", ["selection", "round.json", "weights", "traces", "MANIFEST"])
@pytest.mark.parametrize("when", [1, 2])
def test_a_kill_at_any_object_of_a_partial_leaves_what_a_resume_goes_on_with(
    victim: str, when: int, whole: Left, bucket: Bucket
):
    """The mirror's own thread dies at an object; from then on, nothing reaches the bucket."""
    seen, dead = list[str](), threading.Event()

    def meet(verb: str, name: str) -> None:
        if verb == "write" and "/partial/" in name and victim in name:
            seen.append(name)
        if dead.is_set() or len(seen) == when:
            dead.set()
            raise Dead(name)

    def wait() -> None:
        if watch.names.count("training") > BATCHES:
            until(lambda: dead.is_set() or kept(bucket) >= watch.names.count("training") // 3 - 1)

    watch = Watcher(lambda _, name: wait() if name == "training" else None)
    bucket.meet = meet
    with pytest.raises(Dead):
        run_local(prepared(**LONG), URI, watch=watch)
    bucket.live()
    there = kept(bucket)
    epochs, _ = resumed()
    assert epochs == list(range(there, 6))
    assert_same_run(Left(bucket.folder / "run"), whole)
    assert not partials(bucket)


def test_a_manifest_is_in_the_store_only_with_all_that_it_names(whole: Left, bucket: Bucket):
    holes, rounds = list[str](), bucket.folder / "run" / "rounds"

    def meet(verb: str, name: str) -> None:
        if verb in ("write", "delete"):
            for path in rounds.glob("*/partial/MANIFEST.json"):
                files = json.loads(path.read_text())["files"]
                holes.extend(n for n in files if not (path.parent / n).is_file())

    watch = at_batch(3 * BATCHES - 1, lambda: until(lambda: kept(bucket) >= 1))
    bucket.meet = meet
    run_local(prepared(**LONG), URI, watch=watch)
    bucket.live()
    assert any("/partial/MANIFEST" in name for _, name in bucket.changes)
    assert not holes and not partials(bucket)
    assert_same_run(Left(bucket.folder / "run"), whole)


def test_a_store_that_takes_nothing_of_a_round_in_progress_costs_a_warning(
    whole: Left, bucket: Bucket, caplog: pytest.LogCaptureFixture
):
    def meet(verb: str, name: str) -> None:
        if "/partial/" in name:
            raise OSError(WORDS.format("ACCESS_DENIED"))

    def told() -> bool:
        return "are not in the store" in caplog.text

    bucket.meet = meet
    run_local(prepared(**LONG), URI, watch=at_batch(BATCHES, lambda: until(told)))
    assert_same_run(Left(bucket.folder / "run"), whole)
    assert 1 <= caplog.text.count("are not in the store") <= 2  # once a round, not at each look


def test_a_store_slower_than_epochs_still_gets_a_whole_state(bucket: Bucket):
    """Newer epochs replace the files on disk while the ones before are on their way."""
    gate, first = threading.Event(), list[str]()

    def meet(verb: str, name: str) -> None:
        if verb == "write" and "/partial/0001-" in name and not first:
            first.append(name)
            gate.wait(PATIENCE_S)

    def go_on() -> None:
        (here,) = (bucket.folder.parent / "tmp").glob("*/*/w/run/rounds/0000/partial")
        until(lambda: bool(list(here.glob("0002-*"))))
        until(lambda: not list(here.glob("0001-*")))
        gate.set()
        until(lambda: kept(bucket) >= 1)
        stop()

    def see() -> None:
        batches = watch.names.count("training")
        if batches == BATCHES + 1:
            until(lambda: bool(first))
        if batches == 3 * BATCHES:  # the second epoch has replaced the first
            go_on()

    watch = Watcher(lambda _, name: see() if name == "training" else None)
    bucket.meet = meet
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), URI, watch=watch)
    written = [name for verb, name in bucket.changes if verb == "write"]
    assert len([n for n in written if "/partial/0001-" in n]) == 2
    assert written.count("run/rounds/0000/partial/MANIFEST.json") == 2
    assert kept(bucket) == 2


def test_f26_a_writer_that_was_taken_over_mirrors_nothing_more(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
):
    before: list[int] = []

    def take_over() -> None:
        until(lambda: kept(bucket) >= 1)
        lock = bucket.folder / "run" / ".lock.json"
        told = json.loads(lock.read_text())
        lock.write_text(json.dumps({**told, "token": "t", "pid": 7, "host": "far"}))
        time.sleep(0.05)  # what was on its way when the other came
        before.append(len(bucket.changes))

    def see() -> None:
        batches = watch.names.count("training")
        if batches == BATCHES + 2:
            take_over()
        if batches == 3 * BATCHES:  # the second epoch is on its way
            until(lambda: "are not in the store" in caplog.text)

    watch = Watcher(lambda _, name: see() if name == "training" else None)
    with pytest.raises(RunFolderError, match="taken over by process 7 on far"):
        run_local(prepared(**LONG), URI, watch=watch)
    assert bucket.changes[before[0] :] == []


@pytest.mark.parametrize("what", ["0001-*/weights.safetensors", "traces-*", "round.json"])
def test_damage_in_the_store_costs_epochs_and_no_more(what: str, whole: Left, bucket: Bucket):
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), URI, watch=at_batch(4 * BATCHES + 1, stop))
    (path,) = (bucket.folder / "run" / "rounds/0001/partial").glob(what)
    path.write_bytes(path.read_bytes()[:-7])
    assert resumed()[0] == [3, 4, 5]
    assert_same_run(Left(bucket.folder / "run"), whole)
    assert not partials(bucket)


def test_f27_a_name_that_leads_out_of_the_folder_is_not_fetched(whole: Left, bucket: Bucket):
    with pytest.raises(Stopped):
        run_local(prepared(**LONG), URI, watch=at_batch(4 * BATCHES + 1, stop))
    (bucket.folder / "evil").write_bytes(b"evil")
    manifest = bucket.folder / "run" / "rounds/0001/partial/MANIFEST.json"
    told = json.loads(manifest.read_text())
    told["files"]["../../../../evil"] = "0" * 64
    manifest.write_text(json.dumps(told))
    reads = list[str]()
    bucket.meet = lambda verb, name: reads.append(name) if verb == "read" else None
    assert resumed()[0] == [3, 4, 5]
    assert reads and not [name for name in reads if name.endswith("evil")]
    assert_same_run(Left(bucket.folder / "run"), whole)
