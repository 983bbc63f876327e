"""Clocks: what the wall clock says is for people; nothing is ordered, leased or timed by it."""

from __future__ import annotations

import ast
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import raysubset
from raysubset.local_run import run_local
from raysubset.records import read_history
from tests.small_runs import BLOCKS, Left, assert_same_run, prepared

ROOT = Path(raysubset.__file__).parent
WALL = {"time", "time_ns", "ctime", "localtime", "gmtime", "strftime", "asctime"}
NOW = {"now", "utcnow", "today"}
MTIME = {"st_mtime", "st_mtime_ns", "mtime", "mtime_ns", "getmtime"}
STAMPS = {
    ("surroundings.py", "environment"): "environment.json says when the process started",
    ("storage/owner.py", "mine"): "an owner says since when, for whoever is refused",
    ("tracking/event_files.py", "begin"): "TensorBoard shows the start of a session",
    ("tracking/event_files.py", "_new_name"): "TensorBoard's files are named so",
    ("tracking/tracker.py", "time_of"): "trackers show when a round was committed",
    ("timeline.py", "start"): "a report draws the gaps between the processes of one run",
    ("storage/staging.py", "_stamp"): "a file that is changed has another; no order follows",
    ("storage/remote.py", "_stamp"): "an object that is changed has another; no order follows",
    ("verifying/examination.py", "_state"): "a manifest that is changed has another",
    ("cluster/trial_actor.py", "setup"): "seconds_start, between two machines; charged to nobody",
    ("cluster/sweeping.py", "shared_by"): "seconds_start, between two machines; charged to nobody",
}
"""(module, function) that may read the wall clock, and what for."""


def wall_clocks(tree: ast.Module) -> set[str]:
    """Return the names of the functions in which the wall clock is read."""
    found = set[str]()
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in WALL
    }

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Name) and node.id in imported:
            found.add(function)
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            now = owner.rpartition(".")[2] in ("datetime", "date") and node.attr in NOW
            if now or (owner == "time" and node.attr in WALL) or node.attr in MTIME:
                found.add(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, "")
    return found


def test_f33_the_wall_clock_is_read_for_stamps_alone():
    places = {
        (str(path.relative_to(ROOT)), function)
        for path in sorted(ROOT.rglob("*.py"))
        for function in wall_clocks(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert places == STAMPS.keys()


@pytest.mark.parametrize(
    "text",
    [
        "import time\ndef f():\n    return time.time() - 3",
        "from time import time as now\ndef f():\n    return now()",
        "import datetime\ndef f():\n    return datetime.datetime.now(datetime.UTC)",
        "from datetime import datetime\ndef f():\n    return datetime.utcnow",
        "import time\ndef f():\n    read = time.time_ns",
        "def f(path):\n    return path.stat().st_mtime",
    ],
)
def test_the_search_for_wall_clocks_finds_one(text: str):
    assert wall_clocks(ast.parse(text)) == {"f"}


def test_f33_a_clock_that_jumps_changes_no_id_and_no_duration(
    undisturbed: Callable[[str], Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    jumps = itertools.cycle([0.0, 4e9, 1.0, 2e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(jumps) * 1e9))
    run_local(prepared(**BLOCKS), tmp_path / "run")
    left = Left(tmp_path / "run")
    assert_same_run(left, undisturbed("glister"))
    durations = [
        value
        for line in read_history(left.path)
        for name, value in line.items()
        if name.startswith("seconds_") and isinstance(value, float)
    ]
    assert durations and all(0 <= value < 600 for value in durations)
