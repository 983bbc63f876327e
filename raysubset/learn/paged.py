"""Arrays larger than the memory that they may take: rows in a file without a name, seen as arrays.

The file lies where TMPDIR says. It has no name from the start, so its room is free again as soon as
nobody holds the array, however the process ends. Every function here gives the values that numpy
gives in memory. Shape letters: N rows, K rows taken.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod

import numpy as np
from numpy.typing import DTypeLike, NDArray

from raysubset.errors import DataError
from raysubset.scratch import scratch_root

Rows = NDArray[np.generic]
_PIECE_BYTES = 8 << 20  # moved at a time; what is taken from a file and is smaller stays in memory
_ABOVE: ContextVar[int | None] = ContextVar("paged_above", default=None)


@contextmanager
def paged_above(limit_bytes: int) -> Generator[None]:
    """Let `empty_rows` put arrays larger than this into files, until the block ends."""
    token = _ABOVE.set(limit_bytes)
    try:
        yield
    finally:
        _ABOVE.reset(token)


def empty_rows(shape: tuple[int, ...], dtype: DTypeLike, what: str) -> Rows:
    """Return rows to be written, in memory or in a file, as the block around says.

    Args:
        shape: (N, ...).
        dtype: of the values.
        what: the rows, in the words of an error.

    Raises:
        DataError: the disk has no room for them; names both sizes and TMPDIR.
    """
    limit = _ABOVE.get()
    if limit is None or prod(shape) * np.dtype(dtype).itemsize <= limit:
        return np.empty(shape, dtype=dtype)
    return _in_file(shape, dtype, what)


def is_paged(rows: Rows) -> bool:
    """Return whether rows are a view of a file."""
    base: object = rows
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def taken(rows: Rows, position_K: NDArray[np.int64]) -> Rows:
    """Return copies of some rows: in a file again, where they come from one and are many."""
    return _made((len(position_K), *rows.shape[1:]), rows, lambda piece: rows[position_K[piece]])


def repeated(rows: Rows, times: int) -> Rows:
    """Return images (N, 1, height, width) with their channel repeated."""
    shape = (len(rows), times * rows.shape[1], *rows.shape[2:])
    return _made(shape, rows, lambda piece: np.repeat(rows[piece], times, axis=1))


def joined(first: Rows, second: Rows, order: NDArray[np.int64]) -> Rows:
    """Return the rows of both in an order that counts through the first, then the second."""
    if not is_paged(first) and not is_paged(second):
        return np.concatenate([first, second])[order]

    def rows_of(piece: slice) -> Rows:
        at = order[piece]
        of_first = at < len(first)
        rows = np.empty((len(at), *first.shape[1:]), dtype=first.dtype)
        rows[of_first] = first[at[of_first]]
        rows[~of_first] = second[at[~of_first] - len(first)]
        return rows

    source = first if is_paged(first) else second
    return _made((len(order), *first.shape[1:]), source, rows_of)


def _made(shape: tuple[int, ...], source: Rows, rows_of: Callable[[slice], Rows]) -> Rows:
    """Return rows made piece by piece, in a file where the source is in one and they are many."""
    if not is_paged(source) or prod(shape) * source.itemsize <= _PIECE_BYTES:
        return rows_of(slice(0, shape[0]))
    rows = _in_file(shape, source.dtype, "rows taken from them")
    for piece in _pieces(shape, source.itemsize):
        rows[piece] = rows_of(piece)
    return rows


def _pieces(shape: tuple[int, ...], itemsize: int) -> Iterator[slice]:
    size = max(1, _PIECE_BYTES // max(1, prod(shape[1:]) * itemsize))
    return (slice(start, start + size) for start in range(0, shape[0], size))


def _in_file(shape: tuple[int, ...], dtype: DTypeLike, what: str) -> Rows:
    needed = prod(shape) * np.dtype(dtype).itemsize
    root = scratch_root()
    with tempfile.TemporaryFile(dir=root) as file:
        try:
            # All of it at once: a disk that is full later would end the process by a signal.
            os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            free = shutil.disk_usage(root).free
            raise DataError(
                f"{what}: they need {needed / 1e9:,.1f} GB in {root.parent}, which has "
                f"{free / 1e9:,.1f} GB left; name a folder on a larger disk with TMPDIR, or read "
                "fewer with --data.limit"
            ) from None
        return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
