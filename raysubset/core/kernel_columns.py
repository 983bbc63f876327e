"""Kernel columns of candidates, kept: the same few rows are looked at again and again.

A column of V numbers costs one pass over the validation embeddings; many at once cost little
more, so a miss brings the next most likely candidates along. What was not asked for longest goes
first. Shape letters: M candidates, N rows, V validation examples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.moving_lookahead import MovingLookahead

AHEAD = 64
"""Columns that one miss computes."""


class KernelColumns:
    """A fixed number of kernel columns, by row."""

    def __init__(self, factors: GradientFactors, look: MovingLookahead, most: int) -> None:
        """Make room for `most` columns."""
        self._factors, self._look, self.most = factors, look, most
        device = factors.ids_N.device
        self._column_MV = look.residual_CV.new_empty(most, look.residual_CV.shape[1])
        self._place_N = torch.full((factors.num_examples,), -1, device=device)
        self._owner_M = torch.full((most,), -1, device=device)
        self._asked_M = torch.zeros(most, dtype=torch.int64, device=device)
        self._time, self.computed = 0, 0

    def lacks(self, row_M: Tensor) -> bool:
        """Return whether any of these rows' columns has to be computed."""
        return bool((self._place_N[row_M] < 0).any())

    def of(self, row_M: Tensor, likely_M: Tensor | None = None) -> Tensor:
        """Return the columns of some rows, at most a quarter of `most`; (M,) -> (M, V).

        `likely_M` are rows whose columns may as well be computed, the likeliest first.
        """
        self._time += 1
        place_M = self._place_N[row_M]
        self._asked_M[place_M[place_M >= 0]] = self._time
        if bool((place_M < 0).any()):
            missing = row_M[place_M < 0]
            if likely_M is not None:
                ahead = likely_M[self._place_N[likely_M] < 0][:AHEAD]
                missing = torch.unique(torch.cat([missing, ahead]))
            self._compute(missing)
            place_M = self._place_N[row_M]
        return self._column_MV[place_M]

    def _compute(self, row_M: Tensor) -> None:
        self.computed += len(row_M)
        place_M = self._asked_M.topk(len(row_M), largest=False).indices
        self._asked_M[place_M] = self._time
        old_M = self._owner_M[place_M]
        self._place_N[old_M[old_M >= 0]] = -1
        self._column_MV[place_M] = self._look.columns(self._factors.embedding_NH[row_M])
        self._owner_M[place_M] = row_M
        self._place_N[row_M] = place_M
