"""Greedy by its definition, in float64: the direction is formed, and every gain is taken from it.

Nothing of `raysubset.core` that chooses is used here: no tiles, bounds, kernel columns or moved
logits. Shape letters: N sampled pool rows, V validation examples, C classes, H embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAME_MACHINE, ELSEWHERE = 1e-5, 1e-2
"""What a recorded gain may differ by, of |g| |D|: the rounding of fp32 sums; and that of TF32 or
16-bit products too, where the run was on a GPU or may have been."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows as the model sees them.

    Attributes:
        ids: int64 (N,).
        labels: int64 (N,).
        residual: p - y, float64 (N, C).
        wide: [h, 1], float64 (N, H + 1); (N, 1) where only the bias gradient counts.
    """

    ids: np.ndarray
    labels: np.ndarray
    residual: np.ndarray
    wide: np.ndarray

    @property
    def norm(self) -> np.ndarray:
        """|g| of every row. Shape: (N,)."""
        return np.linalg.norm(self.residual, axis=1) * np.linalg.norm(self.wide, axis=1)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What greedy was asked.

    Attributes:
        sizes: picks under one direction, one step after the other.
        step: per pick, as recorded.
        normalize: gains are over |g|.
        room_C: how many of each class may be taken; None where classes are free.
        best_of_all: whether a pick must be the best of all open rows (not of a sample).
        tolerance: of |g| |D|.
    """

    sizes: Sequence[int]
    step: float
    normalize: bool
    room_C: Sequence[int] | None
    best_of_all: bool
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Pick:
    """A pick beside its own recomputation.

    Attributes:
        rank: from 0.
        id: of the row.
        recorded: its gain in the table.
        gain: the same, in float64.
        size: |g| |D|, or |D| where gains are over |g|.
        tolerance: of that.
        better: an open row with a gain above it by more than that, and the gain; None: there is
            none among the rows looked at.
    """

    rank: int
    id: int
    recorded: float
    gain: float
    size: float
    tolerance: float
    better: tuple[int, float] | None

    @property
    def off(self) -> float:
        """What the recorded gain is off by, as a share of `size`."""
        return abs(self.recorded - self.gain) / max(self.size, np.finfo(np.float64).tiny)

    @property
    def is_near(self) -> bool:
        """Whether recomputation gives the recorded gain; NaN is none."""
        return self.off <= self.tolerance or self.recorded == self.gain


def residual_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return softmax - onehot. Shape: (N, C)."""
    power = np.exp(logits - logits.max(1, keepdims=True))
    residual = power / power.sum(1, keepdims=True)
    residual[np.arange(len(labels)), labels] -= 1
    return residual


def recomputed(
    plan: Plan,
    pool: Rows,
    validation: Rows,
    logits_VC: np.ndarray,
    recorded: Sequence[tuple[int, float]],
) -> list[Pick]:
    """Return the first picks of a selection beside what the definition gives.

    Args:
        plan: what was asked.
        pool: rows of the pool, the picks among them.
        validation: the validation rows; its residuals are not read, they move.
        logits_VC: at the weights of the selection.
        recorded: (id, gain) of the first picks, in order.
    """
    row_of = {int(id_): row for row, id_ in enumerate(pool.ids)}
    room = None if plan.room_C is None else np.array(plan.room_C)
    moved = np.zeros((pool.residual.shape[1], pool.wide.shape[1]))
    open_N, starts, picks = np.ones(len(pool.ids), dtype=bool), _starts(plan.sizes), list[Pick]()
    gain_N = size = np.zeros(0)
    pending = np.zeros_like(moved)
    for rank, (id_, gain) in enumerate(recorded):
        row = row_of[id_]
        if rank in starts:
            moved, pending = moved + pending, np.zeros_like(moved)
            logits = logits_VC - plan.step * validation.wide @ moved.T
            residual_VC = residual_of(logits, validation.labels)
            direction = residual_VC.T @ validation.wide / len(validation.labels)
            gain_N = (pool.residual * (pool.wide @ direction.T)).sum(1)
            size = np.linalg.norm(direction) * pool.norm
            if plan.normalize:
                known = np.where(pool.norm > 0, pool.norm, 1.0)
                gain_N, size = gain_N / known, size / known
        best = _better(plan, pool, open_N, room, gain_N, size, row)
        pick = Pick(
            rank=rank,
            id=id_,
            recorded=gain,
            gain=float(gain_N[row]),
            size=float(size[row]),
            tolerance=plan.tolerance,
            better=best,
        )
        picks.append(pick)
        pending += np.outer(pool.residual[row], pool.wide[row])
        open_N[row] = False
        if room is not None:
            room[pool.labels[row]] -= 1
    return picks


def _starts(sizes: Sequence[int]) -> set[int]:
    """Return the ranks at which a new direction is formed."""
    return {0, *np.cumsum(sizes).tolist()}


def _better(
    plan: Plan,
    pool: Rows,
    open_N: np.ndarray,
    room: np.ndarray | None,
    gain_N: np.ndarray,
    size_N: np.ndarray,
    row: int,
) -> tuple[int, float] | None:
    """Return an open row that should have been taken instead of this one."""
    if not plan.best_of_all:
        return None
    may_N = open_N if room is None else open_N & (room > 0)[pool.labels]
    sure_N = gain_N - plan.tolerance * (size_N + size_N[row])
    above_N = np.flatnonzero(may_N & (sure_N > gain_N[row]))
    if not len(above_N):
        return None
    best = int(above_N[gain_N[above_N].argmax()])
    return int(pool.ids[best]), float(gain_N[best])
