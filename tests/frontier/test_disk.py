"""A frontier counts its disk before it runs, and what it counts covers what it leaves."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from raysubset.cli import call
from raysubset.frontier.disk import bytes_needed, check_disk
from raysubset.frontier.sweep import Sweep, check_sweep
from raysubset.frontier.trial import Data
from tests.frontier.sweeps import sweep

Usage = namedtuple("Usage", "total used free")


def test_a_frontier_leaves_no_more_than_was_counted(whole: Sweep, tmp_path: Path):
    ready = sweep(tmp_path / "f")
    needed = bytes_needed(ready.planned, check_sweep(ready, Data(ready.base)), 1)
    assert [t.name for t in ready.planned] == [t.name for t in whole.planned]
    left = sum(p.stat().st_size for p in whole.folder.rglob("*") if p.is_file())
    assert left <= needed


def test_more_trials_need_more(tmp_path: Path):
    few, many = (sweep(tmp_path / "f", settings={"seeds": n}) for n in (3, 6))
    first = check_sweep(few, Data(few.base))
    assert bytes_needed(few.planned, first, 1) < bytes_needed(many.planned, first, 1)
    assert bytes_needed([], first, 4) == 0


def test_a_full_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 9, 1000))
    words = ["frontier", "--local", "--fractions", "0.5", "--data.limit", "200"]
    code, _ = call([*words, "--run-dir", str(tmp_path / "f")])
    told = capsys.readouterr().err
    assert code == 2
    assert "0.0 MB are free" in told and "make room" in told
    assert not (tmp_path / "f").exists()


def test_room_enough_is_no_error(tmp_path: Path):
    check_disk(tmp_path / "not" / "there", 1)
