"""Kernel columns of candidates, kept: the same few rows are looked at again and again.

A column of V numbers costs one pass over the validation embeddings; many at once cost little
more, so a miss brings the next most likely candidates along. What was not asked for longest goes
first. Which row is kept where is known on the host: a look at it costs no wait for a device.
Shape letters: M candidates, N rows, V validation examples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.moving_lookahead import MovingLookahead

AHEAD = 32
"""Columns that one miss computes."""


class KernelColumns:
    """A fixed number of kernel columns, by row."""

    def __init__(self, factors: GradientFactors, look: MovingLookahead, most: int) -> None:
        """Make room for `most` columns."""
        self._factors, self._look, self.most = factors, look, most
        self._column_MV = look.residual_CV.new_empty(most, look.residual_CV.shape[1])
        self._place: OrderedDict[int, int] = OrderedDict()  # by row; asked for longest ago first
        self.computed = 0

    def of(self, rows: Sequence[int], likely: Callable[[], Sequence[int]] | None = None) -> Tensor:
        """Return the columns of some rows, at most a quarter of `most`; shape (M, V).

        `likely` says whose columns may as well be computed, the likeliest first; it is asked at a
        miss.
        """
        missing = [row for row in rows if row not in self._place]
        for row in rows:
            if row in self._place:
                self._place.move_to_end(row)
        if missing:
            others = () if likely is None else likely()
            held = {*self._place, *missing}
            self._compute(missing + [row for row in others if row not in held][:AHEAD])
        place_M = torch.tensor([self._place[row] for row in rows], device=self._column_MV.device)
        return self._column_MV.index_select(0, place_M)

    def _compute(self, rows: list[int]) -> None:
        self.computed += len(rows)
        places: list[int] = []
        for row in rows:
            free = len(self._place)
            self._place[row] = free if free < self.most else self._place.popitem(last=False)[1]
            places.append(self._place[row])
        device = self._column_MV.device
        embedding_MH = self._factors.embedding_NH[torch.tensor(rows, device=device)]
        first, after = places[0], places[0] + len(places)
        if places == [*range(first, after)]:  # as they come while there is room
            self._look.columns(embedding_MH, out=self._column_MV[first:after])
        else:
            column_MV = self._look.columns(embedding_MH)
            self._column_MV.index_copy_(0, torch.tensor(places, device=device), column_MV)
