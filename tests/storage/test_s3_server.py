"""Run folders on a real S3 server: whole runs, kills, faults, and two writers."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from raysubset.chain import committed_chain, damaged_file
from raysubset.cli import call
from raysubset.errors import RunFolderError
from raysubset.local_run import run_local
from raysubset.records import read_table
from raysubset.storage import mirror, owner, remote, staging
from tests.buckets import owners_ended
from tests.killed_runs import Death, Job, reaper
from tests.s3_server import S3Server, copy_of, cut, held, refused, running
from tests.small_runs import BLOCKS, Left, Watcher, assert_same_run, experiment, prepared

SLOW_DOWN = refused("503 Slow Down", "SlowDown")


@pytest.fixture(scope="module")
def server() -> Generator[S3Server]:
    with running() as server:
        yield server


@pytest.fixture
def place(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """Give the address of a run folder in a bucket of its own; no wait between tries."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(remote.random, "uniform", lambda low, high: 0.0)
    monkeypatch.setattr(owner, "SETTLE_S", 0.0)
    monkeypatch.setattr(remote, "REQUEST_S", 1.0)
    with owners_ended(monkeypatch):
        yield server.bucket()
        server.meet = lambda verb, path: None


def play(place: str, **how: Any) -> None:
    run_local(prepared(**BLOCKS), place, **how)


def assert_whole(place: str, folder: Path, whole: Left) -> Left:
    """Fail unless what the server holds is the undisturbed run, each file as its manifest says."""
    left = Left(copy_of(place, folder))
    assert_same_run(left, whole)
    data = json.loads((left.path / "fingerprint.json").read_text())["data"]
    chain = [manifest for _, manifest in committed_chain(left.path / "rounds", data)]
    assert [m["round"] for m in chain] == list(range(len(whole.rounds)))
    assert damaged_file(left.rounds[-1], chain[-1]["files"]) == ""
    return left


def test_a_run_on_a_real_store_is_the_run_on_a_folder_and_is_asked_there(
    place: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    play(place)
    left = assert_whole(place, tmp_path / "copy", undisturbed("glister"))
    for words in (["report", place], ["explain", place, "--id", str(left.ids[0][0])]):
        assert call(words)[0] == 0
    assert f"{left.ids[0][0]}" in capsys.readouterr().out
    assert call(["export", place, "--output", str(tmp_path / "ids.txt")])[0] == 0
    assert (tmp_path / "ids.txt").read_text().split() == [str(i) for i in left.ids[-1]]
    chosen = ["select", "--local", "--checkpoint", place, "--run-dir", str(tmp_path / "next")]
    assert call(chosen)[0] == 0
    assert read_table(tmp_path / "next" / "selection.parquet").num_rows == len(left.ids[-1])


@pytest.fixture(scope="module")
def kill(server: S3Server) -> Generator[Callable[..., bool]]:
    with reaper() as function:  # one that has the credentials
        yield function


@pytest.mark.parametrize("point", ["selection.made", "history.written", "manifest.written"])
def test_f06_a_driver_killed_with_its_run_on_a_real_store_goes_on_there(
    point: str,
    kill: Callable[..., bool],
    place: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
):
    assert kill(Job(options=BLOCKS, place=place), Death(at=point, count=2)), "it ended before that"
    play(place, resume=True)
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))


# ---- a store in trouble


def test_f22_slow_downs_and_cut_connections_are_waited_out_and_change_nothing(
    server: S3Server, place: str, undisturbed: Callable[[str], Left], tmp_path: Path
):
    draw = random.Random(0)

    def now_and_then(verb: str, path: str) -> Any:
        return draw.choice((SLOW_DOWN, cut)) if draw.random() < 0.2 else None

    server.meet = now_and_then
    play(place)
    server.meet = lambda verb, path: None
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))


def test_f22_a_request_without_an_answer_is_given_up_and_sent_again(
    server: S3Server, place: str, undisturbed: Callable[[str], Left], tmp_path: Path
):
    over, seen = threading.Event(), list[str]()

    def first(verb: str, path: str) -> Any:
        if verb == "PUT" and path.endswith("0001/MANIFEST.json"):
            seen.append(path)
            return held(over) if len(seen) == 1 else None
        return None

    server.meet = first
    play(place)
    over.set()
    assert len(seen) == 2
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))


@pytest.mark.parametrize(
    ("bucket", "answer", "remedy"),
    [
        ("there", refused("403 Forbidden", "AccessDenied"), "check the credentials"),
        ("nowhere", None, "make the bucket"),
    ],
)
def test_f22_a_cause_that_lasts_ends_a_run_at_its_first_request_before_any_work(
    bucket: str,
    answer: Any,
    remedy: str,
    server: S3Server,
    place: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("raysubset.preparation.prepare", lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr(remote.time, "sleep", lambda _: pytest.fail("it was tried again"))
    where = place if bucket == "there" else server.address("nowhere/run")
    server.meet = lambda verb, path: answer
    assert call(["run", "--local", "--run-dir", where])[0] == 2
    told = capsys.readouterr().err
    assert remedy in told and where.partition("?")[0] in told


def test_f22_a_server_that_is_gone_for_a_while_costs_a_run_nothing_but_time(
    server: S3Server,
    place: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """It is started again by the first who waits for it."""
    waited = list[float]()

    def sleep(wait_s: float) -> None:
        waited.append(wait_s)
        if server._thread is None:
            server.start()

    def gone(_: int, name: str) -> None:
        if name == "done" and watch.names.count("done") == 1:
            monkeypatch.setattr(remote.time, "sleep", sleep)
            server.stop()

    watch = Watcher(gone)
    play(place, watch=watch)
    assert waited
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))


def test_f22_a_server_that_stays_away_ends_the_run_at_the_deadline_and_it_is_resumed(
    server: S3Server,
    place: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for module, name in ((remote, "RETRY_S"), (staging, "LAST_WORD_S"), (mirror, "TRY_S")):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(owner, "BEAT_S", 0.1)

    def gone(_: int, name: str) -> None:
        if name == "done" and watch.names.count("done") == 2:
            server.stop()

    watch = Watcher(gone)
    with pytest.raises(RunFolderError, match=r"when it answers again, .* --resume"):
        play(place, watch=watch)
    server.start()
    play(place, resume=True)
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))


# ---- two writers


def test_f26_a_writer_that_wakes_up_after_it_was_taken_over_commits_nothing_more(
    server: S3Server,
    place: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The first stands still in the middle of an upload, as a machine does that is suspended."""
    monkeypatch.setattr(owner, "WATCH_S", 4.0)
    uploading, go_on = threading.Event(), threading.Event()
    victim = "0001/metrics.json"

    def meet(verb: str, path: str) -> Any:
        if verb == "PUT" and path.endswith(victim) and not uploading.is_set():
            uploading.set()
            return held(go_on, SLOW_DOWN)
        return None

    server.meet = meet
    (file := tmp_path / "experiment.yaml").write_text(experiment(**BLOCKS).to_yaml())
    first = subprocess.Popen(
        [sys.executable, "-m", "raysubset.cli", "run", str(file), "--local", "--run-dir", place],
        env=os.environ | {"TMPDIR": str(tmp_path)},  # as if it were another machine
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert uploading.wait(180)
        with pytest.raises(RunFolderError) as refusal:
            play(place, resume=True)
        assert f"in use by process {first.pid} on {socket.gethostname()}" in str(refusal.value)
        os.kill(first.pid, signal.SIGSTOP)
        told: list[tuple[str, list[tuple[str, str]]]] = []

        def wake(_: int, name: str) -> None:
            last = watch.names.count("started") == 2 and not told
            if name == "training" and last:  # the round before is committed
                before = len(server.requests)
                go_on.set()
                os.kill(first.pid, signal.SIGCONT)
                told.append((first.communicate(timeout=180)[1], server.requests[before:]))

        watch = Watcher(wake)
        play(place, resume=True, watch=watch)
    finally:
        go_on.set()
        first.kill()
        first.wait()
    (words, since), *_ = told
    assert first.returncode == 2
    assert f"taken over by process {os.getpid()} on {socket.gethostname()}" in words
    assert not [path for verb, path in since if verb == "PUT" and path.endswith(victim)]
    assert_whole(place, tmp_path / "copy", undisturbed("glister"))
