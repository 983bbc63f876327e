"""F18: data that changed between a start and its resume are refused, with what changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysubset.cli import call
from tests.killed_runs import Death, Job
from tests.small_runs import Left, assert_same_run

ROWS = 160
WORDS = (
    "run --local --model.name mlp --epochs 4 --selection.select_every 2 --fraction 0.3 "
    "--training.batch_size 16 --data.label_column label"
).split()
Rows = list[list[str]]


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def rows() -> Rows:
    draw = np.random.default_rng(0)
    made = [[f"{x:.4f}" for x in draw.normal(size=3)] for _ in range(ROWS)]
    return [[*row, str(index % 4)] for index, row in enumerate(made)]


def write(path: Path, lines: Rows) -> None:
    path.write_text("\n".join(map(",".join, [["a", "b", "c", "label"], *lines])) + "\n")


def relabelled(lines: Rows) -> Rows:
    return [[*row[:3], "0"] if i == 7 else row for i, row in enumerate(lines)]


def edited(lines: Rows) -> Rows:
    return [["9.5", *row[1:]] if i == 7 else row for i, row in enumerate(lines)]


CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "label": (relabelled, "rows: 1 of 160 have another label, first id 7: 3 -> 0"),
    "value": (edited, "rows: ids, labels and keys are the same, so contents differ"),
    "order": (lambda lines: lines[::-1], "have another label"),
    "added": (lambda lines: [*lines, ["0.1", "0.2", "0.3", "1"]], "rows: 0 are gone, 1 are new"),
    "removed": (lambda lines: lines[:-2], "rows: 2 are gone, 0 are new"),
}


@pytest.fixture(scope="module")
def begun(
    tmp_path_factory: pytest.TempPathFactory, kill: Callable[[Job, Death], bool]
) -> Callable[[str], tuple[Path, Path]]:
    """Give (data, run folder) of a run that was killed in its second round, and ran undisturbed."""

    def start(name: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(name)
        write(folder / "data.csv", rows())
        words = [*WORDS, "--data", str(folder / "data.csv")]
        assert call([*words, "--run-dir", str(folder / "whole")])[0] == 0
        job = Job(words=words, place=str(folder / "run"))
        assert kill(job, Death(at="choice.written", count=2))
        return folder / "data.csv", folder / "run"

    return start


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_f18_changed_data_are_refused_with_what_changed_and_cost_nothing(
    begun: Callable[[str], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
):
    data, folder = begun("changed")
    words = [*WORDS, "--data", str(data), "--run-dir", str(folder), "--resume"]
    before = content(folder)
    for name, (change, said) in CHANGES.items():
        write(data, change(rows()))
        capsys.readouterr()
        assert call(words)[0] == 2, name
        error = capsys.readouterr().err
        assert f"run folder {folder} belongs to another run, so it cannot be resumed:" in error
        assert "\n  data data: " in error and said in error, name
        assert content(folder) == before, name
    write(data, rows())  # put back: it goes on as if nothing had been
    assert call(words)[0] == 0
    assert_same_run(Left(folder), Left(folder.parent / "whole"))
