"""The two halves of .ci/run: together they run every test but the long ones; either can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HALVES = Path(__file__).parents[1] / ".ci" / "halves.py"
TESTS = """
import pytest

@pytest.mark.ray
def test_on_ray(): {ray}

@pytest.mark.slow
@pytest.mark.ray
def test_slowly_on_ray(): pass

@pytest.mark.slow
def test_slowly(): pass

@pytest.mark.long
def test_for_minutes(): assert False

@pytest.mark.ray
@pytest.mark.long
def test_for_minutes_on_ray(): assert False

def test_here(): {rest}
"""


def halves(folder: Path, *words: str, limit_s: float = 3600, **bodies: str) -> tuple[int, str]:
    """Run the halves on six tests; return their exit code and what they printed."""
    (folder / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n    ray: r\n    slow: s\n    long: l\n"
    )
    (folder / "test_four.py").write_text(TESTS.format(**{"ray": "pass", "rest": "pass"} | bodies))
    command = [sys.executable, str(HALVES), "-v", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"HALVES_LIMIT_S": str(limit_s), "HALVES_LAST_WORDS_S": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_test_but_a_long_one_runs_once_in_one_half_or_the_other(tmp_path: Path):
    code, told = halves(tmp_path)
    assert code == 0, told
    passed = [line.split()[0:3:2] for line in told.splitlines() if " PASSED" in line]
    assert sorted(passed) == [
        ["ray", "test_four.py::test_on_ray"],
        ["ray", "test_four.py::test_slowly_on_ray"],
        ["rest", "test_four.py::test_here"],
        ["rest", "test_four.py::test_slowly"],
    ]


@pytest.mark.parametrize("half", ["ray", "rest"])
def test_a_failure_in_either_half_is_shown_and_fails_the_run(tmp_path: Path, half: str):
    code, told = halves(tmp_path, limit_s=600, **{half: "assert 'this' == 'that'"})
    assert code == 1, told
    assert f"{half:4} | E   " in told
    assert "==== both: " in (last := told.splitlines()[-1])
    assert "1 failed" in last and "3 passed" in last


def test_a_half_that_is_killed_fails_the_run(tmp_path: Path):
    code, told = halves(tmp_path, ray="import os; os.kill(os.getpid(), 9)")
    assert code != 0, told
    assert "rest | " in told and "2 passed" in told


@pytest.mark.parametrize("how", ["time.sleep(600)", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_a_half_that_hangs_is_ended_says_where_it_stood_and_fails_the_run(tmp_path: Path, how: str):
    code, told = halves(tmp_path, rest=f"import os, signal, time; {how}", limit_s=8)
    assert code != 0, told
    assert "rest | not done within 8 s" in told and "2 passed" in told.splitlines()[-1]
    if "sleep" in how:
        assert "in test_here" in told


def test_a_half_that_leaves_something_running_does_not_hold_up_the_end(tmp_path: Path):
    left = "if config.option.markexpr.startswith('ray'): subprocess.Popen(['sleep', '60'])"
    conftest = f"import subprocess\ndef pytest_unconfigure(config):\n    {left}\n"
    (tmp_path / "conftest.py").write_text(conftest)
    code, told = halves(tmp_path, "-s")  # uncaptured: what is left has the half's own output
    assert code == 0, told
    assert "4 passed" in told.splitlines()[-1]


def test_one_half_may_have_nothing_to_do_but_not_both(tmp_path: Path):
    assert halves(tmp_path, "-k", "here")[0] == 0
    assert halves(tmp_path, "-k", "nowhere")[0] == 5
