"""Blocks in the object store: every part's rows, put once by the driver, fetched by who needs them.

What travels in an order or a call is a range with references to the blocks that hold its rows; the
references lie inside a tuple, so that Ray fetches nothing before it is asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import ray

from raysubset.learn.blocks import (
    AT_MOST,
    BLOCK_BYTES,
    Block,
    RangeRows,
    range_rows,
    rows_at,
    rows_per_block,
    run_of,
)
from raysubset.learn.data import Dataset
from raysubset.learn.parts import PartName, Parts
from raysubset.learn.scoring import RANGE_BATCHES, RowRange, ranges_of

KEPT_BYTES = 64 << 20  # a part read in every round is kept by its readers up to this size
FETCH_S = 300.0
CARRY_S = 600.0  # for what is no block (a model, a checkpoint, a problem), through the object store
TOGETHER = 8  # blocks asked for at once: one after the other, a far node would wait for each


@dataclass(frozen=True, kw_only=True, eq=False)
class Located:
    """A range, and where its rows lie.

    Attributes:
        rows: the range.
        blocks: references to the blocks that hold its rows, and to no other.
        keep: whether its blocks are read so often, and so small, that a reader keeps them.
    """

    rows: RowRange
    blocks: tuple[Any, ...]
    keep: bool = False


def source_of(located: Located) -> str:
    """Return what tells a range's data from any other: an object of the store never changes."""
    return " ".join(map(str, located.blocks))  # their names: a reference would hold the blocks


@dataclass(frozen=True, kw_only=True, eq=False)
class _Put:
    """A part in the object store.

    Attributes:
        last_ids: the last id of each block, int64, ascending.
        refs: the blocks.
        keep: as in `Located`.
    """

    last_ids: np.ndarray
    refs: tuple[Any, ...]
    keep: bool


class Blocks:
    """The driver's references to the rows of a problem's parts; they end with it."""

    def __init__(
        self,
        parts: Parts,
        scoring_batch: int,
        put: Callable[[Block], Any] = ray.put,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """Cut the pool and the validation part and put them; other parts when first asked for."""
        self.parts, self.scoring_batch, self.block_bytes = parts, scoring_batch, block_bytes
        self._put = put
        self._parts: dict[PartName, _Put] = {}
        self._subset: tuple[np.ndarray, tuple[Any, ...]] | None = None
        for part in ("validation", "pool"):
            self._of(part)

    def located(self, ranges: Iterable[RowRange]) -> list[Located]:
        """Return the ranges with references to the blocks that hold them."""
        return [self._located(rows) for rows in ranges]

    def part(self, part: PartName) -> list[Located]:
        """Return the fixed ranges of a whole part.

        Raises:
            DataError: there is no such part.
        """
        id_N = self.parts.named(part).id_N
        return self.located(ranges_of(part, id_N, self.scoring_batch))

    def subset(self, ids: np.ndarray) -> tuple[Any, ...]:
        """Return blocks that hold these pool ids, of any shape; the same ids give the same blocks.

        More than half of the pool is not worth a copy: then they are the pool's own.
        """
        pool, id_K = self.parts.pool, np.unique(ids)
        if 2 * len(id_K) > pool.num_examples:
            return self._of("pool").refs
        if self._subset is None or not np.array_equal(self._subset[0], id_K):
            most = AT_MOST * self.block_bytes
            row_K, size = pool.position_of(id_K), max(1, most // _row_bytes(pool))
            # Cut before it is copied: this process never holds more than one block of it.
            starts = range(0, len(row_K), size)
            refs = tuple(self._put(rows_at(pool, row_K[s : s + size])) for s in starts)
            self._subset = id_K, refs
        return self._subset[1]

    def _located(self, rows: RowRange) -> Located:
        put = self._of(rows.part)
        first, last = np.searchsorted(put.last_ids, (rows.ids[0], rows.ids[-1]))
        refs = put.refs[int(first) : int(last) + 1]
        if len(refs) > 1:  # ids that a filter left may skip whole blocks
            held = np.unique(np.searchsorted(put.last_ids, rows.ids))
            refs = tuple(put.refs[int(i)] for i in held)
        return Located(rows=rows, blocks=refs, keep=put.keep)

    def _of(self, part: PartName) -> _Put:
        if part not in self._parts:
            dataset = self.parts.named(part)
            rows = RANGE_BATCHES * self.scoring_batch
            size = rows_per_block(_row_bytes(dataset), rows, self.block_bytes)
            starts = range(0, dataset.num_examples, size)
            blocks = [run_of(dataset, s, s + size) for s in starts]
            often = part in ("validation", "tuning")
            self._parts[part] = _Put(
                last_ids=np.array([block.id_B[-1] for block in blocks], dtype=np.int64),
                refs=tuple(self._put(block) for block in blocks),
                keep=often and dataset.content.nbytes <= KEPT_BYTES,
            )
        return self._parts[part]


class Reader:
    """A process's view of blocks: shared memory of its node, let go after use."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._kept: dict[Any, Block] = {}
        self._last: dict[Any, Block] = {}

    def rows(self, located: Located) -> RangeRows:
        """Return the rows of a range; the blocks of the range before are let go."""
        have = self._kept | self._last
        new = [ref for ref in located.blocks if ref not in have]
        have |= dict(zip(new, fetched(new), strict=True))
        blocks = {ref: have[ref] for ref in located.blocks}
        if located.keep:
            self._kept |= blocks
        else:
            self._last = blocks
        return range_rows(list(blocks.values()), located.rows.ids)

    def forget(self) -> None:
        """Let go of the last range's blocks."""
        self._last = {}


def fetched(refs: Sequence[Any], alive: Callable[[], object] = lambda: None) -> list[Block]:
    """Return blocks as views of the node's shared memory; `alive` is called between the waits."""
    blocks: list[Block] = []
    for start in range(0, len(refs), TOGETHER):
        alive()
        blocks += ray.get(list(refs[start : start + TOGETHER]), timeout=FETCH_S)
    return blocks


def carried(refs: Any) -> Any:
    """Return what refs hold that is no block, as long as that may take on its way."""
    return ray.get(refs, timeout=CARRY_S)


def shares(ranges: Sequence[Located], world: int) -> tuple[Sequence[Located], ...]:
    """Return each rank's ranges: runs of neighbours, so that few ranks read the same block."""
    bounds = [len(ranges) * rank // world for rank in range(world + 1)]
    return tuple(ranges[a:b] for a, b in pairwise(bounds))


def _row_bytes(dataset: Dataset) -> int:
    return max(1, dataset.content.nbytes // max(1, dataset.num_examples))
