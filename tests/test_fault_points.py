"""A run that dies once at every fault point, and what the run that goes on with it leaves."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import raysubset
from raysubset import faultpoints
from raysubset.cli import call
from raysubset.errors import ConfigError
from raysubset.faultpoints import POINTS, VARIABLE, arm
from raysubset.storage import owner
from tests.killed_runs import Death, Job, mirrored
from tests.small_runs import BLOCKS, COMMAND, Left, assert_same_run

KINDS: dict[str, dict[str, Any]] = {
    "folder": {"options": BLOCKS},
    "ahead": {"options": BLOCKS | {"selection__overlap": True}},
    "store": {"options": BLOCKS},
    "command": {"words": COMMAND},
    "recovery": {"options": BLOCKS},
}
"""The runs that together reach all points; a recovery is the second start of a killed run."""
FIRST_DEATH = Death(at="commit.state", count=2)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wait for no disk and no other owner; keep temporary folders where they are counted."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(owner, "SETTLE_S", 0.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def kind_of(point: str) -> str:
    """Return which run reaches a point."""
    kinds = {"upload": "store", "mirror": "store", "report": "command"}
    family = point.partition(".")[0]
    return family if family in KINDS and family != "folder" else kinds.get(family, "folder")


def job_of(kind: str, folder: Path) -> Job:
    place = f"file://{folder}" if kind == "store" else str(folder)
    return Job(place=place, temporary=tempfile.gettempdir(), **KINDS[kind])


@dataclass(frozen=True)
class Undisturbed:
    """What a run left, and the points that it came to, in their order."""

    left: Left
    reached: list[str]


@contextmanager
def told() -> Generator[list[str]]:
    """Give the points that are reached meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        reached = list[str]()
        patch.setattr(faultpoints, "_told", reached.append)
        yield reached


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, kill: Callable[[Job, Death], bool]
) -> Callable[[str], Undisturbed]:
    @cache
    def of(kind: str) -> Undisturbed:
        folder = tmp_path_factory.mktemp(kind) / "run"
        job = job_of(kind, folder)
        if kind == "recovery":
            assert kill(job, FIRST_DEATH)
        with told() as reached, mirrored(job.place):
            job.run()
        return Undisturbed(Left(folder), reached)

    return of


def tree(folder: Path) -> set[str]:
    """Return the files of a run folder; event files have names of their own."""
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {n for n in names if not n.startswith("tensorboard/") and n != ".lock"}


def test_points_in_the_code_and_points_in_the_list_are_the_same():
    found = list[str]()
    for path in Path(raysubset.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reach":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a name is written out"
                found.append(node.args[0].value)
    assert sorted(found) == sorted(POINTS)  # each at one place


BESIDE = (
    *("choice.half", "round.settled", "ahead.made", "ahead.written", "round.appended"),
    *("commit.state", "history.written", "manifest.written", "partial.dropped", "file.written"),
)
"""Points that mean something else where the next choice is made beside training."""
CASES = [(kind_of(p), p) for p in POINTS] + [("ahead", p) for p in BESIDE if kind_of(p) != "ahead"]


@pytest.mark.parametrize(("kind", "point"), CASES)
def test_f06_driver_killed_at_a_fault_point_resumes_as_if_it_never_was(
    kind: str,
    point: str,
    kill: Callable[[Job, Death], bool],
    whole: Callable[[str], Undisturbed],
    tmp_path: Path,
):
    undisturbed = whole(kind)
    times = undisturbed.reached.count(point)
    assert times > 0, f"no run comes to {point}"
    for count in moments(kind, point, times):
        folder = tmp_path / f"at-{count}"
        job = job_of(kind, folder)
        assert kind != "recovery" or kill(job, FIRST_DEATH)
        assert kill(job, Death(at=point, count=count)), "the run ended before that moment"
        job.run()
        left = Left(folder)
        assert_same_run(left, undisturbed.left)
        assert tree(folder) == tree(undisturbed.left.path)
        lines = (folder / "history.jsonl").read_text().splitlines()
        assert len(lines) == len(left.history) == len({*map(_who, left.history)})
        assert not [p for p in Path(tempfile.gettempdir()).rglob("*") if p.is_file()]


def moments(kind: str, point: str, times: int) -> list[int]:
    """Return at which of its times a run dies at a point.

    Files become visible one by one, and each is a seam. What comes once a round is met in the
    second of three; what comes more often is met in the last, too.
    """
    if (kind, point) == ("folder", "file.written"):
        return list(range(1, times + 1))
    return sorted({(times + 1) // 2, times} if times > 3 else {(times + 1) // 2})


def _who(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["kind"], line["round"], line.get("epoch")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("manifest.writen", "names no fault point; choose one of .*manifest.written"),
        ("manifest.written@0", "a count is a number from 1"),
        ("manifest.written@", "a count is a number from 1"),
        ("manifest.written@two", "a count is a number from 1"),
    ],
)
def test_a_fault_that_cannot_happen_is_refused_before_any_work(
    asked: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    with pytest.raises(ConfigError, match=said):
        arm({VARIABLE: asked})
    monkeypatch.setenv(VARIABLE, asked)
    monkeypatch.chdir(tmp_path)  # where people test, they may have run it before
    assert call(["run", "--local"])[0] == 2
    assert f"error: {VARIABLE}={asked}" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_f06_the_command_is_killed_as_it_is_typed_and_goes_on_in_its_own_words(
    whole: Callable[[str], Undisturbed], tmp_path: Path
):
    """A process of its own: nothing is patched, and nothing is warm."""
    words = [sys.executable, "-m", "raysubset.cli", *COMMAND, "--run-dir", str(tmp_path / "run")]
    clean = {k: v for k, v in os.environ.items() if k != VARIABLE}
    asked = clean | {VARIABLE: "choice.written@2", "TMPDIR": tempfile.gettempdir()}
    died = subprocess.run(words, env=asked, capture_output=True, text=True)
    assert died.returncode == -9, died.stderr
    assert [p.parent.name for p in tmp_path.rglob("rounds/*/MANIFEST.json")] == ["0000"]
    assert call([*words[3:]])[0] == 2  # not by itself
    again = subprocess.run([*words, "--resume"], env=clean, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert_same_run(Left(tmp_path / "run"), whole("command").left)
    assert tree(tmp_path / "run") == tree(whole("command").left.path)
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert f"{100 * result['test_accuracy']:.1f} %" in again.stdout
