"""Exact gains of candidates, and the best of them as exact arithmetic would have it.

A gain of a row whose kernel column is known needs no direction: <g_i, D> = r_i . (P k_i) / V. Where
rounding could decide, the direction is formed and float64 decides; ties go to the lower row.
Shape letters: N rows, M candidates, V validation examples, C classes, H embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raysubset.core.allowance import Allowance
from raysubset.core.factors import GradientFactors
from raysubset.core.kernel_columns import KernelColumns
from raysubset.core.lookahead import overflowed
from raysubset.core.moving_lookahead import MovingLookahead

_FEW = 64
_DECIDED = 128
"""One in so many of all rows, and a few: of more that fp32 cannot tell apart, its best is taken."""
_TILE = 4096
_ROUNDING = 4
"""Of a gain, in units of eps |g| times the direction's mass: about what products in fp32 lose."""


@dataclass(frozen=True, eq=False)
class Best:
    """The best row by exact gain; `scored` of them were computed."""

    row: int
    gain: float
    column_V: Tensor
    scored: int


NONE = Best(-1, -torch.inf, torch.empty(0), 0)
"""No row is open."""


@dataclass(frozen=True, eq=False)
class Scored:
    """Gains of some rows, as rounded.

    Attributes:
        row_M: the rows.
        gains: theirs.
        column_MV: their kernel columns.
        at: the place of the largest.
        lowest: rows with gains from here on could be the best as well.
        sure: what the true gain of the best one is at least.
    """

    row_M: Tensor
    gains: list[float]
    column_MV: Tensor
    at: int
    lowest: float
    sure: float


class ExactGains:
    """Gains at a look-ahead that moves.

    Attributes:
        residual_NC: r, over |g| where gains are cosines.
        norm_N: |r| |a|.
        closed_N: 0 where a row may be taken, else minus infinity.
        margin: what rounding may add to a gain, per |g|.
        least: what is lost below the smallest number; rows without a gradient tie at 0 exactly.
        scored: gains computed so far.
    """

    def __init__(
        self,
        factors: GradientFactors,
        look: MovingLookahead,
        columns: KernelColumns,
        work: Allowance,
        residual_NC: Tensor,
        norm_N: Tensor,
        closed_N: Tensor,
    ) -> None:
        """Hold the tables; nothing is computed."""
        self._factors, self._look, self._columns, self._work = factors, look, columns, work
        self.residual_NC, self.norm_N, self.closed_N = residual_NC, norm_N, closed_N
        number = torch.finfo(norm_N.dtype)
        self._rounding, self.least = _ROUNDING * number.eps, number.tiny
        self.margin, self.scored = 0.0, 0

    def round_at(self, mass: float) -> None:
        """Set the margin for a direction of this mass."""
        self.margin = self._rounding * mass

    def of(self, row_M: Tensor, rows: list[int], likely: Callable[[], Sequence[int]]) -> Scored:
        """Return the gains of some open rows, at least one; `likely`: see `KernelColumns.of`."""
        before = self._columns.computed
        column_MV = self._columns.of(rows, likely)
        self._work.columns(self._columns.computed - before)
        self._work.over(len(rows), column_MV.shape[1])
        self.scored += len(rows)
        residual_MC = self.residual_NC.index_select(0, row_M)
        gains = self._look.mean(column_MV.T).T.mul_(residual_MC).sum(1).tolist()
        norms = self.norm_N.index_select(0, row_M).tolist()
        for gain in gains:
            self._refuse_overflow(gain)
        at = gains.index(max(gains))
        lowest = gains[at] - 2 * self.margin * max(norms) - self.least
        sure = gains[at] - self.margin * norms[at] - self.least
        return Scored(row_M, gains, column_MV, at, lowest, sure)

    def best_of(self, scored: Scored) -> Best:
        """Return the best of rows whose gains are known."""
        at, gains = scored.at, scored.gains
        near = [m for m, gain in enumerate(gains) if gain >= scored.lowest]
        if len(near) > 1:
            row_M = scored.row_M[near]
            at = near[int((row_M == self._decided(row_M)).nonzero()[0])]
        return Best(int(scored.row_M[at]), gains[at], scored.column_MV[at], len(gains))

    def best_of_all(self) -> Best:
        """Return the best of all rows by forming the direction: what no bound could decide."""
        direction = self._look.direction()
        self.round_at(self._look.mass())
        parts: list[Tensor] = []
        for tile, residual_TC in zip(
            self._factors.tiles(), self.residual_NC.split(self._factors.tile_rows), strict=True
        ):
            wide_TC = tile.wide_embedding() @ direction[:, :-1].T + direction[:, -1]
            parts.append(wide_TC.mul_(residual_TC).sum(1))
        gain_N = (parts[0] if len(parts) == 1 else torch.cat(parts)).add_(self.closed_N)
        self.scored += len(gain_N)
        row = int(gain_N.argmax())
        gain = float(gain_N[row])
        self._refuse_overflow(gain)
        if gain > -torch.inf:
            near_N = gain_N >= gain - 2 * self.margin * self.norm_N.max() - self.least
            row = self._among(near_N.nonzero()[:, 0], row)
        column_V = self._look.columns(self._factors.embedding_NH[row : row + 1])[0]
        return Best(row, float(gain_N[row]), column_V, len(gain_N))

    def _decided(self, row_M: Tensor) -> int:
        """Return the best of rows that fp32 cannot tell apart: float64 does, then the lower row."""
        row_M = torch.sort(row_M).values
        self._work.doubles(len(row_M))
        direction = self._look.direction().double()
        parts: list[Tensor] = []
        for some_M in row_M.split(_TILE):
            wide = self._factors.embedding_NH[some_M].double() @ direction[:, :-1].T
            parts.append((self.residual_NC[some_M].double() * (wide + direction[:, -1])).sum(1))
        gain_M = torch.cat(parts)
        # Equal rows may differ in the last bits of a product, by their place in it.
        double = torch.finfo(torch.float64).eps / torch.finfo(self.norm_N.dtype).eps
        same = double * self.margin * float(self.norm_N[row_M].max())
        return int(row_M[int((gain_M >= gain_M.max() - same).nonzero()[0])])

    def _among(self, near_M: Tensor, row: int) -> int:
        """Return the best of rows beside the best in fp32; of very many, the lowest equal to it."""
        if len(near_M) == 1:
            return row
        if len(near_M) <= _FEW + len(self.norm_N) // _DECIDED:
            return self._decided(near_M)
        residual_NC, embedding_NH = self.residual_NC, self._factors.embedding_NH
        lower_M = near_M[near_M < row]
        lower_M = lower_M[(residual_NC[lower_M] == residual_NC[row]).all(1)]
        if self.norm_N[row] > 0:
            # Some numbers first: near copies differ in them, and all of a row's are costly.
            some_NH = embedding_NH[:, :8]
            lower_M = lower_M[(some_NH[lower_M] == some_NH[row]).all(1)]
            for some_M in lower_M.split(_FEW):
                equal_M = (embedding_NH[some_M] == embedding_NH[row]).all(1)
                if bool(equal_M.any()):
                    return int(some_M[int(equal_M.nonzero()[0])])
        elif len(lower_M):
            return int(lower_M[0])
        return row

    def _refuse_overflow(self, gain: float) -> None:
        if gain != gain or gain == torch.inf:
            raise overflowed(self._look.step)
