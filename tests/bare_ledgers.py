"""Run folders without training: what the ledger alone is held to."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysubset.core.observations import Observations
from raysubset.learn.checkpoint import Files, Snapshot, write_checkpoint
from raysubset.ledger import Ledger, Round
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection
from tests.small_runs import experiment

IDENTITY = {"data": "d" * 64, "name": "digits", "parts": {"pool": 20}, "classes": ["a", "b"]}
ENVIRONMENT = {"python": "3"}
POOL = 20
OPEN: list[Ledger] = []


def quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let a test wait for no disk, as it cuts no power, and close its ledgers after it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    yield
    while OPEN:
        OPEN.pop().close()


@dataclass(frozen=True)
class Folder:
    """A run folder without training: what the ledger alone is held to."""

    path: Path
    keep: int = 2

    def open(self, resume: bool = False, changed: Any = None, **identity: Any) -> Ledger:
        config = changed or experiment(resources__keep_checkpoints=self.keep)
        identity = {**IDENTITY, **identity}
        OPEN.append(Ledger.open(self.path, config, identity, ENVIRONMENT, resume=resume))
        return OPEN[-1]

    def with_rounds(self, count: int, finished: bool = False) -> Folder:
        ledger = self.open()
        for number in range(count):
            commit(ledger, number)
        if finished:
            ledger.finish({"accuracy": 0.5})
        ledger.close()
        return self

    def round(self, number: int) -> Path:
        return self.path / "rounds" / f"{number:04d}"

    def files(self) -> dict[str, bytes]:
        """Every file with its content, but for the lock."""
        found = [p for p in self.path.rglob("*") if p.is_file() and p.name != ".lock"]
        return {str(p.relative_to(self.path)): p.read_bytes() for p in found}


def a_round(number: int) -> Round:
    ids = np.random.default_rng(number).permutation(POOL)[:5].astype(np.int64)
    selection = Selection(
        ids=ids,
        gains=np.arange(5, dtype=np.float32) - number,
        weights=None,
        labels=ids % 2,
        num_pool=POOL,
        num_classes=2,
        fraction=0.25,
        round=number,
    )
    phase = Phase(
        round=number,
        strategy="glister",
        budget=5,
        epochs=range(2 * number, 2 * number + 2),
        visits_before=10 * number,
        total_visits=100,
    )
    seen = replace(Observations.none(POOL), visits_N=torch.full((POOL,), number))
    epochs = [{"epoch": e, "loss": 0.1, "accuracy": 1.0} for e in phase.epochs]
    metrics = {"validation_accuracy": number / 10, "share": float("nan")}
    return Round(
        phase=phase, selection=selection, metrics=metrics, observations=seen, epochs=epochs
    )


def saver(ledger: Ledger, number: int) -> Callable[[], tuple[Files, float]]:
    state = Snapshot(weights={"w": torch.full((3,), float(number))}, trainer={"round": number})
    return lambda: write_checkpoint(ledger.rounds / f"{number:04d}" / "checkpoint", state)


def commit(ledger: Ledger, number: int) -> None:
    ledger.append(a_round(number), saver(ledger, number))
    ledger.settle()


def holds(ledger: Ledger, done: int) -> None:
    """The ledger stands after `done` rounds, with their state and nothing of later ones."""
    assert ledger.done == done
    if done == 0:
        assert ledger.weights is None
    else:
        assert ledger.weights is not None and ledger.weights.round == done - 1
        assert ledger.weights.state()["w"].tolist() == [float(done - 1)] * 3
        assert ledger.observations(POOL).visits_N.tolist() == [done - 1] * POOL
    assert [p.name for p in sorted(ledger.rounds.iterdir())] == [f"{n:04d}" for n in range(done)]
    assert [line["round"] for line in ledger.history()] == [n for n in range(done) for _ in "eer"]
