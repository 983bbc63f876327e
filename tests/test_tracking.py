"""A tracker shows what the ledger kept, and can neither stop a run nor change what it gives."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.record_writer import RecordWriter

from raysubset.errors import Stopped, TrainingDiverged
from raysubset.local_run import run_local
from raysubset.records import read_history
from raysubset.tracking import follower, tracked
from raysubset.tracking.event_files import EventFiles
from raysubset.tracking.tracker import Facts, Told
from tests.killed_runs import Death, Job
from tests.small_runs import BLOCKS, RUNS, Left, Watcher, assert_same_run, play, prepared
from tests.tracked_runs import Diary, events, float32, scalars, texts, told_by_history, untroubled


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    untroubled(monkeypatch)


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    kept = Diary()
    follow(monkeypatch, kept)
    return kept


def follow(monkeypatch: pytest.MonkeyPatch, diary: Diary) -> None:
    """Let a diary follow the runs to come, beside the event files."""

    def both(folder: Path, settings: Any, params: Mapping[str, Any]) -> list[Any]:
        diary.facts = Facts.of(folder, params)
        return [EventFiles(diary.facts), diary]

    monkeypatch.setattr(tracked, "trackers_of", both)


def rounds_only(run: Path) -> dict[tuple[str, int], list[float]]:
    """Return the figures of a run's files but those of its outcome."""
    seen = scalars(run)
    return {key: seen[key] for key in seen if not key[0].startswith(("test/", "outcome/"))}


def without_seconds(run: Path) -> dict[tuple[str, int], list[float]]:
    """Return the figures of a run's files that do not depend on the machine."""
    seen = scalars(run)
    timed = ("seconds/", "outcome/seconds", "outcome/speed_up")
    return {key: seen[key] for key in seen if not key[0].startswith(timed)}


# ---- event files


@pytest.mark.parametrize("options", [*RUNS.values(), BLOCKS | {"data__tuning": 0.2}])
def test_event_files_hold_exactly_the_figures_of_the_history(
    options: dict[str, Any], tmp_path: Path
):
    outcome, left = play(prepared(**options), tmp_path / "run")
    assert rounds_only(left.path) == told_by_history(left.path)
    last = read_history(left.path)[-1]["visits"]
    assert scalars(left.path)["test/accuracy", last] == [float32(outcome.test_accuracy)]
    assert ("training/lr", last) in scalars(left.path)
    told = texts(left.path)
    assert f"| selection.fraction | {outcome.fraction} |" in told["config"]
    assert f"| distinct | {outcome.distinct} |" in told["outcome"]


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_a_resumed_run_has_the_event_files_of_an_undisturbed_one(
    number: int, undisturbed: Callable[[str], Left], tmp_path: Path
):
    folder, ready = tmp_path / "run", prepared(**BLOCKS)

    def stop(now: int, name: str) -> None:
        if now == number:
            raise Stopped("asked to stop.")

    with pytest.raises(Stopped):
        run_local(ready, folder, watch=Watcher(stop))
    assert scalars(folder) == told_by_history(folder), "committed rounds, and no other"
    run_local(ready, folder, resume=True)
    assert rounds_only(folder) == told_by_history(folder)
    assert without_seconds(folder) == without_seconds(undisturbed("glister").path)


def test_a_killed_run_has_the_event_files_of_an_undisturbed_one_once_it_is_resumed(
    kill: Callable[[Job, Death], bool], undisturbed: Callable[[str], Left], tmp_path: Path
):
    for at, count in (("file.written", 9), ("file.visible", 8), ("event", 15)):
        folder = tmp_path / f"{at}{count}"
        assert kill(Job(options=BLOCKS, place=str(folder)), Death(at=at, count=count))
        run_local(prepared(**BLOCKS), folder, resume=True)
        assert rounds_only(folder) == told_by_history(folder)
        assert without_seconds(folder) == without_seconds(undisturbed("glister").path)


def test_a_reader_that_looks_on_is_told_to_forget_what_the_new_file_says_again(tmp_path: Path):
    ready, folder = prepared(**BLOCKS), tmp_path / "run"
    run_local(ready, folder)
    first = {path.name for path in (folder / "tensorboard").iterdir()}
    run_local(ready, folder, resume=True)
    assert len(list((folder / "tensorboard").iterdir())) == len(first) == 1
    assert first.isdisjoint(path.name for path in (folder / "tensorboard").iterdir())
    assert events(folder)[1].session_log.status == 1  # START, at visits 0
    assert events(folder)[1].step == 0


@pytest.mark.parametrize("writes", [0, 3, 40])
def test_a_full_disk_under_the_event_files_stops_nothing_and_is_said_once(
    writes: int,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    count, write = iter(range(10**6)), RecordWriter.write

    def until_full(writer: RecordWriter, event: Any) -> None:
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, event)

    monkeypatch.setattr(RecordWriter, "write", until_full)
    _, left = play(prepared(**BLOCKS), tmp_path / "run")
    assert_same_run(left, undisturbed("glister"))
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text and "history.jsonl has everything" in caplog.text


# ---- any tracker


def test_a_tracker_is_told_of_every_round_once_and_of_the_end(diary: Diary, tmp_path: Path):
    _, left = play(prepared(**BLOCKS), tmp_path / "run")
    assert (diary.began, diary.rounds, diary.endings) == (1, [0, 1, 2], ["finished"])
    assert diary.results == [json.loads((left.path / "result.json").read_text())]
    assert diary.facts is not None and diary.facts.params["selection.fraction"] == 0.25
    assert not [name for name in diary.facts.params if name.startswith("tracking")]


def test_a_tracker_hears_whether_a_run_was_stopped_or_failed(diary: Diary, tmp_path: Path):
    def stop(now: int, name: str) -> None:
        if name == "done":
            raise Stopped("asked to stop.")

    with pytest.raises(Stopped):
        run_local(prepared(**BLOCKS), tmp_path / "stopped", watch=Watcher(stop))
    with pytest.raises(TrainingDiverged):
        run_local(prepared(**BLOCKS, training__lr=1e30), tmp_path / "failed")
    assert diary.endings == ["stopped", "failed"] and diary.results == []


def test_a_run_that_goes_on_tells_a_tracker_only_what_it_lacks(diary: Diary, tmp_path: Path):
    def stop(now: int, name: str) -> None:
        if name == "training" and watch.names.count("done") == 2:
            raise Stopped("asked to stop.")

    watch, folder = Watcher(stop), tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**BLOCKS), folder, watch=watch)
    assert diary.rounds == [0, 1]
    run_local(prepared(**BLOCKS), folder, resume=True)
    assert diary.rounds == [0, 1, 2] and diary.endings == ["stopped", "finished"]


@pytest.mark.parametrize("where", ["begin", "round_done", "caught_up", "finished", "close"])
@pytest.mark.parametrize("error", [RuntimeError, ConnectionError, KeyError, SystemExit])
def test_f38_a_tracker_that_raises_changes_nothing_and_is_complained_of_once(
    where: str,
    error: type[BaseException],
    diary: Diary,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def fail(*_: Any) -> None:
        raise error("no route to http://me:secret@host:5000/x?token=abc")

    monkeypatch.setattr(diary, where, fail)
    for name in ("one", "two"):
        _, left = play(prepared(**BLOCKS), tmp_path / name)
        assert_same_run(left, undisturbed("glister"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "diary is not being told of this run" in caplog.text
    assert "history.jsonl has everything" in caplog.text
    assert "secret" not in caplog.text and "abc" not in caplog.text


@pytest.mark.parametrize("where", ["begin", "round_done", "finished", "close"])
def test_f38_a_tracker_that_hangs_for_ever_costs_its_deadline_once_and_nothing_else(
    where: str,
    diary: Diary,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    for_ever, waited = threading.Event(), list[float]()
    join = follower.Follower.join

    def timed(self: follower.Follower, timeout_s: float) -> None:
        began = time.monotonic()
        join(self, timeout_s)
        waited.append(time.monotonic() - began)

    monkeypatch.setattr(diary, where, lambda *_: for_ever.wait())
    monkeypatch.setattr(follower.Follower, "join", timed)
    monkeypatch.setitem(tracked.LAST_WORD_S, "finished", 1.0)
    monkeypatch.setattr(follower, "_SHORT_S", 0.05)
    try:
        for name in ("one", "two"):
            _, left = play(prepared(**BLOCKS), tmp_path / name)
            assert_same_run(left, undisturbed("glister"))
    finally:
        for_ever.set()
    _, first, _, second = waited
    assert 0.5 < first < 3.0, "one second, on a machine that does other things too"
    assert second < 0.5, "a process that was kept waiting once waits no more"
    assert len(caplog.records) == 1 and "did not answer" in caplog.text


def test_no_more_than_a_few_threads_hang_however_many_runs_there_are(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for_ever, began = threading.Event(), list[int]()

    def hang() -> int:
        began.append(1)
        for_ever.wait()
        return 0

    monkeypatch.setattr(diary, "begin", hang)
    monkeypatch.setattr(follower, "_SHORT_S", 0.01)
    monkeypatch.setitem(tracked.LAST_WORD_S, "finished", 0.05)
    (tmp_path / "run").mkdir()
    try:
        for _ in range(20):
            follower.Follower(diary, tmp_path / "run").join(0.01)
    finally:
        for_ever.set()
    assert len(began) == 8


def test_f38_a_tracker_that_was_down_is_told_later_what_it_missed(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begin, down = diary.begin, iter([True, True])

    def late() -> int:
        if next(down, False):
            raise ConnectionError("down")
        return begin()

    monkeypatch.setattr(diary, "begin", late)
    folder = tmp_path / "run"
    for _ in range(3):  # a resume, where two failures were all that the first run had time for
        run_local(prepared(**BLOCKS), folder, resume=True)
    assert diary.rounds == [0, 1, 2]


def test_rounds_come_whole_and_in_order_whatever_is_being_written(tmp_path: Path):
    from raysubset.records import history_lines
    from raysubset.tracking.tracker import rounds_after

    epochs = [{"epoch": 0, "loss": 1.0, "accuracy": 0.5, "lr": 0.1, "visits": 10}]
    told = "".join(history_lines(n, {"visits": 10 + n}, epochs) for n in range(3)).encode()
    for cut in range(len(told) + 1):
        (tmp_path / "history.jsonl").write_bytes(told[:cut])
        before = [each for _, each in rounds_after(tmp_path, 0)]
        offset = max((end for end, _ in rounds_after(tmp_path, 0)), default=0)
        (tmp_path / "history.jsonl").write_bytes(told)
        after: list[Told] = [each for _, each in rounds_after(tmp_path, offset)]
        assert [each.number for each in [*before, *after]] == [0, 1, 2]
        assert all(len(each.points) == 2 for each in [*before, *after])
