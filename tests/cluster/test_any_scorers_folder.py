"""F34: whole runs whose rows are scored by 1, 2, 3 or 7 scorers leave the folder of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.soaks.folders import differences
from raysubset import local_run
from raysubset.cluster.blocks import Blocks
from raysubset.cluster.ports import RayPool
from tests.cluster.test_any_scorers import SIZES, Calls, started
from tests.small_runs import RUNS, play, prepared

OPTIONS = {**RUNS["glister"], **SIZES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    play(prepared(**OPTIONS), folder)
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_f34_a_run_whose_rows_are_scored_by_any_number_of_scorers_leaves_the_same_folder(
    count: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = Calls(count, lost=0.2)
    local_ports = local_run.local_ports

    def ports(problem: Any, chooser: Any, *args: Any, progress: Any, **how: Any) -> tuple[Any, Any]:
        _, trainer = local_ports(problem, chooser, *args, progress=progress, **how)
        held = Blocks(problem.parts, problem.scoring_batch, calls.put, 1 << 12)
        scorers = started(monkeypatch, calls, count, problem)
        return RayPool("run", chooser, held, trainer, scorers, progress), trainer

    monkeypatch.setattr(local_run, "local_ports", ports)
    play(prepared(**OPTIONS), tmp_path / "run")
    assert calls.losses  # or the law would be of undisturbed scorers alone
    assert differences(whole, tmp_path / "run", across=True) == []
