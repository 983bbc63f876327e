"""The ground set: what greedy asks, in one verb, and why shards answer as the whole would.

Top-k under class rooms is a monoid: the top of a union is the merge of the tops (ties to the
lower id), because a row that is not among the best k of its shard, or not among the best
room[c] of its class there, cannot be among them in the whole. So greedy over shards is greedy
over the whole. Shape letters: N examples, C classes, H embedding width, K picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.scores import Score


@dataclass(frozen=True, eq=False)
class Taken:
    """What greedy has taken so far.

    Attributes:
        ids_K: int64 ids that may not be taken again.
        room_C: int64, how many more of each class may be taken; None where classes are free.
    """

    ids_K: Tensor
    room_C: Tensor | None = None

    @staticmethod
    def nothing(room_C: Sequence[int] | None = None) -> Taken:
        """Return the state before the first pick."""
        room = None if room_C is None else torch.tensor(room_C, dtype=torch.int64)
        return Taken(ids_K=torch.zeros(0, dtype=torch.int64), room_C=room)

    def unlimited(self) -> Taken:
        """Return the same open rows without a limit per class but for classes that are full."""
        if self.room_C is None:
            return self
        room_C = torch.where(self.room_C > 0, torch.iinfo(torch.int64).max, 0)
        return Taken(ids_K=self.ids_K, room_C=room_C)

    def plus(self, factors: GradientFactors) -> Taken:
        """Return the state after these rows were taken too."""
        room = self.room_C
        if room is not None:
            room = room - torch.bincount(factors.label_N.cpu(), minlength=len(room))
        return Taken(ids_K=torch.cat([self.ids_K, factors.ids_N.cpu()]), room_C=room)


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best rows of a ground set under a score, best first (ties: lower id first)."""

    gain_K: Tensor
    factors: GradientFactors


class GroundSet(Protocol):
    """The examples that may be chosen, wherever they lie."""

    @property
    def num_examples(self) -> int:
        """N."""
        ...

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        ...

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the k best open rows under class rooms; fewer only where fewer are open."""
        ...

    def gradient_sum(self) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1)."""
        ...

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place, for what cannot be asked shard by shard."""
        ...


class LocalGroundSet:
    """A ground set in this process; its rows stand in the order of their ids."""

    def __init__(self, factors: GradientFactors) -> None:
        """Hold the factors, sorted by id (a copy only where they are not)."""
        ids_N = factors.ids_N
        if bool((ids_N[1:] < ids_N[:-1]).any()):
            factors = factors.take(torch.sort(ids_N).indices)
        self.factors = factors

    @property
    def num_examples(self) -> int:
        """N."""
        return self.factors.num_examples

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        count = torch.bincount(self.factors.label_N, minlength=self.factors.num_classes)
        return count.cpu().numpy().tolist()

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the k best open rows under class rooms; see `GroundSet`."""
        if not self.num_examples:
            return Candidates(gain_K=self.factors.norm_N, factors=self.factors)
        gain_N = score(self.factors).masked_fill(~self.open_N(taken), -torch.inf)
        if k == 1:
            # torch documents that argmax returns the first maximum: here, the lowest id.
            rows = gain_N.argmax(dim=0, keepdim=True)
        else:
            rows = _top(gain_N, self.factors.label_N, k, taken.room_C)
        rows = rows[gain_N[rows] > -torch.inf]
        return Candidates(gain_K=gain_N[rows], factors=self.factors.take(rows))

    def open_N(self, taken: Taken) -> Tensor:
        """Return which rows may still be taken. Shape: bool (N,)."""
        factors = self.factors
        open_N = torch.ones(factors.num_examples, dtype=torch.bool, device=factors.ids_N.device)
        if taken.room_C is not None:
            open_N = (taken.room_C > 0).to(factors.label_N.device)[factors.label_N]
        if len(taken.ids_K):
            ids_K = taken.ids_K.to(factors.ids_N.device)
            row_K = torch.searchsorted(factors.ids_N, ids_K).clamp_(max=factors.num_examples - 1)
            open_N[row_K[factors.ids_N[row_K] == ids_K]] = False
        return open_N

    def gradient_sum(self) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1)."""
        return self.factors.gradient_sum()

    def whole(self) -> LocalGroundSet:
        """Return itself: all rows are here."""
        return self


class ShardedGroundSet:
    """A ground set in shards, each a ground set of its own rows; answers as the whole would."""

    def __init__(self, shards: Sequence[GroundSet]) -> None:
        """Hold the shards; the order given is the order in which sums run."""
        self.shards = tuple(shards)

    @property
    def num_examples(self) -> int:
        """N."""
        return sum(shard.num_examples for shard in self.shards)

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        counts = zip(*(shard.class_count_C for shard in self.shards), strict=True)
        return [sum(count) for count in counts]

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the merge of the shards' best."""
        return merge([shard.best(score, k, taken) for shard in self.shards], k, taken)

    def gradient_sum(self) -> Tensor:
        """Return the sum over shards, in their order. Shape: (C, H+1)."""
        total = self.shards[0].gradient_sum()
        for shard in self.shards[1:]:
            total = total + shard.gradient_sum()
        return total

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place."""
        return LocalGroundSet(
            GradientFactors.concat([shard.whole().factors for shard in self.shards])
        )


class BiasGroundSet:
    """A view of a ground set along the bias gradient alone: its embeddings have width 0."""

    def __init__(self, inner: GroundSet) -> None:
        """Wrap the ground set; nothing is copied."""
        self.inner = inner

    @property
    def num_examples(self) -> int:
        """N."""
        return self.inner.num_examples

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        return self.inner.class_count_C

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the inner best, without their embeddings."""
        best = self.inner.best(score, k, taken)
        return Candidates(gain_K=best.gain_K, factors=best.factors.bias_only())

    def gradient_sum(self) -> Tensor:
        """Return the sum of all bias gradients. Shape: (C, 1)."""
        return self.inner.gradient_sum()[:, -1:]

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place, without their embeddings."""
        return LocalGroundSet(self.inner.whole().factors.bias_only())


def merge(parts: Sequence[Candidates], k: int, taken: Taken) -> Candidates:
    """Return the best k of several shards' best, under the same class rooms."""
    factors = GradientFactors.concat([part.factors for part in parts])
    gain_K = torch.cat([part.gain_K for part in parts])
    by_id = torch.sort(factors.ids_N).indices
    factors, gain_K = factors.take(by_id), gain_K[by_id]
    rows = _top(gain_K, factors.label_N, k, taken.room_C)
    return Candidates(gain_K=gain_K[rows], factors=factors.take(rows))


def _top(gain_N: Tensor, label_N: Tensor, k: int, room_C: Tensor | None) -> Tensor:
    """Return the rows of the k largest gains, at most room[c] of class c; ties: first row first."""
    order_N = torch.sort(gain_N, descending=True, stable=True).indices
    if room_C is None:
        return order_N[:k]
    label_N = label_N[order_N]
    by_class = torch.sort(label_N, stable=True).indices
    count_C = torch.bincount(label_N, minlength=len(room_C))
    start_C = count_C.cumsum(0) - count_C
    place_N = torch.empty_like(by_class)
    place_N[by_class] = torch.arange(len(by_class), device=by_class.device)
    place_N -= start_C[label_N]
    return order_N[place_N < room_C.to(label_N.device)[label_N]][:k]
