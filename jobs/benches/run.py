"""The run: what a whole run gains over full training, against the most that it could gain.

Everything is taken on two clocks, the wall's and this process's CPU seconds: on a machine that is
shared, the second says what the first hides. Exact picks are made beside block picks, at the same
weights, because what a run trains on does not change what training costs.
Shape letters: E epochs, N pool, R epochs between two selections, V validation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.benches.measuring import Asked, Measured, device_of
from jobs.benches.paces import Paces, now
from raysubset.engine import Outcome, Pool, Silence
from raysubset.engine import run as run_rounds
from raysubset.learn.choosing import PhaseLike
from raysubset.learn.local import LocalPool, LocalTrainer, local_ports
from raysubset.learn.scoring import Scorer
from raysubset.learn.weights import Weights
from raysubset.preparation import Prepared, chooser_of, tracked_ledger
from raysubset.strategies.selection import Selection

FRACTIONS = (0.1, 0.3, 0.5)
APART = 20
EPOCHS = 2 * APART + 1  # one at random, to have something to select by, then two selections
ROWS = 3_000
BATCH = 128
PICKS = ("blocks(50)", "exact")
TURNS = 3  # of the paces, before and after each run


def run(asked: Asked) -> Measured:
    """A run's speed-up against its ceiling, by fraction, for block picks and exact ones."""
    runs = [_prepared(asked, fraction) for fraction in FRACTIONS]
    paces = Paces(runs[0], device_of(runs[0]))
    spent: list[dict[str, _Spent]] = []
    around = [paces.turns(TURNS)]
    for each in runs:
        spent.append(_both(each))
        around.append(paces.turns(TURNS))
    q = paces.forward_per_step
    rows: list[dict[str, Any]] = []
    for i, ready in enumerate(runs):
        # The machine's pace changes while this lasts: full is timed right before and after.
        full = np.median([turn["ours"] for turn in around[i] + around[i + 1]], axis=0)
        rows += [_row(ready, picks, spent[i][picks], full, q) for picks in PICKS]
    return Measured(
        seconds={f"{name} a row": float(s[0]) for name, s in paces.medians.items()},
        ratios={"forward / step": float(q[0])} | {_name(row): row["share"] for row in rows},
        of=_told(runs[0], paces),
        rows=rows,
        limits={_name(row): "at least 0.9" for row in rows if row["picks"] == PICKS[0]},
    )


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['fraction']:g} {row['picks']}"


def _told(run: Prepared, paces: Paces) -> str:
    parts = run.problem.parts
    return (
        f"{len(run.chooser.id_N):,} pool and {parts.validation.num_examples:,} validation rows of "
        f"{parts.pool.name}, {EPOCHS} epochs, a selection every {APART}, "
        f"{run.experiment.model.name}, batches of {BATCH}, {paces.device.type}; evaluation is left "
        "out of both sides; CPU: in this process's CPU seconds"
    )


def _prepared(asked: Asked, fraction: float) -> Prepared:
    return asked.prepared(
        data__limit=ROWS,
        selection__strategy="glister",
        selection__fraction=fraction,
        selection__select_every=APART,
        selection__warm_start=1 / EPOCHS,
        selection__batch_size=BATCH,
        selection__glister__picks=PICKS[0],
        training__epochs=EPOCHS,
        training__batch_size=BATCH,
        resources__workers=1,
    )


@dataclass(kw_only=True, eq=False)
class _Spent:
    """Seconds of a run by stage; those of `total` and `selecting` are (wall, CPU)."""

    total: np.ndarray = field(default_factory=lambda: np.zeros(2))
    selecting: np.ndarray = field(default_factory=lambda: np.zeros(2))
    stages: dict[str, float] = field(default_factory=lambda: {"scoring": 0.0, "greedy": 0.0})


class _Pools:
    """Selects with all picks at the same weights, and gives the first ones to the run."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self.pools, self.spent = pools, {picks: _Spent() for picks in pools}

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        chosen: list[Selection] = []
        for picks, pool in self.pools.items():
            start, spent = now(), self.spent[picks]
            chosen.append(pool.select(phase, weights))
            spent.selecting += now() - start
            for stage in spent.stages:
                spent.stages[stage] += float(chosen[-1].facts[f"seconds_{stage}"])
        return chosen[0]


class _Evaluation:
    """What evaluation takes, which is left out."""

    def __init__(self, trainer: LocalTrainer) -> None:
        self.seconds, count = np.zeros(2), trainer.evaluator.count

        def clocked(*args: Any) -> Any:
            start = now()
            try:
                return count(*args)
            finally:
                self.seconds += now() - start

        trainer.evaluator.count = clocked


def _both(ready: Prepared) -> dict[str, _Spent]:
    """Run it; return what it took with each kind of picks."""
    device = device_of(ready)
    with tempfile.TemporaryDirectory() as folder, tracked_ledger(ready, folder) as ledger:
        _, trainer = local_ports(
            ready.problem,
            ready.chooser,
            ledger.rounds,
            world=1,
            device=device.type,
            progress=Silence().progress,
        )
        pools = _Pools({picks: _pool(ready, picks) for picks in PICKS})
        evaluation, start = _Evaluation(trainer), now()
        outcome: Outcome = run_rounds(ready.experiment, ready.phases, pools, trainer, ledger)
        trainer.close()
        total = now() - start - evaluation.seconds
    assert outcome.selections == 2
    selecting = [spent.selecting for spent in pools.spent.values()]
    for spent in pools.spent.values():
        spent.total = total - sum(selecting) + spent.selecting
        spent.stages["training"] = outcome.seconds_training
    return pools.spent


def _pool(ready: Prepared, picks: str) -> LocalPool:
    glister = ready.experiment.selection.glister.model_copy(update={"picks": picks})
    selection = ready.experiment.selection.model_copy(update={"glister": glister})
    experiment = ready.experiment.model_copy(update={"selection": selection})
    names = {phase.strategy for phase in ready.phases}
    chooser = chooser_of(experiment, *ready.given, names)
    return LocalPool(chooser, Scorer(ready.problem, device_of(ready)), Silence().progress)


def _row(
    ready: Prepared, picks: str, spent: _Spent, full: np.ndarray, q: np.ndarray
) -> dict[str, Any]:
    """Return a line of the table; `full` is seconds per visit of full training, (wall, CPU)."""
    num_pool, fraction = len(ready.chooser.id_N), ready.experiment.selection.fraction
    read = num_pool + ready.problem.parts.validation.num_examples
    visits = ready.phases[-1].total_visits / (num_pool * EPOCHS)
    # By the selections that were made, 2 in 41 epochs: 1 / R would ask for less.
    ceiling = 1 / (visits + read / num_pool * q * 2 / EPOCHS)
    speed_up = full * num_pool * EPOCHS / spent.total
    share, stages = speed_up / ceiling, spent.stages
    return {
        "fraction": fraction,
        "picks": picks,
        "speed-up": float(speed_up[0]),
        "ceiling": float(ceiling[0]),
        "share": float(share[0]),
        "CPU q": float(q[1]),
        "CPU ceiling": float(ceiling[1]),
        "CPU share": float(share[1]),
        **{f"{stage} s": seconds for stage, seconds in stages.items()},
        "other s": float(spent.total[0]) - sum(stages.values()),
    }
