"""GLISTER: pick what lowers the validation loss after one imagined step of the head.

Source: Killamsetty, Sivasubramanian, Ramakrishnan, Iyer, "GLISTER: Generalization based Data
Subset Selection for Efficient and Robust Learning", AAAI 2021 (arXiv 2012.10630), Algorithm 2.
Shape letters: N ground set, V validation, C classes, H embedding width, K budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from raysubset.core.allowance import is_worth
from raysubset.core.budget import check_budget, floor_of
from raysubset.core.certificate import certify
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import (
    BiasGroundSet,
    Candidates,
    GroundSet,
    LocalGroundSet,
    Taken,
)
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead, overflowed
from raysubset.core.moving_lookahead import MovingLookahead
from raysubset.core.quotas import Balance
from raysubset.core.scores import Alignment, RandomKey
from raysubset.core.screening import ScreenedGreedy
from raysubset.core.watched import in_one_place
from raysubset.errors import ConfigError, DataError
from raysubset.strategies.picks import Block, Blocks, Exact, Picks, Stochastic
from raysubset.strategies.regularizers import Penalty, RandomFill, Regularizer
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Need, rooms, selection_of

Ask = Callable[[Alignment, int, Taken], Candidates]


@dataclass(frozen=True, kw_only=True)
class Glister:
    """GLISTER-ONLINE's selection.

    Attributes:
        gradient: "last_layer"; "bias" keeps the residual only (CORDS's default).
        step: "mean": step_size / K per pick, so that a full budget is one step along the
            subset's mean gradient; "sum": step_size per pick (CORDS).
        step_size: dimensionless, or "auto": the step of a fixed geometric grid with the smallest
            validation loss along the pool's mean gradient.
        picks: `Exact()`, `Block(size)`, `Blocks(count)` or `Stochastic(epsilon)`.
        balance: class quotas.
        candidates: 1.0 chooses from all; m > 1 from a fresh uniform sample of m * K ids.
        normalize: rank by <g, D> / |g|; the gains recorded are then those numbers.
        regularizer: None, `FacilityLocation`, `Diversity` or `RandomFill`.
    """

    gradient: Literal["last_layer", "bias"] = "last_layer"
    step: Literal["mean", "sum"] = "mean"
    step_size: float | Literal["auto"] = "auto"
    picks: Picks = Exact()
    balance: Balance = "validation"
    candidates: float = 1.0
    normalize: bool = False
    regularizer: Regularizer | None = None

    @property
    def name(self) -> str:
        """The name of the field, as reports show it."""
        return "glister"

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed before `select`."""
        return frozenset({"factors", "lookahead"})

    def __post_init__(self) -> None:
        """Refuse what no run could mean."""
        if not isinstance(self.picks, Exact | Block | Blocks | Stochastic):
            raise ConfigError(
                f"picks={self.picks!r} must be Exact(), Block(size), Blocks(count) or "
                "Stochastic(epsilon)."
            )
        if self.balance not in get_args(Balance):
            raise ConfigError(
                f"balance={self.balance!r} must be one of {', '.join(get_args(Balance))}."
            )
        if self.gradient not in ("last_layer", "bias"):
            raise ConfigError(f"gradient={self.gradient!r} must be 'last_layer' or 'bias'.")
        if self.step not in ("mean", "sum"):
            raise ConfigError(f"step={self.step!r} must be 'mean' or 'sum'.")
        if self.step_size != "auto" and not _is_positive(self.step_size):
            raise ConfigError(f"step_size={self.step_size!r} must be above 0, or 'auto'.")
        if not 1 <= self.candidates < float("inf"):
            raise ConfigError(f"candidates={self.candidates:g} must be 1 (all) or more times K.")

    def select(
        self,
        ground_set: GroundSet,
        lookahead: Lookahead | None,
        budget: int,
        key: int = 0,
        epochs: range = range(1),
    ) -> Selection:
        """Return the greedy subset of exactly `budget` ids, in order of choice; see `Strategy`."""
        if lookahead is None:
            raise ConfigError("GLISTER needs a lookahead; make one with Lookahead.from_embeddings.")
        key = derive_key(key, "glister", epochs.start)
        budget = check_budget(budget, ground_set.num_examples)
        room_C = rooms(self.balance, ground_set, lookahead, budget)
        if budget == ground_set.num_examples:
            return selection_of(ground_set.whole().factors, None, ground_set, weighted=True)
        pool = self._candidates(ground_set, budget, key)
        if pool is not ground_set:
            room_C = rooms(self.balance, pool, lookahead, budget)
        return _Greedy(self, pool, lookahead, budget, key, room_C).run(ground_set)

    def _candidates(self, ground_set: GroundSet, budget: int, key: int) -> GroundSet:
        size = floor_of(self.candidates, budget)
        if self.candidates == 1 or size >= ground_set.num_examples:
            return ground_set
        score = RandomKey(derive_key(key, "candidates"))
        return LocalGroundSet(ground_set.best(score, size, Taken.nothing()).factors)


class _Greedy:
    """One greedy run: the direction at the picks so far, the best under it, look ahead again."""

    def __init__(
        self,
        plan: Glister,
        pool: GroundSet,
        lookahead: Lookahead,
        budget: int,
        key: int,
        room_C: list[int] | None,
    ) -> None:
        if plan.gradient == "bias":
            pool, lookahead = BiasGroundSet(pool), lookahead.bias_only()
        self.plan, self.pool, self.budget, self.key = plan, pool, budget, key
        self.lookahead = lookahead
        self.step = self._step_per_pick()
        self.nothing = Taken.nothing(room_C)
        self.taken = self.nothing
        self.logits_VC = self.lookahead.logits_VC.clone()
        self.picked: list[Candidates] = []
        self.evaluations = 1.0

    def run(self, ground_set: GroundSet) -> Selection:
        """Take the whole budget, certify it and return it."""
        share = (
            self.plan.regularizer.share if isinstance(self.plan.regularizer, RandomFill) else 0.0
        )
        random = floor_of(share, self.budget)
        if not self._take_screened(self.budget - random):
            ask = self._ask()
            for size in self.plan.picks.sizes(self.budget - random):
                direction = self._direction()
                self._take(ask(Alignment(direction, self.plan.normalize), size, self.taken))
        if random:
            self._fill(random)
        return self._result(ground_set)

    def _take_screened(self, picks: int) -> bool:
        """Take exact picks by certified bounds, where that is worth it and the rows are here."""
        plain = self.plan.regularizer is None or isinstance(self.plan.regularizer, RandomFill)
        found = in_one_place(self.pool)
        if not (isinstance(self.plan.picks, Exact) and plain and found):
            return False
        local, watch = found
        if not is_worth(local.factors, self.lookahead.logits_VC, picks):
            return False
        greedy = ScreenedGreedy(
            local.factors,
            MovingLookahead(self.lookahead, self.step),
            local.open_N(self.taken),
            self.taken.room_C,
            self.plan.normalize,
        )
        picked = greedy.take(picks, watch)
        self._take(Candidates(gain_K=picked.gain_K, factors=local.factors.take(picked.row_K)))
        self.evaluations = picked.evaluations
        return True

    def _direction(self) -> Tensor:
        direction = self.lookahead.direction(self.logits_VC)
        if not bool(torch.isfinite(direction).all()):
            raise overflowed(self.step)
        return direction

    def _take(self, best: Candidates) -> None:
        self.logits_VC -= self.step * self.lookahead.shift(best.factors.gradient_sum())
        self.taken = self.taken.plus(best.factors)
        self.picked.append(best)

    def _ask(self) -> Ask:
        """Return how a step finds its picks: the ground set's verb, sampled or regularized."""
        ask: Ask = self.pool.best
        if not (self.plan.regularizer is None or isinstance(self.plan.regularizer, RandomFill)):
            pool = self.pool.whole()
            ask = _Regularized(pool, self.plan.regularizer.start(pool.factors))
        if isinstance(self.plan.picks, Stochastic):
            size = self.plan.picks.sample_size(self.pool.num_examples, self.budget)
            ask = _Sampled(self.pool, ask, size, derive_key(self.key, "stochastic"))
        return ask

    def _step_per_pick(self) -> float:
        size = self.plan.step_size
        if size == "auto":
            mean = self.pool.gradient_sum() / self.pool.num_examples
            return self.lookahead.best_step(mean) / self.budget
        return float(size) / self.budget if self.plan.step == "mean" else float(size)

    def _fill(self, random: int) -> None:
        best = self.pool.best(RandomKey(derive_key(self.key, "fill")), random, self.taken)
        score = Alignment(self._direction(), self.plan.normalize)
        self._take(Candidates(gain_K=score(best.factors), factors=best.factors))

    def _result(self, ground_set: GroundSet) -> Selection:
        chosen = GradientFactors.concat([best.factors for best in self.picked])
        gain_K = torch.cat([best.gain_K for best in self.picked])
        chosen_set = LocalGroundSet(chosen)
        if len(set(chosen.ids_N.tolist())) != self.budget:
            raise DataError(
                f"only {len(set(chosen.ids_N.tolist()))} of {self.budget} ids could be chosen: "
                "the shards of a ground set must not share ids."
            )
        proof = certify(self.pool, self.lookahead, chosen_set, self.step, self.nothing)
        facts = {
            "step_per_pick": self.step,
            "modelled_loss_before": proof.loss_before,
            "modelled_loss_after": proof.loss_after,
            "share_of_optimum": proof.share,
            "gains_computed": self.evaluations,
        }
        return selection_of(chosen, gain_K, ground_set, weighted=True, facts=facts)


class _Sampled:
    """Asks a fresh uniform sample of the open ids instead of all of them."""

    def __init__(self, pool: GroundSet, ask: Ask, size: int, key: int) -> None:
        self.pool, self.ask, self.size, self.key = pool, ask, size, key

    def __call__(self, score: Alignment, k: int, taken: Taken) -> Candidates:
        draw = RandomKey(derive_key(self.key, len(taken.ids_K)))
        # The sample is of all open ids: a class with room for one is looked at as any other.
        sample = self.pool.best(draw, max(k, self.size), taken.unlimited()).factors
        if isinstance(self.ask, _Regularized):
            return self.ask(score, k, taken, torch.sort(sample.ids_N).values)
        return LocalGroundSet(sample).best(score, k, taken)


class _Regularized:
    """Takes the k picks of a step one by one: the direction is stale, the penalty never is."""

    def __init__(self, pool: LocalGroundSet, penalty: Penalty) -> None:
        self.pool, self.penalty = pool, penalty

    def __call__(
        self, score: Alignment, k: int, taken: Taken, among: Tensor | None = None
    ) -> Candidates:
        gain_N = score(self.pool.factors)
        rows: list[int] = []
        totals: list[float] = []
        for _ in range(k):
            open_N = self.pool.open_N(taken)
            if among is not None:
                open_N &= torch.isin(self.pool.factors.ids_N, among)
            row, total = self.penalty.best(gain_N, open_N)
            self.penalty.take(row)
            taken = taken.plus(self.pool.factors.take(slice(row, row + 1)))
            rows.append(row)
            totals.append(total)
        index = torch.tensor(rows, device=gain_N.device)
        gain_K = torch.tensor(totals, dtype=gain_N.dtype, device=gain_N.device)
        return Candidates(gain_K=gain_K, factors=self.pool.factors.take(index))


def _is_positive(value: float | str) -> bool:
    """Return whether this reads as a finite number above 0."""
    try:
        return 0 < float(value) < float("inf")
    except ValueError:
        return False
