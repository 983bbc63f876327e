"""Blocks: runs of a part's rows, the pieces in which data travels and is read.

A range, or a round's subset, is read out of whatever blocks hold its rows: how a part is cut
changes no byte. Shape letters: B rows of a block, K ids asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.data import Dataset

BLOCK_BYTES = 8 << 20  # large enough to cost few calls, small enough to be spilled one by one
AT_MOST = 4  # times that, where a single range is larger


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Rows of one part; the arrays may be read-only views.

    Attributes:
        content: (B, ...) as the part holds it.
        label_B: int64.
        id_B: int64, ascending.
        row_B: int64, positions in the part.
    """

    content: NDArray[np.generic]
    label_B: NDArray[np.int64]
    id_B: NDArray[np.int64]
    row_B: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeRows:
    """The rows of a range, in the order of its ids.

    Attributes:
        content: (K, ...).
        label_K: int64.
    """

    content: NDArray[np.generic]
    label_K: NDArray[np.int64]


def whole(dataset: Dataset) -> Block:
    """Return all rows of a part as one block, without a copy."""
    return run_of(dataset, 0, dataset.num_examples)


def run_of(dataset: Dataset, start: int, stop: int) -> Block:
    """Return the rows at positions [start, stop), without a copy."""
    return Block(
        content=dataset.content[start:stop],
        label_B=dataset.label_N[start:stop],
        id_B=dataset.id_N[start:stop],
        row_B=np.arange(start, min(stop, dataset.num_examples), dtype=np.int64),
    )


def rows_at(dataset: Dataset, row_B: NDArray[np.int64]) -> Block:
    """Return copies of the rows at ascending positions."""
    return Block(
        content=dataset.content[row_B],
        label_B=dataset.label_N[row_B],
        id_B=dataset.id_N[row_B],
        row_B=row_B,
    )


def rows_per_block(row_bytes: int, range_rows: int, block_bytes: int = BLOCK_BYTES) -> int:
    """Return how many rows a block holds: whole ranges, or an equal piece of a very large one."""
    range_bytes, most = max(1, row_bytes * range_rows), AT_MOST * block_bytes
    if range_bytes > most:
        return -(-range_rows // -(-range_bytes // most))
    return range_rows * max(1, block_bytes // range_bytes)


def range_rows(blocks: Sequence[Block], ids_K: NDArray[np.int64]) -> RangeRows:
    """Return the rows with these ascending ids; a view where they are one run of one block.

    Raises:
        DataError: an id that no block holds.
    """
    pieces: list[tuple[NDArray[np.generic], NDArray[np.int64]]] = []
    found = 0
    for block in blocks:
        if not len(block.id_B):
            continue
        begin, end = np.searchsorted(ids_K, (block.id_B[0], block.id_B[-1] + 1))
        if begin == end:
            continue
        at = np.searchsorted(block.id_B, ids_K[begin:end])
        if not np.array_equal(block.id_B[at], ids_K[begin:end]):
            break
        found += int(end - begin)
        rows = slice(int(at[0]), int(at[-1]) + 1) if at[-1] - at[0] + 1 == len(at) else at
        pieces.append((block.content[rows], block.label_B[rows]))
    if found != len(ids_K):
        raise DataError(f"{len(ids_K) - found} of {len(ids_K)} ids are in none of the blocks given")
    if len(pieces) == 1:
        return RangeRows(content=pieces[0][0], label_K=pieces[0][1])
    return RangeRows(
        content=np.concatenate([content for content, _ in pieces]),
        label_K=np.concatenate([label_B for _, label_B in pieces]),
    )
