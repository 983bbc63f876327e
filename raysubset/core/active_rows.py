"""The rows that the next picks can come from, and a bound for all the others.

Greedy's direction swings about a slowly moving centre: a pick lowers the gains of rows like it, so
the next pick is another kind of row, and the best gain stays small beside |g| |D|. Stale gains
are worth little there; what holds is a region. A direction within `drift` of the centre D_c gives

    <g_i, D>  <=  <g_i, D_c> + |g_i| drift

and the largest right side outside the set is a convex function of the drift: between two drifts at
which it is known, the chord lies above it.
Shape letters: N rows, M active rows, C classes, H embedding width, q basis width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WIDER = 1.2  # the drift that the set is made for, over the largest one seen
_LOWER = 0.2  # how far below the gains seen the next ones may fall, as a share of them
_GRID = (0.0, 0.5, 1.0, 1.5, 2.0)
FEWEST = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Bounded:
    """What bounds every row's gain; class-major, because sums over a short last axis are slow.

    Attributes:
        residual_CN: r, over |g| where gains are cosines.
        table_qN: the embeddings on the basis.
        rest_N: |r| times the embedding's norm beside the basis.
        norm_N: |r| |a|.
        closed_N: 0 where a row may be taken, else minus infinity.
    """

    residual_CN: Tensor
    table_qN: Tensor
    rest_N: Tensor
    norm_N: Tensor
    closed_N: Tensor

    def at(self, coordinate_Cq: Tensor, rest: float, margin: float) -> Tensor:
        """Return the upper bounds at a direction: its coordinates, and its norm beside them."""
        bound_N = (coordinate_Cq @ self.table_qN).mul_(self.residual_CN).sum(0)
        bound_N.add_(self.rest_N, alpha=rest).add_(self.norm_N, alpha=margin)
        return bound_N.add_(self.closed_N)

    def of(self, row_M: Tensor) -> Bounded:
        """Return a copy for some rows."""
        return Bounded(
            residual_CN=self.residual_CN.index_select(1, row_M),
            table_qN=self.table_qN.index_select(1, row_M),
            rest_N=self.rest_N[row_M],
            norm_N=self.norm_N[row_M],
            closed_N=self.closed_N[row_M],
        )


class ActiveRows:
    """Some rows, and what no other row can pass.

    Attributes:
        row_M: their positions, ascending.
        bounded: what bounds them.
        rest_CH: the centre's part beside the basis.
        picks: how often the set was asked.
    """

    def __init__(
        self,
        everything: Bounded,
        row_M: Tensor,
        centre: tuple[Tensor, Tensor],
        grid: tuple[list[float], list[float]],
    ) -> None:
        """Hold the rows; see `around`."""
        self.row_M, self.bounded = row_M, everything.of(row_M)
        self._centre_Cq, self.rest_CH = centre
        self._drifts, self._above = grid
        self.picks = 0

    def above(self, coordinate_Cq: Tensor, beside: float) -> float:
        """Return what no row outside the set passes at this direction.

        `beside` is how far the direction lies from the centre beside the basis, at most.
        """
        self.picks += 1
        drift = float(torch.linalg.vector_norm(coordinate_Cq - self._centre_Cq))
        drift = (drift**2 + beside**2) ** 0.5
        for low, high, at_low, at_high in zip(
            self._drifts, self._drifts[1:], self._above, self._above[1:], strict=False
        ):
            if drift <= high:
                share = (drift - low) / (high - low)
                return at_high if at_low == at_high else at_low + (at_high - at_low) * share
        return torch.inf

    def close(self, row: int) -> None:
        """Take a row out."""
        at = int(torch.searchsorted(self.row_M, row))
        if at < len(self.row_M) and int(self.row_M[at]) == row:
            self.bounded.closed_N[at] = -torch.inf


def around(
    everything: Bounded,
    seen: Sequence[tuple[Tensor, float]],
    rest_CH: Tensor,
    rest: float,
    margin: float,
) -> ActiveRows | None:
    """Return the rows that directions like those seen could make a pick; None: too few, too many.

    Args:
        everything: what bounds all rows.
        seen: of the last picks, the direction's coordinates and the best gain.
        rest_CH: the present direction's part beside the basis.
        rest: its spectral norm.
        margin: of rounding, per |g|.
    """
    centre_Cq = torch.stack([coordinate_Cq for coordinate_Cq, _ in seen]).mean(0)
    swings = [float(torch.linalg.vector_norm(c - centre_Cq)) for c, _ in seen]
    drift = _WIDER * max(swings)
    gains = sorted(gain for _, gain in seen)
    lowest = gains[1] - _LOWER * abs(gains[len(gains) // 2])
    bound_N = everything.at(centre_Cq, rest, margin)
    inside_N = bound_N + drift * everything.norm_N >= lowest
    row_M = inside_N.nonzero()[:, 0]
    if drift == 0 or not FEWEST <= len(row_M) <= len(bound_N) // 2:
        return None
    outside_N = bound_N.masked_fill_(inside_N, -torch.inf)
    drifts = [share * drift for share in _GRID]
    above = [float((outside_N + d * everything.norm_N).max()) for d in drifts]
    return ActiveRows(everything, row_M, (centre_Cq, rest_CH), (drifts, above))
