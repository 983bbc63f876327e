"""Rows drawn so that every class keeps its share, the same whatever the order of the rows.

Letters: N rows, C classes.
"""

from __future__ import annotations

from decimal import Decimal
from math import floor, isfinite

import numpy as np
import torch
from numpy.typing import NDArray

from raysubset.core.keys import permute
from raysubset.errors import ConfigError

IntArray = NDArray[np.int64]


def share_in(value: str | float | None, option: str) -> float | None:
    """Return the share that an option gives; None where it gives a path or nothing.

    Raises:
        ConfigError: a number outside (0, 1).
    """
    try:
        share = None if value is None else float(value)
    except ValueError:
        return None
    if share is not None and not (isfinite(share) and 0 < share < 1):
        percent = f"; did you mean {share / 100:g}?" if 1 <= share < 100 else ""
        raise ConfigError(
            f"--data.{option}={value} must be a share of the train rows in (0, 1), or a path"
            f"{percent}"
        )
    return share


def rows_of_share(share: float, num_rows: int) -> int:
    """Return floor(share * rows) of the number as a person writes it: 0.29 of 100 is 29."""
    return floor(Decimal(repr(float(share))) * num_rows)


def allot(count_C: IntArray, total: int, low_C: IntArray, high_C: IntArray) -> IntArray:
    """Divide `total` rows among classes in proportion to their counts, within bounds.

    Largest remainder, ties to the lower class; then single rows move from the classes most
    above their share to those most below it until the bounds hold. Shape: (C,) -> (C,).
    Needs low_C <= high_C and low_C.sum() <= total <= high_C.sum().
    """
    num_rows = max(int(count_C.sum()), 1)
    size_C = total * count_C // num_rows
    remainder_C = total * count_C - size_C * num_rows
    rest = total - int(size_C.sum())
    size_C[np.argsort(-remainder_C, kind="stable")[:rest]] += 1
    size_C = np.clip(size_C, low_C, high_C)
    while (missing := total - int(size_C.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_C = size_C < high_C if step > 0 else size_C > low_C
        owed_C = (total * count_C - size_C * num_rows) * step
        size_C[np.flatnonzero(open_C)[np.argmax(owed_C[open_C])]] += step
    return size_C


def draw(id_N: IntArray, label_N: IntArray, size_C: IntArray, key: int) -> NDArray[np.bool_]:
    """Return which rows are drawn: of each class its number, by the random order of `key`.

    Shape: (N,), (N,), (C,) -> bool (N,). Ids ascend.
    """
    shuffled = permute(torch.from_numpy(id_N.copy()), key).numpy()
    position = np.searchsorted(id_N, shuffled)
    # stable: inside a class the random order stays
    by_class = position[np.argsort(label_N[position], kind="stable")]
    label_sorted = label_N[by_class]
    rank = np.arange(len(id_N)) - np.searchsorted(label_sorted, label_sorted)
    drawn_N = np.zeros(len(id_N), dtype=np.bool_)
    drawn_N[by_class[rank < size_C[label_sorted]]] = True
    return drawn_N
