"""Slow, obvious twins: float64, expanded gradients, Python loops, no code of raysubset.

Shape letters: N pool, V validation, C classes, H embedding width, K picked.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

MASK_64 = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A pool, a validation set and a head, as plain arrays; ids may be any distinct numbers."""

    embedding_NH: np.ndarray
    label_N: np.ndarray
    ids_N: np.ndarray
    embedding_VH: np.ndarray
    label_V: np.ndarray
    weight_CH: np.ndarray
    bias_C: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.bias_C)

    def row_of(self) -> dict[int, int]:
        return {int(i): row for row, i in enumerate(self.ids_N)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What greedy is asked to do."""

    sizes: list[int]
    step: float
    gradient: str = "last_layer"
    normalize: bool = False
    quota_C: list[int] | None = None
    regularizer: str = "none"
    lam: float = 0.0


def softmax(z_C: np.ndarray) -> np.ndarray:
    e_C = np.exp(z_C - z_C.max())
    return e_C / e_C.sum()


def cross_entropy(z_C: np.ndarray, label: int) -> float:
    return math.log(np.exp(z_C - z_C.max()).sum()) + float(z_C.max() - z_C[label])


def gradient_of(h_H: np.ndarray, label: int, weight_CH: np.ndarray, bias_C: np.ndarray):
    """The head's gradient for one example: C x (H+1), the bias in the last column."""
    p_C = softmax(weight_CH @ h_H + bias_C)
    y_C = np.eye(len(bias_C))[label]
    return np.outer(p_C - y_C, np.append(h_H, 1.0))


def expanded(problem: Problem, gradient: str = "last_layer") -> np.ndarray:
    """Every example's gradient, written out. Shape: (N, C, H+1); bias: zero but the last column."""
    head = problem.weight_CH.astype(np.float64), problem.bias_C.astype(np.float64)
    rows = zip(problem.embedding_NH.astype(np.float64), problem.label_N, strict=True)
    return np.array([_kept(gradient_of(h, y, *head), gradient) for h, y in rows])


def _kept(gradient_matrix: np.ndarray, gradient: str) -> np.ndarray:
    if gradient == "bias":
        gradient_matrix = gradient_matrix.copy()
        gradient_matrix[:, :-1] = 0
    return gradient_matrix


def moved_head(problem: Problem, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return problem.weight_CH - move[:, :-1], problem.bias_C - move[:, -1]


def validation_loss(problem: Problem, move: np.ndarray) -> float:
    """The mean cross-entropy of validation after the head moved by -move. (C, H+1) -> nats."""
    weight_CH, bias_C = moved_head(problem, move)
    rows = zip(problem.embedding_VH.astype(np.float64), problem.label_V, strict=True)
    losses = [cross_entropy(weight_CH @ h + bias_C, y) for h, y in rows]
    return sum(losses) / len(losses)


def direction(problem: Problem, move: np.ndarray, gradient: str = "last_layer") -> np.ndarray:
    """The mean validation gradient of the head that moved by -move. Shape: (C, H+1)."""
    head = moved_head(problem, move)
    rows = zip(problem.embedding_VH.astype(np.float64), problem.label_V, strict=True)
    return _kept(sum(gradient_of(h, y, *head) for h, y in rows) / len(problem.label_V), gradient)


def greedy(problem: Problem, plan: Plan) -> tuple[list[int], list[float]]:
    """Greedy by its definition: score every open id, take the best (ties: lower id), move."""
    g_N = expanded(problem, plan.gradient)
    walk = _Walk(problem=problem, plan=plan, g_N=g_N, move=np.zeros_like(g_N[0]))
    for size in plan.sizes:
        walk.block(size)
    return walk.ids, walk.gains


@dataclass(kw_only=True)
class _Walk:
    problem: Problem
    plan: Plan
    g_N: np.ndarray
    move: np.ndarray
    ids: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)

    def block(self, size: int) -> None:
        d = direction(self.problem, self.move, self.plan.gradient)
        before = len(self.rows)
        for _ in range(size):
            gains = {row: self.gain(row, d) for row in self.open_rows()}
            best = min(gains, key=lambda row: (-gains[row], self.problem.ids_N[row]))
            self.rows.append(best)
            self.ids.append(int(self.problem.ids_N[best]))
            self.gains.append(gains[best])
        self.move = self.move + self.plan.step * self.g_N[self.rows[before:]].sum(0)

    def open_rows(self) -> list[int]:
        labels = [self.problem.label_N[row] for row in self.rows]
        quota = self.plan.quota_C
        return [
            row
            for row in range(len(self.g_N))
            if row not in self.rows
            and (quota is None or labels.count(label := self.problem.label_N[row]) < quota[label])
        ]

    def gain(self, row: int, d: np.ndarray) -> float:
        gain = float((self.g_N[row] * d).sum())
        if self.plan.normalize:
            norm = np.linalg.norm(self.g_N[row])
            gain = gain / norm if norm > 0 else 0.0
        if self.plan.regularizer == "facility_location":
            return gain + self.plan.lam * coverage(self.g_N, self.rows, row)
        if self.plan.regularizer == "diversity":
            return gain - self.plan.lam * repulsion(self.g_N, self.rows, row)
        return gain


def rescored(
    residual_NC: np.ndarray,
    wide_NH: np.ndarray,
    logits_VC: np.ndarray,
    label_V: np.ndarray,
    wide_VH: np.ndarray,
    step: float,
    picks: int,
    *,
    label_N: np.ndarray,
    room_C: list[int] | None = None,
    normalize: bool = False,
) -> list[int]:
    """Return greedy's picks by its definition, from factors: every gain at every pick.

    `wide`: with a column of ones. `room_C`: how many of each class may be taken. Of gains that are
    equal but for the last bits of a product, the lower row's is taken.
    """
    norm_N = np.linalg.norm(residual_NC, axis=1) * np.linalg.norm(wide_NH, axis=1)
    target_VC, logits_VC = np.eye(logits_VC.shape[1])[label_V], logits_VC.copy()
    open_N, room_C, rows = np.full(len(wide_NH), True), room_C and [*room_C], list[int]()
    for _ in range(picks):
        p_VC = np.exp(logits_VC - logits_VC.max(1, keepdims=True))
        p_VC /= p_VC.sum(1, keepdims=True)
        direction_CH = (p_VC - target_VC).T @ wide_VH / len(wide_VH)
        gain_N = (residual_NC * (wide_NH @ direction_CH.T)).sum(1)
        if normalize:
            gain_N = np.where(norm_N > 0, gain_N / np.where(norm_N > 0, norm_N, 1), 0.0)
        gain_N[~open_N] = -np.inf
        row = int((gain_N >= gain_N.max() - 1e-13 * abs(gain_N.max())).nonzero()[0][0])
        rows.append(row)
        open_N[row] = False
        if room_C is not None:
            room_C[label_N[row]] -= 1
            open_N &= np.array(room_C)[label_N] > 0
        logits_VC -= step * np.outer(wide_VH @ wide_NH[row], residual_NC[row])
    return rows


def squared_distance(g_N: np.ndarray, i: int, j: int) -> float:
    return float(((g_N[i] - g_N[j]) ** 2).sum())


def coverage(g_N: np.ndarray, picked: list[int], row: int) -> float:
    """sum_j (m_j - min(m_j, d_row,j)); before the first pick m_j = (|g_j| + max |g|)^2."""
    norms = [float(np.linalg.norm(g)) for g in g_N]
    total = 0.0
    for j in range(len(g_N)):
        m = min((squared_distance(g_N, s, j) for s in picked), default=(norms[j] + max(norms)) ** 2)
        total += m - min(m, squared_distance(g_N, row, j))
    return total


def repulsion(g_N: np.ndarray, picked: list[int], row: int) -> float:
    return sum(math.exp(-squared_distance(g_N, row, s) / 2) for s in picked)


def losses_of_subsets(
    problem: Problem, budget: int, step: float, quota_C: list[int] | None = None
) -> dict[tuple[int, ...], float]:
    """Rows -> the modelled loss after them, for every subset of this size within the quotas."""
    g_N = expanded(problem)
    return {
        rows: validation_loss(problem, step * g_N[list(rows)].sum(0))
        for rows in itertools.combinations(range(len(g_N)), budget)
        if quota_C is None
        or all((problem.label_N[list(rows)] == c).sum() <= q for c, q in enumerate(quota_C))
    }


def quotas_by_search(budget: int, share_C: list[int], limit_C: list[int]) -> list[int]:
    """The whole numbers in 1..limit that are nearest to the bounded proportional shares."""
    held = [c for c, limit in enumerate(limit_C) if limit]
    target = dict(zip(held, _bounded_shares(budget, held, share_C, limit_C), strict=True))
    best: tuple[Fraction, tuple[int, ...]] | None = None
    for quota in itertools.product(*(range(1, limit_C[c] + 1) for c in held)):
        if sum(quota) == budget:
            miss = sum((q - target[c]) ** 2 for c, q in zip(held, quota, strict=True))
            # Ties: the lower class takes more.
            best = min(best or (miss, _minus(quota)), (miss, _minus(quota)))
    assert best is not None
    found = dict(zip(held, best[1], strict=True))
    return [-found.get(c, 0) for c in range(len(limit_C))]


def _minus(quota: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-q for q in quota)


def _bounded_shares(
    budget: int, held: list[int], share_C: list[int], limit_C: list[int]
) -> list[Fraction]:
    """clamp(scale * share, 1, limit) with the scale at which they sum to the budget.

    The sum is piecewise linear in the scale, so the scale lies between two breakpoints. Where
    even an endless scale is not enough, the classes without a share fill by what they hold.
    """

    def clamped(scale: Fraction, weight_C: list[int], low_C: list[int]) -> list[Fraction]:
        return [
            min(max(scale * weight_C[c], Fraction(low_C[c])), Fraction(limit_C[c])) for c in held
        ]

    def solved(weight_C: list[int], low_C: list[int]) -> list[Fraction]:
        marks = sorted(
            {Fraction(bound, weight_C[c]) for c in held if weight_C[c] for bound in (1, limit_C[c])}
            | {Fraction(0)}
        )
        sums = [sum(clamped(mark, weight_C, low_C)) for mark in marks]
        right = next(i for i, total in enumerate(sums) if total >= budget)
        if right == 0 or sums[right] == budget:
            return clamped(marks[right], weight_C, low_C)
        part = (budget - sums[right - 1]) / (sums[right] - sums[right - 1])
        scale = marks[right - 1] + part * (marks[right] - marks[right - 1])
        return clamped(scale, weight_C, low_C)

    ones = [1] * len(limit_C)
    with_share = sum(limit_C[c] if share_C[c] else 1 for c in held)
    if budget <= with_share:
        return solved(share_C, ones)
    full = [limit_C[c] if share_C[c] else 1 for c in range(len(limit_C))]
    return solved([0 if share_C[c] else limit_C[c] for c in range(len(limit_C))], full)


def floor_in_decimals(text: str, count: int) -> int:
    """floor(text * count) for a number as a person wrote it."""
    return math.floor(Fraction(text) * count)


def splitmix64(number: int, key: int) -> int:
    """Steele, Lea, Flood (OOPSLA 2014) in unsigned 64-bit Python, as a signed result."""
    z = (number * 0x9E3779B97F4A7C15 + key) & MASK_64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK_64
    z ^= z >> 31
    return z - (1 << 64) if z >> 63 else z


def duplicates(ids: list[int], labels: list[int], digests: list[int]) -> dict[int, int]:
    """Dropped id -> the id that stays: the first of the same content under the same label."""
    first: dict[tuple[int, int], int] = {}
    dropped: dict[int, int] = {}
    for i, label, digest in zip(ids, labels, digests, strict=True):
        if (digest, label) in first:
            dropped[i] = first[digest, label]
        else:
            first[digest, label] = i
    return dropped


@dataclass
class Memory:
    """What training saw of one example, one visit at a time."""

    visits: int = 0
    last_loss: float = math.nan
    margin_sum: float = 0.0
    correct: int = -1
    forgotten: int = 0

    def visit(self, loss: float, margin: float, correct: bool) -> None:
        self.visits += 1
        self.last_loss = loss
        self.margin_sum += margin
        self.forgotten += int(self.correct == 1 and not correct)
        self.correct = int(correct)
