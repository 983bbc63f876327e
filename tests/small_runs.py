"""Whole runs small enough for a test: 200 digits, an MLP, two virtual ranks, under 0.3 s."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from torch import Tensor

from raysubset.engine import Outcome, Silence
from raysubset.experiment import Experiment, nest
from raysubset.learn.checkpoint import WEIGHTS, CheckpointRef, file_hash, read_weights
from raysubset.learn.problem import Problem
from raysubset.local_run import run_local
from raysubset.preparation import Prepared, prepare
from raysubset.records import read_history

SMALL: dict[str, Any] = {
    "data.format": "digits",
    "data.limit": 200,
    "model.name": "mlp",
    "training.epochs": 6,
    "training.batch_size": 16,
    "selection.fraction": 0.25,
    "selection.select_every": 2,
    "selection.batch_size": 32,
    "resources.workers": 2,
}

BLOCKS: dict[str, Any] = {
    "selection__glister__picks": "blocks(3)",
    "resources__checkpoint_every_s": 0,  # every epoch that more of its round follow is written
}
COMMAND = ["run", "--local"]
"""The same run as people type it."""
for _name, _value in (SMALL | {k.replace("__", "."): v for k, v in BLOCKS.items()}).items():
    COMMAND += [f"--{_name}", str(_value)]
RUNS: dict[str, dict[str, Any]] = {
    "glister": BLOCKS,
    "warm": {**BLOCKS, "selection__warm_start": 0.5, "resources__keep_checkpoints": 1},
    "smaller": BLOCKS | {"selection__goal": "smaller", "selection__proxy_epochs": 2},
    "adaptive": {"selection__strategy": "adaptive-random", "model__name": "convnet"},
    "noisy": BLOCKS | {"selection__candidates": 2.0, "model__name": "tests.learn.ranks:noisy"},
}


def experiment(**options: Any) -> Experiment:
    """Return the small experiment with `section__option=value` changes."""
    return Experiment.of(nest(SMALL | {k.replace("__", "."): v for k, v in options.items()}))


@lru_cache(maxsize=64)
def _prepared(text: str) -> Prepared:
    return prepare(Experiment.of(json.loads(text)))


def prepared(**options: Any) -> Prepared:
    """Return the small run, ready to begin; made once, its values are frozen."""
    return _prepared(json.dumps(experiment(**options).model_dump(mode="json")))


def problem(**options: Any) -> Problem:
    """Return the data, model and recipe of the small run."""
    return prepared(**options).problem


class Watcher(Silence):
    """Calls a function with the number and name of each event of a run."""

    def __init__(self, see: Callable[[int, str], object]) -> None:
        self.see, self.names = see, list[str]()

    def progress(self, stage: str, done: int, of: int) -> None:
        self._event(stage)

    def round_started(self, phase: object, rounds: int) -> None:
        self._event("started")

    def round_done(self, phase: object, selection: object, metrics: Mapping[str, Any]) -> None:
        self._event("done")

    def _event(self, name: str) -> None:
        self.names.append(name)
        self.see(len(self.names) - 1, name)


class Left:
    """What a run left in its folder, without what may differ: seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A round in progress has a folder too, but no selection of its own yet.
        self.rounds = sorted(p.parent for p in (path / "rounds").glob("[0-9]*/selection.parquet"))
        self.ids = [
            pq.read_table(folder / "selection.parquet")["id"].to_pylist() for folder in self.rounds
        ]
        self.gains = [
            repr(pq.read_table(folder / "selection.parquet")["gain"].to_pylist())
            for folder in self.rounds
        ]
        self.history = [timeless(line) for line in read_history(path)]
        result = path / "result.json"
        self.result = timeless(json.loads(result.read_text())) if result.is_file() else None

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the last round."""
        folder = self.rounds[-1] / "checkpoint"
        files = {WEIGHTS: file_hash(folder / WEIGHTS)}
        return read_weights(CheckpointRef(path=str(folder), files=files))


def timeless(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without its times."""
    return {k: v for k, v in line.items() if not k.startswith("seconds_") and k != "speed_up"}


def same_weights(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Return whether two states have the same names and bits."""
    return a.keys() == b.keys() and all(bits(a[k]) == bits(b[k]) for k in a)


def bits(tensor: Tensor) -> bytes:
    """Return a tensor's bytes: NaN equals NaN, and 0.0 is not -0.0."""
    return tensor.contiguous().numpy().tobytes()


def assert_same_run(a: Left, b: Left) -> None:
    """Fail unless two runs chose the same ids with the same gains and ended in the same bits."""
    assert a.ids == b.ids
    assert a.gains == b.gains
    assert a.history == b.history
    assert a.result == b.result is not None
    assert same_weights(a.weights(), b.weights())


def play(ready: Prepared, folder: Path, **how: Any) -> tuple[Outcome, Left]:
    """Run in this process and return what came out and what was left."""
    outcome = run_local(ready, folder, **how)
    return outcome, Left(folder)
