"""Choosing: what a pool does around a strategy, whoever computes the factors.

Filters and candidates first, so that what cannot be chosen costs no forward pass; then the
strategy, behind the same class quotas as every other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import torch

from raysubset.core.budget import floor_of
from raysubset.core.factors import GradientFactors, residual_of
from raysubset.core.filters import Evidence, Filter, Verdict, keep_all
from raysubset.core.ground_set import GroundSet, LocalGroundSet, Taken
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead
from raysubset.core.scores import RandomKey
from raysubset.core.watched import Watch, WatchedGroundSet
from raysubset.errors import ConfigError, DataError, TrainingDiverged
from raysubset.faultpoints import reach
from raysubset.learn.data import Dataset
from raysubset.learn.numerics import full_fp32
from raysubset.learn.parts import Parts
from raysubset.learn.recall import rows_remembered
from raysubset.learn.rows import tensor_of
from raysubset.learn.scoring import RangeOutput, RowRange, ranges_of
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, of)."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is to be chosen once the factors are there: plain data that may travel to a device.

    Attributes:
        strategy: the plan.
        budget: K.
        key: the run's randomness.
        epochs: the run's epoch numbers that the selection serves.
        num_validation: how many of the scored ranges are validation's; they come first.
        embeddings: whether the scorers return embeddings at all.
    """

    strategy: Strategy
    budget: int
    key: int
    epochs: range
    num_validation: int = 0
    embeddings: bool = True


ScoreAndChoose = Callable[[Sequence[RowRange], Choice], tuple[Selection, float]]
"""(ranges, what to choose) -> (selection, seconds of the longest-busy scorer)."""


class PhaseLike(Protocol):
    """What choosing and training need to know of a phase."""

    @property
    def round(self) -> int:
        """Its number."""
        ...

    @property
    def strategy(self) -> str:
        """The name of what selects."""
        ...

    @property
    def budget(self) -> int:
        """K."""
        ...

    @property
    def epochs(self) -> range:
        """The run's epoch numbers that the selection serves."""
        ...

    @property
    def visits_before(self) -> int:
        """Example visits before the phase."""
        ...

    @property
    def total_visits(self) -> int:
        """Example visits of the run."""
        ...

    @property
    def lr_span(self) -> tuple[int, int] | None:
        """[from, to) of the visits that its learning-rate schedule spans; None for all."""
        ...


class Chooser:
    """Turns phases into selections, given how ranges are scored."""

    def __init__(
        self,
        parts: Parts,
        strategies: Mapping[str, Strategy],
        verdict: Verdict,
        *,
        candidates: float,
        batch_size: int,
        seed: int,
    ) -> None:
        """Hold the pool as the filters left it.

        Args:
            parts: pool and validation.
            strategies: name -> strategy, for every name that a phase may carry.
            verdict: what the filters keep of the pool.
            candidates: 1 for all, m for a fresh sample of m * K ids per round.
            batch_size: examples per scoring call.
            seed: the run's seed.
        """
        keep_N = verdict.keep_N.numpy()
        self.id_N = parts.pool.id_N[keep_N]
        self.label_N = parts.pool.label_N[keep_N]
        self.parts, self.strategies, self.candidates = parts, dict(strategies), candidates
        self.batch_size, self.seed = batch_size, seed

    def scores(self, phase: PhaseLike) -> bool:
        """Return whether the selection of a phase reads the model: what reads all takes all."""
        needs = self.strategies[phase.strategy].needs if phase.strategy in self.strategies else ()
        return phase.budget < len(self.id_N) and "factors" in needs

    def select(self, phase: PhaseLike, score_and_choose: ScoreAndChoose) -> Selection:
        """Return the selection of a phase, with its seconds by stage among the facts.

        Hand-over is what selecting took beyond the longest-busy scorer and the greedy choice:
        moving weights, factors and ids.
        """
        start = perf_counter()
        busy_s, ranges = 0.0, list[RowRange]()
        if not self.scores(phase):
            chosen = _timed(self._choice(phase), self._pool(), self._validation())
        else:
            ranges, choice = self.work(phase)
            chosen, busy_s = score_and_choose(ranges, choice)
        wall = perf_counter() - start
        seconds = {
            "seconds_scoring": busy_s,
            "seconds_handover": max(0.0, wall - busy_s - chosen.facts["seconds_greedy"]),
            "examples_scored": float(sum(len(rows.ids) for rows in ranges)),
        }
        return replace(
            chosen,
            round=phase.round,
            num_pool=len(self.id_N),
            fraction=phase.budget / len(self.id_N),
            facts={**chosen.facts, **seconds},
        )

    def work(self, phase: PhaseLike) -> tuple[list[RowRange], Choice]:
        """Return the ranges of validation and pool; scorers go from one to the other at once."""
        choice = self._choice(phase)
        validation = ranges_of("validation", self.parts.validation.id_N, self.batch_size)
        pool = ranges_of("pool", self._candidate_ids(phase), self.batch_size)
        embeddings = getattr(choice.strategy, "gradient", "last_layer") != "bias"
        choice = replace(choice, num_validation=len(validation), embeddings=embeddings)
        return [*validation, *pool], choice

    def _choice(self, phase: PhaseLike) -> Choice:
        return Choice(
            strategy=self.strategies[phase.strategy],
            budget=phase.budget,
            key=derive_key(self.seed, "select"),
            epochs=phase.epochs,
        )

    def _pool(self) -> LocalGroundSet:
        """Return the pool without gradients."""
        num_classes = self.parts.pool.num_classes
        return LocalGroundSet(GradientFactors.from_labels(self.label_N, num_classes, self.id_N))

    def _validation(self) -> Lookahead:
        validation = self.parts.validation
        return Lookahead.from_labels(validation.label_N, validation.num_classes)

    def _candidate_ids(self, phase: PhaseLike) -> np.ndarray:
        size = floor_of(self.candidates, phase.budget)
        if self.candidates == 1 or size >= len(self.id_N):
            return self.id_N
        key = derive_key(self.seed, "candidates", phase.round)
        best = self._pool().best(RandomKey(key), size, Taken.nothing())
        return np.sort(best.factors.ids_N.numpy())


def filter_pool(pool: Dataset, filters: Sequence[Filter]) -> Verdict:
    """Return what the filters keep of the pool, with a reason per dropped id.

    Raises:
        ConfigError: the filters keep nothing.
    """
    digest_N = torch.from_numpy(pool.content_digest_N.view(np.int64).copy())
    evidence = Evidence(
        ids_N=torch.from_numpy(pool.id_N.copy()),
        label_N=torch.from_numpy(pool.label_N.copy()),
        digest_N=digest_N,
    )
    verdict = keep_all(filters, evidence) if filters else _keep_everything(evidence)
    if not bool(verdict.keep_N.any()):
        raise ConfigError("the filters keep no example; choose fewer --selection.filters.")
    return verdict


def _keep_everything(evidence: Evidence) -> Verdict:
    return Verdict(keep_N=torch.ones(len(evidence.ids_N), dtype=torch.bool), reasons={})


def choose_from(
    choice: Choice, ground_set: GroundSet, validation: Sequence[RangeOutput], progress: Progress
) -> Selection:
    """Return the selection from a ground set, wherever it lies, and validation's outputs."""
    with full_fp32():
        watched = WatchedGroundSet(ground_set, _told(progress, choice.budget))
        return _timed(choice, watched, _lookahead(validation, "cpu"))


def choose(
    choice: Choice,
    outputs: Sequence[RangeOutput],
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Selection:
    """Return the selection from the ranges' outputs, in their order, on one device."""
    reach("selection.greedy")
    split = choice.num_validation
    left_out = _left_out(outputs[split:], choice.budget)
    with full_fp32():
        factors = GradientFactors.concat([factors_of(out, device) for out in outputs[split:]])
        ground_set: GroundSet = LocalGroundSet(factors)
        lookahead = _lookahead(outputs[:split], device)
        if progress is not None:
            ground_set = WatchedGroundSet(ground_set, _told(progress, choice.budget))
        chosen = _timed(choice, ground_set, lookahead)
    return replace(chosen, left_out=left_out, facts={**chosen.facts, **rows_remembered(outputs)})


def _left_out(outputs: Sequence[RangeOutput], budget: int) -> np.ndarray:
    """Return the ids that cannot be chosen; refuse where these are most, or too few are left."""
    left_out = np.concatenate([out.left_out for out in outputs])
    rows = sum(len(out.ids) for out in outputs)
    told = (
        f"the model gives NaN or infinity for {len(left_out):,} of {rows + len(left_out):,} pool "
        f"rows, first ids {left_out[:10].tolist()}"
    )
    if len(left_out) > rows:
        raise TrainingDiverged(f"{told}; lower --training.lr or set --training.clip_norm.")
    if rows < budget:
        raise DataError(
            f"{told}, which leaves {rows:,} for a budget of {budget:,}; repair these rows, or "
            "lower --selection.fraction."
        )
    return left_out


def _told(progress: Progress, budget: int) -> Watch:
    return lambda taken: progress("selecting", taken, budget)


def _timed(choice: Choice, ground_set: GroundSet, lookahead: Lookahead) -> Selection:
    start = perf_counter()
    chosen = choice.strategy.select(ground_set, lookahead, choice.budget, choice.key, choice.epochs)
    facts = {**chosen.facts, "seconds_greedy": perf_counter() - start}
    return replace(chosen, facts=facts)


def factors_of(out: RangeOutput, device: torch.device | str = "cpu") -> GradientFactors:
    """Return the gradient factors of a range."""
    label = tensor_of(out.labels).to(device)
    return GradientFactors(
        ids_N=tensor_of(out.ids).to(device),
        label_N=label,
        residual_NC=residual_of(tensor_of(out.logits).to(device), label),
        embedding_NH=tensor_of(out.embeddings).to(device),
    )


def _lookahead(outputs: Sequence[RangeOutput], device: torch.device | str) -> Lookahead:
    return Lookahead(
        embedding_VH=torch.cat([tensor_of(out.embeddings) for out in outputs]).to(device),
        label_V=torch.cat([tensor_of(out.labels) for out in outputs]).to(device),
        logits_VC=torch.cat([tensor_of(out.logits) for out in outputs]).to(device),
    )
