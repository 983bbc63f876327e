"""The command line on a private Ray, as a person and a scheduler use it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from raysubset.answers import committed_rounds
from raysubset.cli import call
from tests.cluster.crews import checkpoints, until
from tests.cluster.process_tree import all_processes, descendants
from tests.small_runs import Left

ROOT = Path(__file__).parents[2]
WAIT_S = 400
OPTIONS = (
    "--data digits --data.limit 300 --epochs 80 --selection.select_every 20 "
    "--model.name tests.cluster.marked:marked --resources.start_timeout_s 240 "
    "--resources.keep_checkpoints 9 --resources.scorers 1"
)
pytestmark = [pytest.mark.ray, pytest.mark.slow]
Mark = Callable[..., None]
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def heard() -> Generator[None]:
    """Let Ctrl-C reach what is started here, though a shell's `pytest &` ignores it for all.

    In the end no process of what was started is left, whatever happened.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    while STARTED:
        with STARTED.pop() as process:
            kill_group(process.pid)


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start the command, with its temporary files in a folder of their own."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    (folder / "tmp").mkdir(exist_ok=True)
    own = {
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
        "TMPDIR": str(folder / "tmp"),
        "RAY_TMPDIR": "/tmp",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "raysubset.cli", *words],
        cwd=ROOT,  # the model is imported from here
        env=environment | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end."""
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def until_line(process: subprocess.Popen[str], start: str) -> str:
    """Return what was printed up to a line that starts so."""
    told = ""
    assert process.stdout is not None
    for line in process.stdout:
        told += line
        if line.startswith(start):
            return told
    pytest.fail(f"no line {start!r} came: {told}{process.stderr.read() if process.stderr else ''}")


def words_of(folder: Path) -> list[str]:
    return ["run", *OPTIONS.split(), "--run-dir", str(folder)]


def nothing_is_left(processes: set[tuple[int, str]], folder: Path) -> None:
    """Fail where one of these processes goes on, or a temporary file is left."""
    until(lambda: not (processes & all_processes()), "every process of the run is gone")
    assert not [path for path in (folder / "tmp").rglob("*") if path.is_file()]


def test_f08_f09_a_run_on_a_private_ray_is_stopped_in_every_way_and_ends_as_if_it_never_was(
    tmp_path: Path, mark: Mark, marks: Path, capsys: pytest.CaptureFixture[str]
):
    # Undisturbed, in this process: what a private Ray must give too, stopped or not.
    code, _ = call([*words_of(tmp_path / "twin"), "--local"])
    assert code == 0, capsys.readouterr()
    twin = Left(tmp_path / "twin")

    # Ctrl-C in training, as a terminal gives it: to the whole group.
    mark("rank0-training-slow")
    folder = tmp_path / "ray"
    process = start(words_of(folder), tmp_path)
    told = until_line(process, "glister round 0:")
    its_own = descendants(process.pid)
    assert len(its_own) > 5  # Ray's
    os.killpg(process.pid, signal.SIGINT)
    code, out, err = ended(process)
    assert code == 130, told + out + err
    command = resume_command(err)
    assert "Traceback" not in told + out + err
    assert committed_rounds(folder) in ([0], [])
    assert not (folder / ".ray").exists()
    nothing_is_left(its_own, tmp_path)

    # Its own words go on; SIGTERM, as a scheduler gives it: to the driver.
    process = start(command[1:], tmp_path)
    told = until_line(process, "glister round 1:")
    its_own = descendants(process.pid)
    process.terminate()
    code, out, err = ended(process)
    assert code == 75, told + out + err
    assert resume_command(err) == command
    assert "Traceback" not in told + out + err
    assert Left(folder).result is None
    nothing_is_left(its_own, tmp_path)

    # Three times Ctrl-C, of somebody who cannot wait: at once, as a kill would.
    process = start(command[1:], tmp_path)
    told = until_line(process, "glister round ")
    left_over = descendants(process.pid)
    while process.poll() is None:  # two that come at the same time are heard as one
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.2)
    code, out, err = ended(process)
    assert code == 130, told + out + err
    assert "Traceback" not in told + out + err

    # Who cannot wait goes on at once, too, though Ray's own processes take a minute to notice.
    (marks / "rank0-training-slow").unlink()
    process = start(command[1:], tmp_path)
    code, out, err = ended(process)
    assert code == 0, out + err
    assert err == ""
    assert re.search(r"^glister +10 % ", out, re.MULTILINE)
    assert f"run folder: {folder}" in out
    left = Left(folder)
    assert (left.ids, left.gains) == (twin.ids, twin.gains)
    assert checkpoints(left) == checkpoints(twin)
    assert left.result == twin.result is not None
    for name in ("report.html", "report.md", "history.jsonl", "parts.parquet"):
        assert (folder / name).stat().st_size > 0
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]
    nothing_is_left(left_over, tmp_path)


def resume_command(err: str) -> list[str]:
    lines = err.strip().splitlines()
    assert lines[-2].startswith(
        "error: stopped; rounds whose checkpoint was committed are kept."
    ), err
    command = shlex.split(lines[-1])
    assert command[:2] == ["raysubset", "run"]
    assert command[-1] == "--resume"
    return command


def test_a_frontier_that_is_terminated_keeps_its_trials_and_goes_on_without_ray(
    tmp_path: Path, mark: Mark, marks: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "frontier"
    words = (
        "frontier --data digits --data.limit 200 --epochs 6 --selection.select_every 3 --fractions "
        "0.2,0.4 --strategies glister --seeds 1 --max-drop none --no-controls "
        "--model.name tests.cluster.marked:marked"
    )
    mark("scorer-training-slow")
    process = start([*words.split(), "--run-dir", str(folder)], tmp_path)
    told = until_line(process, "1/3 ")
    process.terminate()
    code, out, err = ended(process)
    assert code == 75, told + out + err
    assert "Traceback" not in told + out + err
    command = shlex.split(err.strip().splitlines()[-1])
    assert command[:2] == ["raysubset", "frontier"] and command[-1] == "--resume"
    assert not (folder / ".tune").exists()

    (marks / "scorer-training-slow").unlink()
    code, _ = call([*command[1:], "--local"])
    out, err = capsys.readouterr()
    assert code == 0, out + err
    assert re.search(r", [12] left to run, ", out)  # another may have ended before the signal
    assert len(list(folder.glob("trials/*/result.json"))) == 3
