"""Rows of one part before decoding: labels are read, content waits until rows are chosen."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysubset.learn.columns import Column
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.labels import LabelColumn

Part = str
"""One of train, validation, tuning, test."""
PARTS_BY_NAME: dict[str, Part] = {
    "train": "train",
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    "tuning": "tuning",
    "test": "test",
}
"""What splits and arrays are called -> the part that they are."""
OnBadRow = Literal["refuse", "skip"]

NAMED_AT_MOST = 10


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Content of the rows that were asked for, less the bad ones where these are skipped."""

    content: NDArray[np.generic]
    """Shape: (K, ...), rows with kept_A only."""
    kept_A: NDArray[np.bool_]
    """Which of the A rows asked for were good."""
    keys: tuple[str, ...] | None = None
    """Of the K good rows."""
    feature_names: tuple[str, ...] | None = None
    columns: tuple[Column, ...] | None = None
    """How a table's columns became its features."""
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    """The bad ones among the rows asked for."""

    def with_keys(self, keys_A: Sequence[str] | None) -> Loaded:
        """Return the same with the keys of the good ones among the rows asked for."""
        if keys_A is None:
            return self
        good = zip(keys_A, self.kept_A, strict=True)
        return replace(self, keys=tuple(key for key, kept in good if kept))


def picked(keys: Sequence[str] | None, row_A: NDArray[np.int64]) -> list[str] | None:
    """Return the keys of some rows; None where rows have none."""
    return None if keys is None else [keys[int(row)] for row in row_A]


def _no_keys() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class RawPart:
    """One part whose labels are known and whose content is still on disk."""

    num_rows: int
    """Rows in the source, good or bad."""
    label: LabelColumn | None
    """None only for train rows whose labels stand in a file beside them."""
    load: Callable[[NDArray[np.int64]], Loaded]
    """Ascending row numbers -> their content."""
    kind: Literal["image", "tabular"] = "image"
    trusted: LabelColumn | None = None
    """Labels of train rows that are held out, where a person named a column of them."""
    notes: tuple[str, ...] = ()
    keys: Callable[[], tuple[str, ...] | None] = _no_keys
    """Reads the user's own name of every row, such as its path; None where rows have none."""
    bad: tuple[Skipped, ...] = ()
    """Rows found bad when the part was opened; they have no label."""


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """Rows counted through several files: which file holds a row, and under what number."""

    files: tuple[Path, ...]
    ends: tuple[int, ...]
    """Row number after the last row of each file."""

    @classmethod
    def count(cls, files: Sequence[Path], sizes: Sequence[int]) -> FileRows:
        """Return the numbering of files with these numbers of rows."""
        return cls(files=tuple(files), ends=tuple(accumulate(sizes)))

    def name(self, row: int) -> str:
        """Return how a person finds the row: file and row in it, counted from 0."""
        index, own = self.place(row)
        return f"{self.files[index]} row {own}"

    def place(self, row: int) -> tuple[int, int]:
        """Return which file holds the row, and its number there, both from 0."""
        index = bisect_right(self.ends, row)
        return index, row - (self.ends[index - 1] if index else 0)


def shown(items: Sequence[object], at_most: int = NAMED_AT_MOST) -> str:
    """Return the first items as one line, and how many more there are."""
    line = ", ".join(str(item) for item in items[:at_most])
    return line if len(items) <= at_most else f"{line} and {len(items) - at_most:,} more"


def shared_keys(keys: Sequence[str] | None) -> list[str]:
    """Return the note that some keys stand for several rows; ids never do."""
    counts = Counter(key for key in keys or () if key)
    shared = [f"{key!r} ({count:,} rows)" for key, count in counts.most_common() if count > 1]
    told = (
        f"{len(shared):,} keys stand for more than one row: {shown(shared, 3)}; ids tell them apart"
    )
    return [told] if shared else []
