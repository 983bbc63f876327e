"""A ground set that remembers what it was asked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raysubset.core.ground_set import Candidates, GroundSet, LocalGroundSet, Taken
from raysubset.core.scores import RandomKey, Score
from raysubset.core.tops import Top


@dataclass(frozen=True)
class Asked:
    """One question and its answer."""

    score: Score
    k: int
    taken: Taken
    best: Candidates

    @property
    def is_draw(self) -> bool:
        return isinstance(self.score, RandomKey)

    @property
    def ids(self) -> list[int]:
        return self.best.factors.ids_N.tolist()


class SpyGroundSet:
    """Passes questions on and writes them down."""

    def __init__(self, inner: GroundSet) -> None:
        self.inner = inner
        self.asked: list[Asked] = []
        self.sums = 0

    @property
    def num_examples(self) -> int:
        return self.inner.num_examples

    @property
    def class_count_C(self) -> list[int]:
        return self.inner.class_count_C

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        best = self.inner.best(score, k, taken)
        self.asked.append(Asked(score, k, taken, best))
        return best

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        return self.inner.top(score, k, taken)

    def gradient_sum(self) -> torch.Tensor:
        self.sums += 1
        return self.inner.gradient_sum()

    def whole(self) -> LocalGroundSet:
        return self.inner.whole()

    @property
    def draws(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.is_draw]
