"""The ground set: what greedy asks, in one verb, and why shards answer as the whole would.

Top-k under class rooms is a monoid (see `tops`), so greedy over shards is greedy over the whole.
Shape letters: N examples, C classes, H embedding width, K picked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.scores import Score
from raysubset.core.tops import Running, Top, merge

T = TypeVar("T")
_PIECE = 65_536


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

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return what `best` would, without the rows' factors: nothing is copied or moved."""
        ...

    def gradient_sum(self) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1)."""
        ...

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place, for what cannot be asked shard by shard."""
        ...


class Shard(GroundSet, Protocol):
    """A ground set that is part of a larger one."""

    def take(self, row_K: Tensor) -> GradientFactors:
        """Return the factors of some rows, in their order."""
        ...

    def add_gradients(self, total: Tensor) -> Tensor:
        """Return the total with the gradients of these rows added, tile by tile in their order."""
        ...


class LocalGroundSet:
    """A ground set in this process; its rows stand in the order of their ids."""

    def __init__(self, factors: GradientFactors) -> None:
        """Hold the factors, sorted by id (a copy only where they are not)."""
        if not _ascends(factors.ids_N):
            factors = factors.take(torch.sort(factors.ids_N).indices)
        self.factors = factors
        # Views; kept, because a tile's norms are taken once.
        self._tiles = tuple(factors.tiles())

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
        gain_K, row_K = self._best_rows(score, k, taken)
        return Candidates(gain_K=gain_K, factors=self.factors.take(row_K))

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return the best without their factors; see `GroundSet`."""
        ids_N, label_N = self.factors.ids_N, self.factors.label_N
        if not self.num_examples:
            return Top(gain_K=self.factors.norm_N, ids_K=ids_N, label_K=label_N, row_K=ids_N)
        gain_K, row_K = self._best_rows(score, k, taken)
        return Top(gain_K=gain_K, ids_K=ids_N[row_K], label_K=label_N[row_K], row_K=row_K)

    def take(self, row_K: Tensor) -> GradientFactors:
        """Return the factors of some rows, in their order."""
        return self.factors.take(row_K)

    def _best_rows(self, score: Score, k: int, taken: Taken) -> tuple[Tensor, Tensor]:
        if k == 1:
            gain_N = score(self.factors).masked_fill(~self.open_N(taken), -torch.inf)
            # torch documents that argmax returns the first maximum: here, the lowest id.
            row_K = gain_N.argmax(dim=0, keepdim=True)
            row_K = row_K[gain_N[row_K] > -torch.inf]
            return gain_N[row_K], row_K
        closed_K = torch.sort(self._rows_of(taken.ids_K)).values
        running, start = Running(k, taken.room_C), 0
        for tile in self._tiles:
            open_B = _with_room(tile.label_N, taken.room_C)
            bounds = torch.tensor([start, start + len(open_B)], device=closed_K.device)
            first, last = torch.searchsorted(closed_K, bounds).tolist()
            open_B[closed_K[first:last] - start] = False
            running.see(score(tile).masked_fill(~open_B, -torch.inf), tile.label_N, start)
            start += len(open_B)
        return running.best()

    def open_N(self, taken: Taken) -> Tensor:
        """Return which rows may still be taken. Shape: bool (N,)."""
        open_N = _with_room(self.factors.label_N, taken.room_C)
        open_N[self._rows_of(taken.ids_K)] = False
        return open_N

    def _rows_of(self, ids_K: Tensor) -> Tensor:
        """Return where those of these ids stand that are here."""
        ids_N = self.factors.ids_N
        ids_K = ids_K.to(ids_N.device)
        row_K = torch.searchsorted(ids_N, ids_K).clamp_(max=self.num_examples - 1)
        return row_K[ids_N[row_K] == ids_K]

    def gradient_sum(self) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1)."""
        return self.factors.gradient_sum()

    def add_gradients(self, total: Tensor) -> Tensor:
        """Return the total with the gradients of these rows added; see `Shard`."""
        return self.factors.gradient_sum(onto=total)

    def whole(self) -> LocalGroundSet:
        """Return itself: all rows are here."""
        return self


class Each(Protocol):
    """Asks every shard and returns the answers in order."""

    def __call__(self, ask: Callable[[Shard], T], shards: Sequence[Shard], /) -> list[T]:
        """Return one answer a shard; for shards elsewhere, asked all at once."""
        ...


def one_by_one(ask: Callable[[Shard], T], shards: Sequence[Shard]) -> list[T]:
    """Return the answers of shards in this process."""
    return [ask(shard) for shard in shards]


class ShardedGroundSet:
    """A ground set in shards, each a ground set of its own rows; answers as the whole would.

    The same ids always; the same bits where the shards are whole runs of the whole's tiles (see
    `GradientFactors`). Down goes a score, a matrix of C x (H+1); up come the tops, and the rows
    of those that are the whole's best.
    """

    def __init__(self, shards: Sequence[Shard], each: Each = one_by_one) -> None:
        """Hold the shards, whose ids are disjoint, in the order in which sums run."""
        self.shards, self._each = tuple(shards), each
        sizes = [shard.num_examples for shard in self.shards]
        self._starts = [0, *accumulate(sizes)]

    @property
    def num_examples(self) -> int:
        """N."""
        return self._starts[-1]

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        counts = zip(*(shard.class_count_C for shard in self.shards), strict=True)
        return [sum(count) for count in counts]

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the best of the shards' best."""
        top = self.top(score, k, taken)
        return Candidates(gain_K=top.gain_K, factors=self.take(top.row_K))

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return the merge of the shards' tops."""
        tops = self._each(lambda shard: shard.top(score, k, taken), self.shards)
        moved = [top.moved(start) for top, start in zip(tops, self._starts, strict=False)]
        return merge(moved, k, taken.room_C)

    def take(self, row_K: Tensor) -> GradientFactors:
        """Return the factors of some rows, in their order, each from its shard."""
        bounds = torch.tensor(self._starts[1:], device=row_K.device)
        shard_K = torch.searchsorted(bounds, row_K, right=True)
        order_K = torch.sort(shard_K, stable=True).indices
        count = torch.bincount(shard_K, minlength=len(self.shards)).tolist()
        pieces = row_K[order_K].split(count)
        asked = {
            id(shard): piece - start
            for shard, piece, start in zip(self.shards, pieces, self._starts, strict=False)
        }
        parts = self._each(lambda shard: shard.take(asked[id(shard)]), self.shards)
        back_K = torch.empty_like(order_K)
        back_K[order_K] = torch.arange(len(order_K), device=order_K.device)
        return GradientFactors.concat(parts).take(back_K)

    def gradient_sum(self) -> Tensor:
        """Return the sum over shards, in their order. Shape: (C, H+1)."""
        first, *others = self.shards
        total = first.gradient_sum()
        for shard in others:
            total = shard.add_gradients(total)
        return total

    def add_gradients(self, total: Tensor) -> Tensor:
        """Return the total with the gradients of these rows added; see `Shard`."""
        for shard in self.shards:
            total = shard.add_gradients(total)
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

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return the inner top."""
        return self.inner.top(score, k, taken)

    def gradient_sum(self) -> Tensor:
        """Return the sum of all bias gradients. Shape: (C, 1)."""
        return self.inner.gradient_sum()[:, -1:]

    def whole(self) -> LocalGroundSet:
        """Return all rows in one place, without their embeddings."""
        return LocalGroundSet(self.inner.whole().factors.bias_only())


def _ascends(ids_N: Tensor) -> bool:
    """Return whether ids ascend, a piece at a time: a mask of all of them is a byte a row."""
    pieces = (ids_N[at : at + _PIECE + 1] for at in range(0, len(ids_N), _PIECE))
    return not any(bool((piece[1:] < piece[:-1]).any()) for piece in pieces)


def _with_room(label_N: Tensor, room_C: Tensor | None) -> Tensor:
    """Return which rows are of classes that have room left. Shape: bool (N,)."""
    if room_C is None:
        return torch.ones(len(label_N), dtype=torch.bool, device=label_N.device)
    return (room_C > 0).to(label_N.device)[label_N]
