"""GLISTER's regularizers: terms added to the gain so that picks differ from each other.

Source: Killamsetty et al., GLISTER, AAAI 2021, section 4.2 (R-GLISTER, F-GLISTER). Distances come
from factors, |g_i - g_j|^2 = |g_i|^2 + |g_j|^2 - 2 (r_i . r_j)(a_i . a_j) with a = [h; 1], in
tiles; N x N is never formed. Shape letters: N ground set, T tile of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.scores import Alignment
from raysubset.errors import ConfigError

_TILE = 32  # few rows lead at a time; see `_refresh`


class Penalty(Protocol):
    """The state of a regularizer along one greedy run over fixed rows."""

    def best(self, gain_N: Tensor, open_N: Tensor) -> tuple[int, float]:
        """Return the row with the largest regularized gain (ties: first row) and that gain."""
        ...

    def take(self, row: int) -> None:
        """Remember that this row was picked."""
        ...


@dataclass(frozen=True)
class FacilityLocation:
    """Adds lam * sum_j (m_j - min(m_j, d_ij)): how much nearer the picks come to everything.

    d_ij = |g_i - g_j|^2 and m_j is the distance of j to its nearest pick. Before the first pick
    m_j = (|g_j| + max |g|)^2, which no distance exceeds: the first pick is then the medoid.
    """

    lam: float

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        _refuse_negative("FacilityLocation", self.lam)

    def start(self, factors: GradientFactors) -> Penalty:
        """Return the state before the first pick."""
        return _Coverage(factors, self.lam)


@dataclass(frozen=True)
class Diversity:
    """Subtracts lam * sum over picks s of exp(-|g_i - g_s|^2 / 2)."""

    lam: float

    def __post_init__(self) -> None:
        """Refuse a negative weight."""
        _refuse_negative("Diversity", self.lam)

    def start(self, factors: GradientFactors) -> Penalty:
        """Return the state before the first pick."""
        return _Repulsion(factors, self.lam)


@dataclass(frozen=True)
class RandomFill:
    """Greedy fills the first part of the budget; the last `share` of it is uniform."""

    share: float

    def __post_init__(self) -> None:
        """Refuse a share outside [0, 1]."""
        if not 0 <= self.share <= 1:
            raise ConfigError(f"RandomFill(share={self.share:g}) must lie in [0, 1].")


Regularizer = FacilityLocation | Diversity | RandomFill


def squared_distances(tile: GradientFactors, factors: GradientFactors) -> Tensor:
    """Return |g_i - g_j|^2 of a tile's rows to all rows. Shape: (T, N)."""
    few, all_of_them = tile.wide(), factors.wide()
    embedding_TN = few.embedding_NH @ all_of_them.embedding_NH.T + 1
    inner_TN = (few.residual_NC @ all_of_them.residual_NC.T) * embedding_TN
    square_TN = tile.norm_N.square()[:, None] + factors.norm_N.square() - 2 * inner_TN
    return square_TN.clamp_(min=0)


class _Repulsion:
    """Diversity's state: the penalty of every row, one pass over the rows per pick."""

    def __init__(self, factors: GradientFactors, lam: float) -> None:
        self.factors, self.lam = factors, lam
        self.offset_N = torch.zeros_like(factors.norm_N)

    def best(self, gain_N: Tensor, open_N: Tensor) -> tuple[int, float]:
        total_N = (gain_N + self.offset_N).masked_fill(~open_N, -torch.inf)
        row = int(total_N.argmax())
        return row, float(total_N[row])

    def take(self, row: int) -> None:
        pick = self.factors.take(slice(row, row + 1))
        self.offset_N -= self.lam * torch.exp(-squared_distances(pick, self.factors)[0] / 2)


class _Coverage:
    """Facility location's state: lazy, because its gains can only fall while m falls.

    A stale coverage gain is an upper bound of the fresh one (submodularity), the alignment is
    fresh anyway; so only rows whose bound still leads are computed again.
    """

    def __init__(self, factors: GradientFactors, lam: float) -> None:
        self.factors, self.lam = factors, lam
        norm_N = factors.norm_N
        self.nearest_N = (norm_N + norm_N.max()).square()
        # Closed form of sum_j (m_j - d_ij) before the first pick: no pass over the pairs.
        inner_N = Alignment(factors.gradient_sum())(factors)
        distance_N = len(norm_N) * norm_N.square() + norm_N.square().sum() - 2 * inner_N
        self.bound_N = self.nearest_N.sum() - distance_N
        self.fresh_N = torch.ones_like(norm_N, dtype=torch.bool)

    def best(self, gain_N: Tensor, open_N: Tensor) -> tuple[int, float]:
        closed_N = ~open_N
        while True:
            total_N = (gain_N + self.lam * self.bound_N).masked_fill_(closed_N, -torch.inf)
            row = int(total_N.argmax())
            if self.fresh_N[row]:
                return row, float(total_N[row])
            self._refresh(total_N.masked_fill_(self.fresh_N, -torch.inf))

    def take(self, row: int) -> None:
        pick = self.factors.take(slice(row, row + 1))
        self.nearest_N = torch.minimum(self.nearest_N, squared_distances(pick, self.factors)[0])
        self.fresh_N[:] = False

    def _refresh(self, total_N: Tensor) -> None:
        rows = total_N.topk(min(_TILE, len(total_N))).indices
        rows = rows[total_N[rows] > -torch.inf]
        distance_TN = squared_distances(self.factors.take(rows), self.factors)
        self.bound_N[rows] = (self.nearest_N - distance_TN).clamp_(min=0).sum(1)
        self.fresh_N[rows] = True


def _refuse_negative(name: str, lam: float) -> None:
    if not 0 <= lam < float("inf"):
        raise ConfigError(f"{name}(lam={lam:g}) must be at least 0 and finite.")
