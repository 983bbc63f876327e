"""A ground set that tells how far greedy is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from raysubset.core.ground_set import Candidates, GroundSet, LocalGroundSet, Taken
from raysubset.core.scores import Score
from raysubset.core.tops import Top

Watch = Callable[[int], object]
"""Called with how many ids are taken; may raise to stop."""


class WatchedGroundSet:
    """Passes every question on, and tells how far greedy is each time that it asks for the best."""

    def __init__(self, inner: GroundSet, watch: Watch) -> None:
        """Wrap a ground set; nothing is copied."""
        self.inner, self.watch = inner, watch

    @property
    def num_examples(self) -> int:
        """N."""
        return self.inner.num_examples

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        return self.inner.class_count_C

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the inner best."""
        self.watch(len(taken.ids_K))
        return self.inner.best(score, k, taken)

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return the inner top."""
        return self.inner.top(score, k, taken)

    def gradient_sum(self) -> Tensor:
        """Return the inner sum of all gradients. Shape: (C, H+1)."""
        return self.inner.gradient_sum()

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place."""
        return self.inner.whole()


def in_one_place(ground_set: GroundSet) -> tuple[LocalGroundSet, Watch | None] | None:
    """Return the rows and who watches, where all lie in this process; None where they do not."""
    if isinstance(ground_set, LocalGroundSet):
        return ground_set, None
    if isinstance(ground_set, WatchedGroundSet) and isinstance(ground_set.inner, LocalGroundSet):
        return ground_set.inner, ground_set.watch
    return None
