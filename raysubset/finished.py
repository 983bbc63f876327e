"""A finished round, as the ledger commits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raysubset.chain import OBSERVATIONS
from raysubset.core.observations import Observations
from raysubset.learn.partial import BEGUN
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection
from raysubset.unfinished import AHEAD


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """A finished round.

    Attributes:
        phase: what was planned.
        selection: what was chosen.
        metrics: validation figures and seconds by stage.
        observations: what training saw of the pool so far.
        epochs: one record per epoch: epoch, loss, accuracy, lr, visits.
        following: the next phase and its choice, where that was made beside training.
    """

    phase: Phase
    selection: Selection
    metrics: Mapping[str, Any]
    observations: Observations
    epochs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    following: tuple[Phase, Selection] | None = None

    @property
    def written_early(self) -> tuple[str, ...]:
        """The files that are written before the figures are complete, beside the checkpoint's."""
        ahead = () if self.following is None else tuple(f"{AHEAD}/{name}" for name in BEGUN)
        return ("selection.parquet", OBSERVATIONS, *ahead)
