"""Full: every id, the reference."""

from __future__ import annotations

from dataclasses import dataclass

from raysubset.core.ground_set import GroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Need, selection_of


@dataclass(frozen=True)
class Full:
    """Chooses the whole pool; the budget is not asked."""

    @property
    def name(self) -> str:
        """The name of the field, as reports show it."""
        return "full"

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed before `select`."""
        return frozenset()

    def select(
        self,
        ground_set: GroundSet,
        lookahead: Lookahead | None = None,
        budget: int | None = None,
        key: int = 0,
        epochs: range = range(1),
    ) -> Selection:
        """Return every id, in the order of ids."""
        return selection_of(ground_set.whole().factors, None, ground_set)
