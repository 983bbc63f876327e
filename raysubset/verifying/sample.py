"""A sample of GLISTER's gains, recomputed in float64 from the checkpoint that a round chose by."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from raysubset.chain import ENVIRONMENT
from raysubset.core.budget import floor_of
from raysubset.core.lookahead import STEP_GRID
from raysubset.core.quotas import class_quotas
from raysubset.errors import RaySubsetError
from raysubset.files import read_object
from raysubset.learn.checkpoint import WEIGHTS, CheckpointRef, read_weights
from raysubset.learn.choosing import Choice
from raysubset.learn.numerics import full_fp32, settled
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RangeOutput, RowRange, Scorer
from raysubset.preparation import Prepared, environment
from raysubset.records import is_choice
from raysubset.schedule import Phase
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Stochastic
from raysubset.strategies.regularizers import RandomFill
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.greedy64 import (
    ELSEWHERE,
    SAME_MACHINE,
    Pick,
    Plan,
    Rows,
    recomputed,
    residual_of,
)
from raysubset.verifying.links import STATE, Chain, Link
from raysubset.verifying.records import Whole

PICKS = 16
"""How many of a round's picks are recomputed, the first ones."""
RANGES = 32
"""How many ranges of the pool are scored for it, those of the picks among them."""


class NotChecked(Exception):
    """Why something cannot be made again."""


class Made:
    """One round's choice, to be made again.

    Attributes:
        run: where.
        chain: its manifests.
        whole: what of it may be believed.
        prepared: its data, model and plan.
        link: the round.
        check: what takes note of differences.
    """

    def __init__(
        self, run: Run, chain: Chain, whole: Whole, prepared: Prepared, link: Link, check: Check
    ) -> None:
        """Hold them.

        Raises:
            NotChecked: the table of the choice is damaged, or the plan has no such round.
        """
        self.run, self.chain, self.whole, self.prepared = run, chain, whole, prepared
        self.link, self.check = link, check
        self.name = run.name(link.folder / "selection.parquet")
        self.table = self.choice_of(link)
        if link.round >= len(prepared.phases):
            raise NotChecked("the plan has no such round")

    @property
    def before(self) -> Link:
        """The round before."""
        return self.chain.links[self.link.round - 1]

    def choice_of(self, link: Link) -> Any:
        """Return the table of a round's choice."""
        table = self.whole.tables.get(self.run.name(link.folder / "selection.parquet"))
        if table is None or not is_choice(table):
            raise NotChecked(f"the choice of round {link.round} is damaged")
        return table

    def look(self, phase: Phase, metrics: Mapping[str, Any]) -> str:
        """Recompute the first picks of GLISTER; return what was found well."""
        strategy = self.prepared.chooser.strategies[phase.strategy]
        assert isinstance(strategy, Glister), "only GLISTER scores"
        first = _first_picks(strategy, phase.budget)
        step = self._step(strategy, phase, metrics)
        ranges, choice = self.prepared.chooser.work(phase)
        validation, pool = ranges[: choice.num_validation], ranges[choice.num_validation :]
        ids, gains = self.table["id"].to_numpy()[:first], self.table["gain"].to_numpy()[:first]
        candidates = np.concatenate([rows.ids for rows in pool])
        if not np.isin(ids, candidates).all():
            self.check.differs(self.name, "chooses ids that were no candidates of the round")
            return ""
        outputs = self._scored(validation, _some(pool, ids), choice)
        plan = Plan(
            sizes=strategy.picks.sizes(phase.budget - _random(strategy, phase.budget)),
            step=step,
            normalize=strategy.normalize,
            room_C=self._room(strategy, phase, candidates),
            best_of_all=not isinstance(strategy.picks, Stochastic),
            tolerance=self._tolerance(),
        )
        bias = strategy.gradient == "bias"
        own, seen = _rows(outputs[0], bias), _rows(outputs[1], bias)
        logits_VC = _logits(outputs[0])
        recorded = list(zip(ids.tolist(), gains.tolist(), strict=True))
        picks = recomputed(plan, seen, own, logits_VC, recorded)
        for pick in picks:
            if not pick.is_near or pick.better is not None:
                self._differs(pick)
                return ""
        return (
            f"round {self.link.round}: first {len(picks)} of {phase.budget:,} gains recomputed in "
            f"float64 from the checkpoint of round {self.link.round - 1}, off by "
            f"{max(pick.off for pick in picks):.1g} of |g| |D| at most (tolerance "
            f"{plan.tolerance:g}); none better among {len(seen.ids):,} of {len(candidates):,} rows"
        )

    def _tolerance(self) -> float:
        """Return what gains may be off by: little where this very machine computed them."""
        stored, here = read_object(self.run.folder / ENVIRONMENT) or {}, _environment()
        same = all(stored.get(key) == here[key] for key in ("versions", "platform", "cpu_count"))
        return SAME_MACHINE if same and not torch.cuda.is_available() else ELSEWHERE

    def _differs(self, pick: Pick) -> None:
        where = f"pick {pick.rank} (id {pick.id})"
        if pick.is_near and pick.better is not None:
            id_, gain = pick.better
            what = f"{where} was not the best: id {id_} has {gain:.6g}, and it {pick.gain:.6g}"
            self.check.differs(self.name, what)
            return
        expected = f"{pick.gain:.6g} (within {pick.tolerance * pick.size:.1g})"
        what = f"{where} has another gain than its checkpoint gives"
        self.check.differs(self.name, what, expected, f"{pick.recorded:.6g}")

    def _step(self, strategy: Glister, phase: Phase, metrics: Mapping[str, Any]) -> float:
        """Return the recorded step per pick, if the options allow it."""
        step, budget = metrics.get("step_per_pick"), phase.budget
        if not isinstance(step, float):
            raise NotChecked("its metrics.json records no step_per_pick")
        size = strategy.step_size
        if size == "auto":
            allowed = [each / budget for each in STEP_GRID]
        else:
            allowed = [float(size) / budget if strategy.step == "mean" else float(size)]
        if not np.isclose(allowed, step, rtol=1e-9, atol=0).any():
            metrics_name = self.run.name(self.link.folder / "metrics.json")
            self.check.differs(
                metrics_name, f"has a step_per_pick of {step:g} that no option gives"
            )
        return step

    def _room(self, strategy: Glister, phase: Phase, candidates: np.ndarray) -> list[int] | None:
        parts = self.prepared.problem.parts
        labels = parts.pool.label_N[parts.pool.position_of(candidates)]
        pool_C = np.bincount(labels, minlength=parts.pool.num_classes).tolist()
        own = parts.validation
        validation_C = np.bincount(own.label_N, minlength=own.num_classes).tolist()
        return class_quotas(strategy.balance, phase.budget, pool_C, validation_C)

    def _scored(
        self, validation: list[RowRange], pool: list[RowRange], choice: Choice
    ) -> tuple[list[RangeOutput], list[RangeOutput]]:
        """Run the model at the weights of the round before."""
        before, problem = self.before, self.prepared.problem
        folder = self.run.name(before.folder / "checkpoint")
        names = [self.run.name(before.folder / name) for name in STATE[:2]]
        if not (before.folder / STATE[0]).is_file() or self.whole.damaged & set(names):
            raise NotChecked(f"gains: {folder} is not kept, or damaged")
        files = {WEIGHTS: before.files[STATE[0]]}
        ref = CheckpointRef(path=str(before.folder / "checkpoint"), files=files)
        threads = self.prepared.experiment.resources.threads_per_rank
        try:
            with torch_threads(threads), settled(problem.training), full_fp32():
                scorer = Scorer(problem, torch.device("cpu"))
                scorer.load(read_weights(ref))
                embeddings = choice.embeddings
                both = [
                    [scorer.score(rows, embeddings=embeddings) for rows in some]
                    for some in (validation, pool)
                ]
        except (RaySubsetError, RuntimeError) as error:
            raise NotChecked(f"gains: the model cannot be run at {folder} ({error})") from None
        return both[0], both[1]


@functools.cache
def _environment() -> Mapping[str, Any]:
    """Return this process's environment; each round asks, and it starts git."""
    return environment()


def _first_picks(strategy: Glister, budget: int) -> int:
    """Return how many of the first picks have gains that can be recomputed."""
    if not (strategy.regularizer is None or isinstance(strategy.regularizer, RandomFill)):
        raise NotChecked("gains: with a regularizer they hold a penalty, which is not recomputed")
    first = min(PICKS, budget - _random(strategy, budget))
    if first < 1:
        raise NotChecked("gains: every id of it is a random one")
    return first


def _random(strategy: Glister, budget: int) -> int:
    share = strategy.regularizer.share if isinstance(strategy.regularizer, RandomFill) else 0.0
    return floor_of(share, budget)


def _some(pool: list[RowRange], ids: np.ndarray) -> list[RowRange]:
    """Return the ranges that hold these ids, and others up to `RANGES`, spread over the pool."""
    own = [rows for rows in pool if np.isin(ids, rows.ids).any()]
    held = {rows.index for rows in own}
    others = [rows for rows in pool if rows.index not in held]
    room = max(0, RANGES - len(own))
    return own + others[:: max(1, -(-len(others) // room))] if room else own


def _logits(outputs: list[RangeOutput]) -> np.ndarray:
    return np.concatenate([out.logits for out in outputs]).astype(np.float64)


def _rows(outputs: list[RangeOutput], bias: bool) -> Rows:
    labels = np.concatenate([out.labels for out in outputs])
    embedding = np.concatenate([out.embeddings for out in outputs]).astype(np.float64)
    ones = np.ones((len(labels), 1))
    return Rows(
        ids=np.concatenate([out.ids for out in outputs]),
        labels=labels,
        residual=residual_of(_logits(outputs), labels),
        wide=ones if bias else np.hstack([embedding, ones]),
    )
