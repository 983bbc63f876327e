"""A process that is told to stop: once in good order, three times at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from raysubset.stopping import HINT

WAIT_S = 60
STORY = """
import signal, sys, time
from pathlib import Path
from raysubset.errors import Stopped
from raysubset.files import write_atomically
from raysubset.stopping import terminable

def write(temporary):
    temporary.write_text("half")
    print("writes", flush=True)
    for line in sys.stdin:  # goes on when it is told to
        break
    temporary.write_text("whole")

signal.signal(signal.SIGINT, signal.SIG_IGN if "nohup" in sys.argv else signal.default_int_handler)
try:
    with terminable():
        try:
            print("works", flush=True)
            time.sleep(60)
        finally:
            write_atomically(Path(sys.argv[1], "file"), write)
except Stopped as error:
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def story(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[subprocess.Popen[str]]:
    more = getattr(request, "param", [])
    with subprocess.Popen(
        [sys.executable, "-c", STORY, str(tmp_path), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def until_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n"


def until_hint(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    assert process.stderr.readline() == f"{HINT}\n"


def stopped_twice(story: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal while it works, and another while it ends in good order."""
    until_line(story, "works")
    story.send_signal(number)
    until_line(story, "writes")
    story.send_signal(number)
    until_hint(story)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_f09_the_first_signal_ends_in_good_order_and_a_second_does_not_cut_that_off(
    story: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
):
    stopped_twice(story, number)
    story.communicate("go on\n", timeout=WAIT_S)
    assert story.returncode == code
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "whole")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_f09_the_third_signal_ends_at_once(
    story: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, code: int
):
    stopped_twice(story, number)
    story.send_signal(number)  # nobody tells it to go on
    assert story.wait(WAIT_S) == code
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("story", [["nohup"]], indirect=True)
def test_a_ctrl_c_that_was_ignored_at_the_start_stays_ignored(
    story: subprocess.Popen[str], tmp_path: Path
):
    until_line(story, "works")
    story.send_signal(signal.SIGINT)
    story.terminate()
    until_line(story, "writes")
    story.communicate("go on\n", timeout=WAIT_S)
    assert story.returncode == 75
