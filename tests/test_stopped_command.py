"""Ctrl-C and SIGTERM on the command line: an exit code, the words to go on with, nothing left over.

The signal comes at a fault point, in whatever thread that is; the main thread hears it.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path

import pytest

from raysubset import faultpoints
from raysubset.cli import call
from raysubset.ledger import Ledger
from raysubset.storage import owner
from tests.small_runs import COMMAND, Left, assert_same_run

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
NOT_BEGUN = "error: stopped before anything was begun. To begin:"
PATIENCE_S = 60.0
STOPS = [
    *("folder.taken int", "file.written term", "selection.range int", "selection.greedy term"),
    *("choice.half int", "epoch.trained term", "epoch.state int", "state.half term"),
    *("commit.begun int", "history.written term", "manifest.written int", "result.written term"),
    *("report.plots int", "store upload.begun term", "store upload.done int"),
]
"""Fault point and signal, one at each seam; in a store where that is said."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[None]:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(owner, "SETTLE_S", 0.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    # A shell's `pytest &` ignores Ctrl-C for all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stop_at(point: str, number: int, what: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    times = count(1)

    def told(reached: str) -> None:
        if reached == point and next(times) == number:
            os.kill(os.getpid(), what)

    monkeypatch.setattr(faultpoints, "_told", told)


def nothing_is_left(folder: Path) -> None:
    for thread in threading.enumerate():
        if thread.name.split("_")[0] in ("ledger", "checkpoint", "mirror"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), thread
    assert not [p for p in folder.rglob(".*") if p.is_file() and p.name != ".lock"]
    assert not [p for p in Path(tempfile.gettempdir()).rglob("*") if p.is_file()]


@pytest.mark.parametrize("stop", STOPS)
def test_f09_a_command_that_is_stopped_leaves_nothing_over_and_goes_on_in_the_words_it_printed(
    stop: str,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    *store, point, name = stop.split()
    what, folder = signal.Signals[f"SIG{name.upper()}"], tmp_path / "run"
    place = f"file://{folder}" if store else str(folder)
    words = [*COMMAND, "--run-dir", place]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["raysubset", *words])
        stop_at(point, 1, what, patch)
        assert call(words)[0] == CODES[what]
    first, command = capsys.readouterr().err.strip().splitlines()
    begun = (folder / "experiment.yaml").is_file()
    assert first.startswith("error: stopped; rounds whose checkpoint" if begun else NOT_BEGUN)
    nothing_is_left(folder)
    again = shlex.split(command)
    assert again == ["raysubset", *words, *["--resume"] * begun]
    assert call(again[1:])[0] == 0
    assert_same_run(Left(folder), undisturbed("glister"))
    nothing_is_left(folder)


def test_f09_a_comparison_that_is_stopped_at_its_reports_goes_on_in_the_words_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "compared"
    words = ["compare", *COMMAND[1:], "--run-dir", str(folder)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["raysubset", *words])
        stop_at("report.begun", 1, signal.SIGINT, patch)
        assert call(words)[0] == CODES[signal.SIGINT]
    again = shlex.split(capsys.readouterr().err.strip().splitlines()[-1])
    assert again == ["raysubset", *words, "--resume"]
    assert not [*folder.rglob("report.html")]
    assert call(again[1:])[0] == 0
    assert (folder / "report.html").is_file()
    nothing_is_left(folder)


@pytest.mark.parametrize("verb", ["run", "compare"])
def test_f09_a_command_that_is_stopped_before_its_folder_is_begun_begins_in_the_words_it_printed(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Starting Ray takes half a minute, and then a person thinks again."""

    def start(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "run"
    words = [verb, *COMMAND[1:], "--run-dir", str(folder)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["raysubset", *words])
        patch.setattr(Ledger, "open", start)
        assert call(words)[0] == CODES[signal.SIGINT]
    first, command = capsys.readouterr().err.strip().splitlines()
    assert first == NOT_BEGUN
    again = shlex.split(command)
    assert again == ["raysubset", *words]
    assert call(again[1:])[0] == 0
    nothing_is_left(folder)


@pytest.mark.parametrize("what", CODES)
def test_f09_a_command_that_is_stopped_while_it_reads_its_data_leaves_nothing_at_all(
    what: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Behind a URI: what stands in for it here was made before the data are read."""

    def stopped(*_: object, **__: object) -> None:
        os.kill(os.getpid(), what)

    monkeypatch.setattr("raysubset.preparation.load_sources", stopped)
    before = signal.getsignal(signal.SIGTERM)
    words = [*COMMAND, "--run-dir", f"file://{tmp_path / 'run'}"]
    assert call(words)[0] == CODES[what]
    said = {signal.SIGINT: "error: interrupted.\n", signal.SIGTERM: "error: terminated.\n"}
    assert capsys.readouterr().err == said[what]
    nothing_is_left(tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is before
