"""A shard of factors on a disk, asked in plain values: what an actor holds, and its laptop twin.

Questions and answers are numpy arrays and numbers, so that they cross processes without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, ShardedGroundSet, Taken
from raysubset.core.scores import Score
from raysubset.core.tops import Top
from raysubset.learn.mapped import MappedFactors, Number, numbers, open_factors
from raysubset.learn.rows import tensor_of

_NUMBERS: dict[torch.dtype, Number] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SentScore:
    """A score as plain values: its class, and its fields with numpy for tensors."""

    kind: type[Any]
    values: dict[str, Any]

    @staticmethod
    def of(score: Score) -> SentScore:
        """Return a score, which is a small frozen value, as it travels."""
        found = {f.name: getattr(score, f.name) for f in fields(score)}  # pyright: ignore[reportArgumentType]  # scores are dataclasses
        return SentScore(
            kind=type(score),
            values={n: v.cpu().numpy() if isinstance(v, Tensor) else v for n, v in found.items()},
        )

    def score(self) -> Score:
        """Return the score."""
        given = self.values.items()
        return self.kind(**{n: tensor_of(v) if isinstance(v, np.ndarray) else v for n, v in given})


@dataclass(frozen=True, kw_only=True, eq=False)
class SentTaken:
    """What greedy has taken, as numpy."""

    ids_K: np.ndarray
    room_C: np.ndarray | None

    @staticmethod
    def of(taken: Taken) -> SentTaken:
        """Return what travels."""
        room = None if taken.room_C is None else taken.room_C.cpu().numpy()
        return SentTaken(ids_K=taken.ids_K.cpu().numpy(), room_C=room)

    def taken(self) -> Taken:
        """Return what greedy has taken."""
        room = None if self.room_C is None else tensor_of(self.room_C)
        return Taken(ids_K=tensor_of(self.ids_K), room_C=room)


@dataclass(frozen=True, kw_only=True, eq=False)
class SentFactors:
    """Rows as numpy; bfloat16 as uint16."""

    arrays: tuple[np.ndarray, ...]
    types: tuple[Number, Number]
    tile_rows: int

    @staticmethod
    def of(factors: GradientFactors) -> SentFactors:
        """Return what travels."""
        matrices = (factors.residual_NC, factors.embedding_NH)
        types = (_NUMBERS[matrices[0].dtype], _NUMBERS[matrices[1].dtype])
        wide = [numbers(matrix, kind) for matrix, kind in zip(matrices, types, strict=True)]
        arrays = (factors.ids_N.cpu().numpy(), factors.label_N.cpu().numpy(), *wide)
        return SentFactors(arrays=arrays, types=types, tile_rows=factors.tile_rows)

    def factors(self) -> GradientFactors:
        """Return the rows."""
        ids_N, label_N, *matrices = (tensor_of(array) for array in self.arrays)
        residual_NC, embedding_NH = (
            matrix.view(torch.bfloat16) if kind == "bfloat16" else matrix
            for matrix, kind in zip(matrices, self.types, strict=True)
        )
        return GradientFactors(
            ids_N=ids_N,
            label_N=label_N,
            residual_NC=residual_NC,
            embedding_NH=embedding_NH,
            tile_rows=self.tile_rows,
        )


class ShardHost:
    """The rows [start, stop) of factors on a disk; knows nothing of Ray."""

    def __init__(self, folder: str, start: int, stop: int, threads: int) -> None:
        """Open the rows; nothing is read yet."""
        torch.set_num_threads(threads)
        self.ground_set = LocalGroundSet(open_factors(Path(folder)).rows(start, stop))

    def size(self) -> tuple[int, list[int]]:
        """Return the number of rows, and of each class."""
        return self.ground_set.num_examples, self.ground_set.class_count_C

    def top(self, score: SentScore, k: int, taken: SentTaken) -> tuple[np.ndarray, ...]:
        """Return (gains, ids, labels, rows) of the best."""
        top = self.ground_set.top(score.score(), k, taken.taken())
        return tuple(t.numpy() for t in (top.gain_K, top.ids_K, top.label_K, top.row_K))

    def take(self, row_K: np.ndarray) -> SentFactors:
        """Return some rows, in their order."""
        return SentFactors.of(self.ground_set.take(tensor_of(row_K)))

    def add_gradients(self, total: np.ndarray | None) -> np.ndarray:
        """Return the sum of the gradients on top of a total."""
        if total is None:
            return self.ground_set.gradient_sum().numpy()
        return self.ground_set.add_gradients(tensor_of(total)).numpy()


def received_top(arrays: tuple[np.ndarray, ...]) -> Top:
    """Return what `ShardHost.top` gave."""
    gain_K, ids_K, label_K, row_K = (tensor_of(array) for array in arrays)
    return Top(gain_K=gain_K, ids_K=ids_K, label_K=label_K, row_K=row_K)


def shards_here(mapped: MappedFactors, count: int) -> ShardedGroundSet:
    """Return a ground set of this many shards in this process."""
    cuts = mapped.cuts(count)
    return ShardedGroundSet([LocalGroundSet(mapped.rows(a, b)) for a, b in cuts])
