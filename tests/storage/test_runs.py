from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import RunFolderError, Stopped
from raysubset.learn.local import LocalPool
from raysubset.ledger import Ledger
from raysubset.local_run import run_local
from raysubset.storage import owner, remote
from raysubset.storage.staging import staged
from tests.bare_ledgers import ENVIRONMENT, IDENTITY, commit, holds
from tests.buckets import URI, WORDS, Bucket, Dead
from tests.small_runs import RUNS, Left, Watcher, assert_same_run, experiment, prepared


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(remote.random, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(owner, "WATCH_S", 0.05)
    monkeypatch.setattr(owner, "BEAT_S", 60.0)  # a beat would be one more change


def left(bucket: Bucket) -> Left:
    return Left(bucket.folder / "run")


def play(name: str, **how: Any) -> None:
    run_local(prepared(**RUNS[name]), URI, **how)


def rounds(folder: Path, count: int, *, keep: int = 1, resume: bool = False) -> None:
    """Commit rounds of a bare ledger up to this many, then finish."""
    config = experiment(resources__keep_checkpoints=keep)
    ledger = Ledger.open(folder, config, IDENTITY, ENVIRONMENT, resume=resume)
    try:
        for number in range(ledger.done, count):
            commit(ledger, number)
        ledger.finish({"accuracy": 0.5})
    finally:
        ledger.close()


# ---- a run on a URI is the run


@pytest.mark.parametrize("name", ["glister", "warm", "smaller"])
def test_a_run_on_a_uri_is_the_run_on_a_folder(
    name: str, undisturbed: Callable[[str], Left], bucket: Bucket
):
    play(name)
    assert_same_run(left(bucket), undisturbed(name))
    files = lambda path: {  # noqa: E731
        str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }
    events = "tensorboard/events"
    here, there = files(bucket.folder / "run"), files(undisturbed(name).path)
    assert {f for f in here if not f.startswith(events)} == {
        f for f in there if not f.startswith(events)
    }
    assert sum(f.startswith(events) for f in here) == 1


def test_each_manifest_comes_after_all_that_it_names(bucket: Bucket):
    play("glister")
    written = [name.removeprefix("run/") for verb, name in bucket.changes if verb == "write"]
    for manifest in (bucket.folder / "run").glob("rounds/*/MANIFEST.json"):
        round_ = f"rounds/{manifest.parent.name}"
        place = written.index(f"{round_}/MANIFEST.json")
        for name in json.loads(manifest.read_text())["files"]:
            assert written.index(f"{round_}/{name}") < place
        assert "history.jsonl" in written[:place]


def test_a_finished_run_is_not_run_again(bucket: Bucket):
    play("glister")
    before, seen = left(bucket), Watcher(lambda number, name: None)
    play("glister", resume=True, watch=seen)
    assert seen.names == []
    assert_same_run(left(bucket), before)


# ---- interrupted


def test_a_run_killed_at_any_change_of_the_bucket_is_whole_after_a_resume(bucket: Bucket):
    with staged(URI) as folder:
        rounds(folder, 3)
    whole, changes = Left(bucket.folder / "run"), len(bucket.changes)
    assert changes > 30
    for number in range(2, changes):  # before come the probe's
        for path in sorted(bucket.folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        bucket.die_at(number)
        with pytest.raises(Dead), staged(URI) as folder:
            rounds(folder, 3)
        bucket.live()
        with staged(URI) as folder:
            rounds(folder, 3, resume=True)
        again = Left(bucket.folder / "run")
        assert (again.ids, again.gains, again.history) == (whole.ids, whole.gains, whole.history)
        assert again.result == whole.result
        assert [sorted(p.name for p in r.iterdir()) for r in again.rounds][-2:] == [
            sorted(p.name for p in r.iterdir()) for r in whole.rounds
        ][-2:]


@pytest.mark.parametrize("victim", ["0001/checkpoint", "0001/metrics", "0001/MANIFEST", "result"])
def test_a_run_killed_between_files_and_manifest_ends_like_the_undisturbed(
    victim: str, undisturbed: Callable[[str], Left], bucket: Bucket
):
    def meet(verb: str, name: str) -> None:
        if verb == "write" and victim in name:
            bucket.die_at(0)
            raise Dead(name)

    bucket.meet = meet
    with pytest.raises(Dead):
        play("glister")
    bucket.live()
    play("glister", resume=True)
    assert_same_run(left(bucket), undisturbed("glister"))


def test_a_choice_made_ahead_is_on_the_store_with_the_round_before(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ready = prepared(**RUNS["glister"], selection__overlap=True)
    run_local(ready, tmp_path / "whole")

    def meet(verb: str, name: str) -> None:
        if verb == "write" and "rounds/0001" in name:
            bucket.die_at(0)
            raise Dead(name)

    bucket.meet = meet
    with pytest.raises(Dead):
        run_local(ready, URI)
    bucket.live()
    monkeypatch.setattr(LocalPool, "select", lambda *_: pytest.fail("it was chosen already"))
    run_local(ready, URI, resume=True)
    assert_same_run(left(bucket), Left(tmp_path / "whole"))


def test_a_run_stopped_in_good_order_has_left_all_it_had(
    undisturbed: Callable[[str], Left], bucket: Bucket
):
    def stop(number: int, name: str) -> None:
        if watch.names.count("started") == 2:
            raise Stopped("asked to")

    watch = Watcher(stop)

    with pytest.raises(Stopped):
        play("glister", watch=watch)
    assert (bucket.folder / "run" / "rounds" / "0000" / "MANIFEST.json").is_file()
    assert list((bucket.folder / "run" / "tensorboard").iterdir())
    assert not (bucket.folder / "run" / ".lock.json").exists()
    play("glister", resume=True)
    assert_same_run(left(bucket), undisturbed("glister"))


def test_a_store_in_trouble_now_and_then_changes_nothing(
    undisturbed: Callable[[str], Left], bucket: Bucket
):
    calls = iter(range(10**9))

    def every_third(verb: str, name: str) -> None:
        if next(calls) % 3 == 0:
            raise OSError(WORDS.format("SLOW_DOWN"))

    bucket.meet = every_third
    play("glister")
    bucket.live()
    assert_same_run(left(bucket), undisturbed("glister"))


def test_a_store_that_takes_no_event_files_stops_no_run(
    undisturbed: Callable[[str], Left], bucket: Bucket, caplog: pytest.LogCaptureFixture
):
    def meet(verb: str, name: str) -> None:
        if "tensorboard" in name:
            raise OSError(WORDS.format("ACCESS_DENIED"))

    bucket.meet = meet
    with pytest.raises(RunFolderError, match="tensorboard"), staged(URI) as folder:
        run_local(prepared(**RUNS["glister"]), folder)
    assert_same_run(left(bucket), undisturbed("glister"))
    assert "is not up to date for readers" in caplog.text


# ---- damaged, foreign, taken


def test_a_damaged_last_checkpoint_costs_one_round(
    undisturbed: Callable[[str], Left], bucket: Bucket
):
    play("glister")
    last = sorted((bucket.folder / "run").glob("rounds/*/checkpoint"))[-1]
    (last / "weights.safetensors").write_bytes(b"damaged")
    play("glister", resume=True)
    assert_same_run(left(bucket), undisturbed("glister"))


def test_checkpoints_of_old_rounds_are_deleted_and_only_the_last_is_fetched(bucket: Bucket):
    with staged(URI) as folder:
        rounds(folder, 5, keep=2)
    kept = sorted(p.parent.parent.name for p in bucket.folder.rglob("trainer.pt"))
    assert kept == ["0003", "0004"]
    reads = list[str]()
    bucket.meet = lambda verb, name: reads.append(name) if verb == "read" else None
    with staged(URI) as folder:
        config = experiment(resources__keep_checkpoints=2)
        ledger = Ledger.open(folder, config, IDENTITY, ENVIRONMENT, resume=True)
        holds(ledger, 5)
        ledger.close()
    assert [name for name in reads if "trainer.pt" in name] == [
        "run/rounds/0004/checkpoint/trainer.pt"
    ]


def test_f26_a_writer_that_was_taken_over_commits_nothing_more(bucket: Bucket):
    config = experiment()
    with pytest.raises(RunFolderError, match="taken over by process 7 on far"):
        with staged(URI) as folder:
            ledger = Ledger.open(folder, config, IDENTITY, ENVIRONMENT)
            commit(ledger, 0)
            lock = bucket.folder / "run" / ".lock.json"
            told = json.loads(lock.read_text())
            lock.write_text(json.dumps({**told, "token": "t", "pid": 7, "host": "far"}))
            before = len(bucket.changes)
            try:
                commit(ledger, 1)
            finally:
                ledger.close()
    assert len(bucket.changes) == before
    assert json.loads(lock.read_text())["token"] == "t"


def test_f26_a_retry_does_not_commit_what_was_taken_over_meanwhile(bucket: Bucket):
    """A store in trouble for longer than a takeover takes: the try after it must not succeed."""
    config, lock = experiment(), bucket.folder / "run" / ".lock.json"
    victim = "run/rounds/0001/MANIFEST.json"

    def taken_over_meanwhile(verb: str, name: str) -> None:
        if (verb, name) == ("write", victim):
            told = json.loads(lock.read_text())
            lock.write_text(json.dumps({**told, "token": "t", "number": 2, "host": "far"}))
            bucket.live()
            raise OSError(WORDS.format("SLOW_DOWN"))

    with pytest.raises(RunFolderError, match=r"taken over by process .* on far"):
        with staged(URI) as folder:
            ledger = Ledger.open(folder, config, IDENTITY, ENVIRONMENT)
            commit(ledger, 0)
            bucket.meet = taken_over_meanwhile
            try:
                commit(ledger, 1)
            finally:
                ledger.close()
    assert ("write", victim) not in bucket.changes


@pytest.mark.parametrize("victim", ["rounds/0001/MANIFEST.json", "rounds/0001/metrics.json"])
def test_f26_a_late_write_of_an_owner_that_stood_still_is_written_over(
    victim: str, undisturbed: Callable[[str], Left], bucket: Bucket, tmp_path: Path
):
    """It had looked at its claim, then stood still: nobody can stop the one object on its way."""
    lock = bucket.folder / "run" / ".lock.json"

    damaged = list[bytes]()

    def late(_: int, name: str) -> None:
        first = watch.names.count("started") == 2 and watch.names[-2] != name
        if name == "training" and first:  # of round 2: round 1 is committed
            path = bucket.folder / "run" / victim
            damaged.append(path.read_bytes())
            path.write_bytes(damaged[0][:-9])
            assert json.loads(lock.read_text())["number"] == 4 + 1

    def stop(_: int, name: str) -> None:
        if stopped.names.count("started") == 2:
            raise Stopped("asked to")

    stopped = Watcher(stop)
    with pytest.raises(Stopped):
        play("glister", watch=stopped)
    abandoned = {"token": "t", "host": "far", "pid": 7, "since": "then", "lock": "1:1:1"}
    lock.write_text(json.dumps({**abandoned, "beat": 1, "number": 4}))
    watch = Watcher(late)
    play("glister", resume=True, watch=watch)
    assert damaged == [(bucket.folder / "run" / victim).read_bytes()]
    assert_same_run(left(bucket), undisturbed("glister"))


def test_f26_a_run_ends_once_its_folder_is_known_to_be_taken_over(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    """In the middle of a round, not at its commit: a long round is not trained for nothing."""
    monkeypatch.setattr(owner, "BEAT_S", 0.01)
    lock, lost = bucket.folder / "run" / ".lock.json", threading.Event()
    ours, refuse_lost = list[owner.Owner](), owner.Owner.refuse_lost

    def told(self: owner.Owner) -> None:
        ours.append(self)
        try:
            refuse_lost(self)
        except RunFolderError:
            lost.set()
            raise

    def see(_: int, name: str) -> None:
        if name == "training" and not lost.is_set():
            other = {**vars(ours[0].claim), "token": "t", "number": 2, "host": "far"}
            lock.with_name("new").write_text(json.dumps(other))
            os.replace(lock.with_name("new"), lock)
            assert lost.wait(60)

    monkeypatch.setattr(owner.Owner, "refuse_lost", told)
    watch = Watcher(see)
    with pytest.raises(RunFolderError, match=r"taken over by process .* on far"):
        play("glister", watch=watch)
    assert watch.names.count("training") == 1
    assert not list(bucket.folder.rglob("rounds/*/MANIFEST.json"))


def test_f26_a_used_folder_and_one_of_something_else_are_refused_and_left_alone(bucket: Bucket):
    play("glister")
    before = len(bucket.changes)
    for name, how in (("glister", {}), ("adaptive", {"resume": True})):
        with pytest.raises(RunFolderError, match=URI):
            play(name, **how)
    foreign = bucket.folder / "other"
    foreign.mkdir()
    (foreign / "data.bin").write_bytes(b"1234")
    with pytest.raises(RunFolderError, match="s3://bucket/other is not empty and holds no run"):
        run_local(prepared(**RUNS["glister"]), "s3://bucket/other")
    assert (foreign / "data.bin").read_bytes() == b"1234"
    changed = {name for _, name in bucket.changes[before:]}
    assert not [n for n in changed if ".probe" not in n and ".lock.json" not in n]
