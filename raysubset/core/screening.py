"""Exact greedy without looking at every gain: upper bounds first, exact gains for the few.

At every pick all open rows get an upper bound of their gain from a small basis (`low_rank`); the
best by bound are scored exactly from kernel columns; the pick is certain once the best exact gain
reaches the next bound. Between two looks at all rows only an active set is bounded, the rows that
the last directions could have made a pick; one number holds for all others (`active_rows`).
Nothing here is an approximation: where a bound is too loose the pick is made from all gains, and
where rounding could decide, float64 does (`exact_gains`). Where bounds cost more than they save,
by counts, all further picks are made from all gains.
Shape letters: N rows, M candidates, V validation examples, C classes, H embedding width, q basis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raysubset.core.active_rows import ActiveRows, Bounded, around
from raysubset.core.allowance import BASIS, WASTE, Allowance, places
from raysubset.core.exact_gains import NONE, Best, ExactGains
from raysubset.core.factors import GradientFactors
from raysubset.core.kernel_columns import AHEAD, KernelColumns
from raysubset.core.low_rank import LowRank
from raysubset.core.moving_lookahead import MovingLookahead

FIRST = 8
"""Candidates that are scored exactly at first; four times as many while the bound asks for it."""
_DRIFTED = 64
"""The same, at most, where the direction beside the basis is a bound; then it is measured."""
_CROWD = 12
"""Candidates whose bounds reach the best gain: more of them say that the basis is too narrow."""
_GROWTH = 3
_WINDOW = 16
"""Directions that an active set is made from."""
_LIFE = 64
"""Picks after which it is made anew."""
_MISSES = 4
_FAILURES = 6
"""More picks that no bound decided than picks that one did, before bounds rest."""
_PAUSE = 128
"""Picks that they rest for; twice as many each time."""
_SLACK = 5e-2
"""Of |D|: how far it may move beside the basis before that is measured in any case."""
_LOOSE = 1e-3
"""Of |D|: what it has to have beside the basis before the basis is widened."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picked:
    """What exact greedy took, in order.

    Attributes:
        row_K: positions of the picks.
        gain_K: their gains at the time.
        evaluations: exact gains computed, over those that full re-scoring computes.
    """

    row_K: Tensor
    gain_K: Tensor
    evaluations: float


class ScreenedGreedy:
    """Exact greedy over rows in one place."""

    def __init__(
        self,
        factors: GradientFactors,
        look: MovingLookahead,
        open_N: Tensor,
        room_C: Tensor | None,
        normalize: bool = False,
        waste: float = WASTE,
    ) -> None:
        """Set up the tables: one pass over the embeddings.

        Args:
            factors: the rows, in the order in which ties are broken.
            look: the validation set at the picks so far; it is moved along.
            open_N: which rows may be taken.
            room_C: how many more of each class may be taken; None where classes are free.
            normalize: rank by <g, D> / |g|.
            waste: of plain re-scoring's work, what bounds may lose before they are given up.
        """
        self.factors, self.look = factors, look
        self.work, self._waste = Allowance(factors, look.residual_CV.shape[1]), waste
        residual_NC = factors.residual_NC.to(look.residual_CV.dtype)
        if normalize:
            norm_N = factors.norm_N[:, None]
            residual_NC = torch.where(norm_N > 0, residual_NC / norm_N, 0.0)
        self._residual_CN = residual_NC.T.contiguous()
        self.room_C = None if room_C is None else room_C.tolist()
        self.basis = LowRank(factors, look.embedding_VH, BASIS)
        most = max(8 * AHEAD, places(factors, look.residual_CV.T))
        self.most = most // 4
        self._size_N = sizes(residual_NC)
        self.norm_N = self._size_N * self.basis.norm_N
        self.closed_N = torch.where(open_N, 0.0, -torch.inf).to(self.norm_N)
        self.exact = ExactGains(
            factors,
            look,
            KernelColumns(factors, look, most),
            self.work,
            residual_NC,
            self.norm_N,
            self.closed_N,
        )
        self._seen: deque[tuple[Tensor, float]] = deque(maxlen=_WINDOW)
        self.active: ActiveRows | None = None
        self._misses, self._moved, self._crowd = 0, 0.0, 0
        self._failed, self._paused, self._pause = 0, 0, _PAUSE if waste < torch.inf else 0
        self._anchor_CV = torch.empty_like(look.residual_CV)
        self._moved_CV = torch.empty_like(look.residual_CV)
        self.basis.grow(look.direction(), look.residual_CV.shape[0])
        self._reweigh()

    def take(self, picks: int, watch: Callable[[int], object] | None = None) -> Picked:
        """Take this many rows, fewer only where fewer are open; `watch` hears how many are taken.

        Raises:
            ConfigError: the look-ahead overflowed.
        """
        rows: list[int] = []
        gains: list[float] = []
        self.work.grant(picks, self._waste)
        for _ in range(picks):
            if watch is not None:
                watch(len(rows))
            self.work.left += self.work.pick
            best = self._plainly() if self._is_hopeless() else self._best()
            if not best.gain > -torch.inf:
                break  # no row is open
            rows.append(best.row)
            gains.append(best.gain)
            self._close(best)
        device = self.norm_N.device
        return Picked(
            row_K=torch.tensor(rows, dtype=torch.int64, device=device),
            gain_K=torch.tensor(gains, dtype=self.norm_N.dtype, device=device),
            evaluations=self.exact.scored / max(1, len(rows) * len(self.norm_N)),
        )

    def _best(self) -> Best:
        """Return the pick: by the active set if that is certain, else by all rows."""
        coordinate_Cq = self.look.mean(self.basis.look_Vq)
        drift = self._drift()
        best = self._by_active(coordinate_Cq, drift) if drift <= self._slack else None
        if best is None and drift > 0:
            # The direction may have come back beside the basis, where only its drift is bounded.
            self._anchor()
            drift = 0.0
            best = self._by_active(coordinate_Cq, drift)
        if best is None:
            self._misses += 1
            self.work.over(len(self.norm_N), self.basis.width)
            bound_N = self._bounded.at(coordinate_Cq, self._rest, self.exact.margin)
            best = self._certain(bound_N, None, -torch.inf) or self._of_all()
        self._failed = max(0, self._failed + (1 if best.scored == len(self.norm_N) else -1))
        self._seen.append((coordinate_Cq, best.gain))
        self._tighten(best)
        return best

    def _by_active(self, coordinate_Cq: Tensor, drift: float) -> Best | None:
        active = self.active
        if active is None:
            return None
        self.work.over(len(active.row_M), self.basis.width)
        above = active.above(coordinate_Cq, self._moved + drift)
        bound_M = active.bounded.at(coordinate_Cq, self._rest + drift, self.exact.margin)
        return self._certain(bound_M, active.row_M, above, _DRIFTED if drift else self.most)

    def _certain(
        self, bound_M: Tensor, row_M: Tensor | None, above: float, most: int = 0
    ) -> Best | None:
        """Return the row of the largest gain, if the bounds leave no doubt; else None.

        Args:
            bound_M: upper bounds.
            row_M: of which rows; None for all.
            above: what no row outside these can pass.
            most: candidates that may be scored; 0 for as many as columns are kept.
        """
        size = FIRST
        while True:
            bound, top = bound_M.topk(min(size + 1, len(bound_M)))
            bounds = bound.tolist()
            open_M = top[: sum(b != -torch.inf for b in bounds[:size])]
            if not len(open_M):
                return NONE if above == -torch.inf else None
            open_M = open_M if row_M is None else row_M.index_select(0, open_M)
            scored = self.exact.of(open_M, open_M.tolist(), lambda: self._likely(bound_M, row_M))
            if scored.sure < above:
                return None
            self._crowd = sum(bound >= scored.sure for bound in bounds)
            if self._crowd <= size:
                return self.exact.best_of(scored)
            if 4 * size > (most or self.most):
                return None
            size *= 4

    def _likely(self, bound_M: Tensor, row_M: Tensor | None) -> list[int]:
        """Return the rows whose kernel columns may be asked for next."""
        likely_M = bound_M.topk(min(4 * AHEAD, len(bound_M))).indices
        return (likely_M if row_M is None else row_M[likely_M]).tolist()

    def _is_hopeless(self) -> bool:
        """Return whether bounds are not asked: they decided little, or cost more than they save."""
        if self._failed >= _FAILURES:
            self._failed, self._pause, self._paused = 0, 2 * self._pause, self._pause
        self._paused -= 1
        return self._paused >= 0 or self.work.left < 0

    def _of_all(self) -> Best:
        """Return the pick by re-scoring every row: what no bound could decide."""
        self.work.left -= self.work.pick
        return self.exact.best_of_all()

    def _plainly(self) -> Best:
        """Return the pick without a bound."""
        self._forget()
        return self._of_all()

    def _close(self, best: Best) -> None:
        """Take a row: no longer open, and its class has one less to give."""
        self.closed_N[best.row] = -torch.inf
        if self.active is not None:
            self.active.close(best.row)
        if self.room_C is not None:
            label = int(self.factors.label_N[best.row])
            self.room_C[label] -= 1
            if self.room_C[label] <= 0:
                self.closed_N[self.factors.label_N == label] = -torch.inf
                self._forget()
        self.look.take(self.factors.residual_NC[best.row], best.column_V)
        if len(self._seen) == _WINDOW:
            self._renew()

    def _renew(self) -> None:
        """Make the active set anew where it is old, missed too often or is not there."""
        active = self.active
        if active is not None and active.picks < _LIFE and self._misses <= _MISSES:
            return
        self._anchor()
        rest_CH = self._rest_CH
        self.active = around(self._bounded, [*self._seen], rest_CH, self._rest, self.exact.margin)
        self._misses, self._moved = 0, 0.0
        if self.active is None:
            self._seen.clear()  # not again before another window

    def _tighten(self, best: Best) -> None:
        """Widen the basis where a bound was too loose because of what lies beside it."""
        if self._crowd <= _CROWD or self._rest <= _LOOSE * self._size:
            return
        direction, before = self.look.direction(), self.basis.width
        self.work.decomposition()
        if not self.basis.grow(direction, _GROWTH):
            self.basis.restart()
            before = 0
            self.basis.grow(direction, direction.shape[0])
        self.work.grown(len(self.norm_N), self.basis.width - before)
        self._reweigh()
        self._forget()

    def _forget(self) -> None:
        self.active = None
        self._seen.clear()

    def _reweigh(self) -> None:
        """Bound all rows by the basis as it is now."""
        self.active = None
        self._bounded = Bounded(
            residual_CN=self._residual_CN,
            table_qN=self.basis.table_qN,
            rest_N=self._size_N * self.basis.rest_N,
            norm_N=self.norm_N,
            closed_N=self.closed_N,
        )
        self._anchor()

    def _anchor(self) -> None:
        """Measure the direction beside the basis exactly; until the next time it is bounded."""
        direction = self.look.direction()
        self.work.decomposition()
        self._anchor_CV.copy_(self.look.residual_CV)
        self._rest_CH = self.basis.split(direction)[1]
        if self.active is not None:
            self._moved = float(torch.linalg.vector_norm(self._rest_CH - self.active.rest_CH))
        self._rest = spectral_norm(self._rest_CH)
        self._size = float(torch.linalg.vector_norm(direction))
        self._slack = _SLACK * self._size
        self._mass = self.look.mass()
        self.exact.round_at(self._mass)

    def _drift(self) -> float:
        """Return how far the direction beside the basis can have moved since the anchor."""
        moved_CV = torch.sub(self.look.residual_CV, self._anchor_CV, out=self._moved_CV).view(-1)
        # (Its norm by `vector_norm` takes thrice as long.)
        moved = float(torch.dot(moved_CV, moved_CV)) ** 0.5 / self.look.residual_CV.shape[1]
        self.exact.round_at(self._mass + moved * self.look.size)
        return moved * self.basis.spread


def spectral_norm(matrix: Tensor) -> float:
    """Return the largest singular value, rounded up; from products, as one side is short."""
    largest = float(matrix.abs().max())
    if not 0 < largest < torch.inf:
        return largest
    short = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T) / largest
    return largest * float(torch.linalg.eigvalsh(short @ short.T)[-1]) ** 0.5 * (1 + 1e-4)


def sizes(residual_NC: Tensor) -> Tensor:
    """Return |r|; also of residuals whose squares are no longer numbers of this type. (N,)."""
    largest_N = residual_NC.abs().amax(1)
    scaled_NC = residual_NC / torch.where(largest_N > 0, largest_N, 1.0)[:, None]
    return largest_N * scaled_NC.square().sum(1).sqrt()
