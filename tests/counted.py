"""What a run did again, and what it did not have to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raysubset.learn.local import LocalPool, LocalTrainer
from raysubset.learn.scoring import Scorer


class Counting:
    """Counts, while it is on, the rounds that are selected for and trained."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.selected, self.trained, self.evaluated = list[int](), list[int](), Counter[str]()
        select, fit, count = LocalPool.select, LocalTrainer.fit, Scorer.count

        def counted(pool: LocalPool, phase: Any, weights: Any) -> Any:
            self.selected.append(phase.round)
            return select(pool, phase, weights)

        def fitted(trainer: LocalTrainer, selection: Any, phase: Any, *how: Any) -> Any:
            self.trained.append(phase.round)
            return fit(trainer, selection, phase, *how)

        def seen(scorer: Scorer, rows: Any) -> Any:
            self.evaluated[rows.part] += 1
            return count(scorer, rows)

        monkeypatch.setattr(LocalPool, "select", counted)
        monkeypatch.setattr(LocalTrainer, "fit", fitted)
        monkeypatch.setattr(Scorer, "count", seen)


def rounds_begun(folder: Path) -> set[int]:
    """Return the rounds that are not committed, but whose choice stands."""
    found = folder.glob("rounds/*/partial/round.json")
    return {int(p.parts[-3]) for p in found if not (p.parents[1] / "MANIFEST.json").exists()}
