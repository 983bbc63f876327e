"""Time: a run's seconds by stage, from its schedule and the paces of a rehearsal."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from raysubset.doctor.finding import Finding, ok, warning
from raysubset.doctor.fitting import Plan
from raysubset.doctor.rehearsing import Paces
from raysubset.preparation import Prepared
from raysubset.report.wording import duration
from raysubset.schedule import Phase, ceiling

STAGES = ("scoring", "greedy", "training", "evaluation")


@dataclass(frozen=True, kw_only=True)
class Hands:
    """How many work side by side.

    Attributes:
        trainers: ranks that really run at once.
        scorers: scorers, or ranks that score, that really run at once.
    """

    trainers: int
    scorers: int


@dataclass(frozen=True, kw_only=True)
class TimeNeeded:
    """Seconds of a run, about.

    Attributes:
        total: stage -> seconds of the whole run.
        per_round: stage -> seconds of a round that selects (of any, where none does).
        rounds: of the run.
        speed_up: full training of as many epochs, over this run.
        ceiling: 1 / (f + (1 + V / N) / (3 R)): what no selection at this rhythm can beat.
    """

    total: dict[str, float]
    per_round: dict[str, float]
    rounds: int
    speed_up: float
    ceiling: float

    @property
    def total_s(self) -> float:
        """All stages."""
        return sum(self.total.values())


def hands_of(plan: Plan, cores: int, threads: int) -> Hands:
    """Return who really works side by side: ranks wait for a core where there are too few."""
    most = max(1, cores // threads)
    if plan.device == "cuda":
        most = plan.workers + plan.scorers
    scorers = plan.scorers or plan.workers
    return Hands(trainers=min(most, plan.workers), scorers=min(most, scorers))


def time_needed(prepared: Prepared, paces: Paces, hands: Hands) -> TimeNeeded:
    """Return a run's seconds, phase by phase at these paces."""
    rounds = [_seconds(prepared, phase, paces, hands) for phase in prepared.phases]
    selecting = [each for each in rounds if each["scoring"]] or rounds
    total = {stage: sum(each[stage] for each in rounds) for stage in STAGES}
    total["evaluation"] += prepared.problem.parts.test.num_examples * paces.score_s / hands.trainers
    experiment, pool = prepared.experiment, len(prepared.chooser.id_N)
    epochs = experiment.training.epochs
    full_s = pool * epochs * paces.train_s / hands.trainers
    spent = sum(total[stage] for stage in ("scoring", "greedy", "training"))
    once = experiment.selection.goal == "smaller"
    apart = epochs if once else min(epochs, experiment.selection.select_every)
    rows = max(_rows_scored(prepared, phase) for phase in prepared.phases)
    share = prepared.phases[-1].total_visits / (pool * epochs)
    return TimeNeeded(
        total=total,
        per_round={
            stage: sum(each[stage] for each in selecting) / len(selecting) for stage in STAGES
        },
        rounds=len(rounds),
        speed_up=full_s / spent if spent else math.nan,
        ceiling=ceiling(share, rows=rows, num_pool=pool, apart=apart),
    )


def check_time(needed: TimeNeeded, paces: Paces, told: str, price: float | None) -> Finding:
    """Say how long a run takes and what it costs; warn where selecting eats what it saves.

    Args:
        needed: by stage.
        paces: of the rehearsal.
        told: on what the paces were measured, and what they leave out.
        price: of an hour of the whole cluster, or None.
    """
    parts = {stage: s for stage, s in needed.per_round.items() if s > 0}
    each = " + ".join(f"{stage} {duration(seconds)}" for stage, seconds in parts.items())
    cost = None if price is None else price * needed.total_s / 3600
    found = (
        f"about {duration(needed.total_s)} for {needed.rounds} rounds (a round: {each}), "
        f"{needed.speed_up:.1f}x faster than full (ceiling {needed.ceiling:.1f}x, where a forward "
        f"pass is a third of a step); {told}"
    )
    if cost is not None:
        found += f"; cost about {cost:,.2f} at {price:g} an hour"
    facts = {**asdict(needed), "total_s": needed.total_s, "cost": cost, "paces": asdict(paces)}
    if needed.speed_up < 1 and needed.per_round["scoring"] > 0:
        return warning("time", found, _COSTLY, **facts)
    return ok("time", found, **facts)


_COSTLY = (
    "selecting costs more than it saves: raise --selection.select_every, or try "
    '--selection.glister.picks "blocks(50)" or --selection.candidates 4'
)


def _seconds(prepared: Prepared, phase: Phase, paces: Paces, hands: Hands) -> dict[str, float]:
    validation = prepared.problem.parts.validation.num_examples
    rows = _rows_scored(prepared, phase)
    return {
        "scoring": rows * paces.score_s / hands.scorers,
        "greedy": paces.greedy_fixed_s + paces.greedy_steps * paces.greedy_step_s if rows else 0.0,
        "training": phase.visits * paces.train_s / hands.trainers,
        "evaluation": validation * paces.score_s / hands.trainers,
    }


def _rows_scored(prepared: Prepared, phase: Phase) -> int:
    """Return how many rows of pool and validation a phase's selection reads."""
    pool = len(prepared.chooser.id_N)
    if phase.strategy != "glister" or phase.budget == pool:
        return 0
    candidates = prepared.experiment.selection.candidates
    scored = pool if candidates == 1 else min(pool, math.ceil(candidates * phase.budget))
    return prepared.problem.parts.validation.num_examples + scored
