"""Random and adaptive random: the floor, and the control to beat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raysubset.core.budget import check_budget
from raysubset.core.ground_set import GroundSet, LocalGroundSet, Taken
from raysubset.core.keys import derive_key, permute
from raysubset.core.lookahead import Lookahead
from raysubset.core.quotas import Balance
from raysubset.core.scores import RandomKey
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Need, rooms, selection_of


@dataclass(frozen=True, kw_only=True)
class Random:
    """One uniform subset of K, fixed for the run.

    Attributes:
        balance: class quotas, as for every strategy.
    """

    balance: Balance = "none"

    @property
    def name(self) -> str:
        """The name of the field, as reports show it."""
        return "random"

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed before `select`."""
        return frozenset()

    def select(
        self,
        ground_set: GroundSet,
        lookahead: Lookahead | None = None,
        budget: int = 1,
        key: int = 0,
        epochs: range = range(1),
    ) -> Selection:
        """Return the K ids with the largest random numbers; one key, one subset."""
        budget = check_budget(budget, ground_set.num_examples)
        nothing = Taken.nothing(rooms(self.balance, ground_set, lookahead, budget))
        best = ground_set.best(RandomKey(derive_key(key, "random")), budget, nothing)
        return selection_of(best.factors, None, ground_set)


@dataclass(frozen=True, kw_only=True)
class AdaptiveRandom:
    """The next K ids of a seeded permutation every epoch, reshuffled when it wraps.

    Source: Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of
    Learning" (RS2 without replacement), ICLR 2024. With class quotas every class has its own
    permutation, so that each example of a class is visited equally often.

    Attributes:
        balance: class quotas, as for every strategy.
    """

    balance: Balance = "none"

    @property
    def name(self) -> str:
        """The name of the field, as reports show it."""
        return "adaptive-random"

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed before `select`."""
        return frozenset()

    def select(
        self,
        ground_set: GroundSet,
        lookahead: Lookahead | None = None,
        budget: int = 1,
        key: int = 0,
        epochs: range = range(1),
    ) -> Selection:
        """Return one slice of K distinct ids for every epoch of `epochs`."""
        budget = check_budget(budget, ground_set.num_examples)
        room_C = rooms(self.balance, ground_set, lookahead, budget)
        pool = ground_set.whole()
        streams = _streams(pool, room_C, budget)
        draws = [
            _draws(ids, size, epochs, derive_key(key, "adaptive-random", index))
            for index, (ids, size) in enumerate(streams)
        ]
        ids_K = torch.cat(draws, dim=1).flatten()
        chosen = pool.factors.take(torch.searchsorted(pool.factors.ids_N, ids_K))
        return selection_of(chosen, None, ground_set, epochs=len(epochs))


def _streams(pool: LocalGroundSet, room_C: list[int] | None, k: int) -> list[tuple[Tensor, int]]:
    factors = pool.factors
    if room_C is None:
        return [(factors.ids_N, k)]
    return [(factors.ids_N[factors.label_N == c], room) for c, room in enumerate(room_C) if room]


def _draws(ids_N: Tensor, k: int, epochs: range, key: int) -> Tensor:
    """Return the slices of `epochs` out of the endless stream of permutations. Shape: (E, K).

    Where an epoch straddles two permutations, ids left over from the old one move behind the
    place where the epoch ends in the new one: within an epoch no id comes twice, and over any
    whole number of permutations every id comes equally often.
    """
    slices: list[Tensor] = []
    wrap, rest = 0, ids_N[:0]
    for epoch in range(epochs.stop):
        if len(rest) >= k:
            draw, rest = rest[:k], rest[k:]
        else:
            fresh = permute(ids_N, derive_key(key, wrap))
            wrap += 1
            new = fresh[~torch.isin(fresh, rest)][: k - len(rest)]
            draw, rest = torch.cat([rest, new]), fresh[~torch.isin(fresh, new)]
        if epoch >= epochs.start:
            slices.append(draw)
    return torch.stack(slices)
