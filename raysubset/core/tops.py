"""The best rows under class rooms, found tile by tile in memory that does not grow with N.

Top-k under class rooms is a monoid: the top of a union is the merge of the tops (ties to the
lower id), because a row that is not among the best k of its part, or not among the best room[c]
of its class there, cannot be among them in the whole.
Shape letters: N rows, B rows of a tile, C classes, K picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_SETTLE_ROWS = 16_384


@dataclass(frozen=True, kw_only=True, eq=False)
class Top:
    """The best rows of a ground set, best first (ties: lower id first), without their factors.

    Attributes:
        gain_K: of each.
        ids_K: int64.
        label_K: int64.
        row_K: int64, where they stand in the ground set.
    """

    gain_K: Tensor
    ids_K: Tensor
    label_K: Tensor
    row_K: Tensor

    def at(self, index_K: Tensor) -> Top:
        """Return some of them, in this order."""
        return Top(
            gain_K=self.gain_K[index_K],
            ids_K=self.ids_K[index_K],
            label_K=self.label_K[index_K],
            row_K=self.row_K[index_K],
        )

    def moved(self, start: int) -> Top:
        """Return them as rows of a larger ground set, in which theirs begins at `start`."""
        return Top(
            gain_K=self.gain_K,
            ids_K=self.ids_K,
            label_K=self.label_K,
            row_K=self.row_K + start,
        )


def merge(parts: Sequence[Top], k: int, room_C: Tensor | None) -> Top:
    """Return the best k of several parts' best, under the same class rooms."""
    union = Top(
        gain_K=torch.cat([part.gain_K for part in parts]),
        ids_K=torch.cat([part.ids_K for part in parts]),
        label_K=torch.cat([part.label_K for part in parts]),
        row_K=torch.cat([part.row_K for part in parts]),
    )
    union = union.at(torch.sort(union.ids_K).indices)
    return union.at(top_rows(union.gain_K, union.label_K, k, room_C))


class Running:
    """The best k rows of those seen so far; rows come in ascending order, a tile at a time.

    Once k rows are held, the worst of them is a floor for rows to come: ties go to the lower row.
    So is the worst of a class whose room is filled, for rows of that class.
    """

    def __init__(self, k: int, room_C: Tensor | None) -> None:
        """Begin with nothing seen."""
        self.k, self.room_C = k, room_C
        self._floor: Tensor | None = None
        # One buffer for all: small pieces kept between large tiles would fragment the heap.
        self._held, self._buffer = 0, list[Tensor]()

    def see(self, gain_B: Tensor, label_B: Tensor, start: int) -> None:
        """Take notice of a tile; a gain of -inf is no candidate."""
        floor = -torch.inf if self._floor is None else self._floor
        if isinstance(floor, Tensor) and floor.ndim:
            floor = floor[label_B]
        index_B = (gain_B > floor).nonzero()[:, 0]
        full = max(2 * self.k, _SETTLE_ROWS)
        if not self._buffer:  # the first tile is the largest
            size = full + len(gain_B)
            self._buffer = [t.new_empty(size) for t in (gain_B, label_B, index_B)]
        self._put(self._held, gain_B[index_B], label_B[index_B], index_B + start)
        if self._held >= full:
            self._settle()

    def best(self) -> tuple[Tensor, Tensor]:
        """Return (gains, rows) of the best, best first."""
        gain_K, label_K, row_K = self._together()
        best = top_rows(gain_K, label_K, self.k, self.room_C)
        return gain_K[best], row_K[best]

    def _settle(self) -> None:
        gain_K, label_K, row_K = self._together()
        kept = torch.sort(top_rows(gain_K, label_K, self.k, self.room_C)).values
        gain_K, label_K, row_K = gain_K[kept], label_K[kept], row_K[kept]
        self._put(0, gain_K, label_K, row_K)
        floor = gain_K.new_tensor(-torch.inf)
        if len(kept) >= self.k:
            floor = gain_K.min()
        if self.room_C is not None:
            room_C = self.room_C.to(label_K.device)
            count_C = torch.bincount(label_K, minlength=len(room_C))
            worst_C = gain_K.new_full((len(room_C),), -torch.inf)
            worst_C = worst_C.scatter_reduce(0, label_K, gain_K, "amin", include_self=False)
            floor = torch.where(count_C >= room_C, torch.maximum(worst_C, floor), floor)
        self._floor = floor

    def _put(self, at: int, *columns: Tensor) -> None:
        self._held = at + len(columns[0])
        for held, column in zip(self._buffer, columns, strict=True):
            held[at : self._held] = column

    def _together(self) -> tuple[Tensor, Tensor, Tensor]:
        gain_K, label_K, row_K = (column[: self._held] for column in self._buffer)
        return gain_K, label_K, row_K


def top_rows(gain_N: Tensor, label_N: Tensor, k: int, room_C: Tensor | None) -> Tensor:
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
