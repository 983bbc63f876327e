"""Real finished runs, small enough to make once for all tests of reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from raysubset.engine import Outcome
from raysubset.experiment import Experiment
from raysubset.learn.data import Dataset
from raysubset.local_run import run_local
from raysubset.preparation import for_strategy, prepare

STRATEGIES = ("glister", "adaptive-random", "full-compressed")
OPTIONS = {
    "data": {"format": "digits", "limit": 200},
    "model": {"name": "mlp"},
    "selection": {"fraction": 0.25, "select_every": 2},
    "training": {"epochs": 6, "batch_size": 16},
    "resources": {"workers": 1},
}


@dataclass(frozen=True)
class Runs:
    """Finished runs of one comparison; not to be written to."""

    folders: dict[str, Path]
    outcomes: list[Outcome]
    pool: Dataset


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    ready = prepare(Experiment.of(OPTIONS))
    folders = {name: root / name for name in STRATEGIES}
    outcomes = [run_local(for_strategy(ready, name), path) for name, path in folders.items()]
    return Runs(folders, outcomes, ready.problem.parts.pool)


@pytest.fixture
def copy_of(runs: Runs, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a run, for a test that writes to it."""

    def copy(strategy: str) -> Path:
        return Path(shutil.copytree(runs.folders[strategy], tmp_path / strategy))

    return copy


@pytest.fixture
def glister_run(copy_of: Callable[[str], Path]) -> Path:
    return copy_of("glister")
