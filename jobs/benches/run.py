"""The run: what a whole run gains over full training, against the most that it could gain.

Everything is taken on two clocks, the wall's and this process's CPU seconds: on a machine that is
shared, the second says what the first hides. The paces of full training, of plain steps and of bare
forwards are taken between epochs of the run, all through it, because a machine's pace changes while
a run lasts. Exact picks are made beside block picks, at the same weights, because what a run trains
on does not change what training costs.
Shape letters: E epochs, N pool, R epochs between two selections, V validation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jobs.benches.measuring import LEAST, Asked, Measured, device_of
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
ROWS = 1_500
BATCH = 128
PICKS = ("blocks(50)", "exact")
EVERY = 5  # epochs between two turns of the paces


def run(asked: Asked) -> Measured:
    """A run's speed-up against its ceiling, by fraction, for block picks and exact ones."""
    runs = [_prepared(asked, fraction) for fraction in FRACTIONS]
    paces = Paces(runs[0], device_of(runs[0]))
    rows: list[dict[str, Any]] = []
    for ready in runs:
        paces.taken.clear()
        spent = _both(ready, paces)
        rows += [_row(ready, picks, spent[picks], paces.means) for picks in PICKS]
    return Measured(
        seconds={f"{name} a row": float(s[0]) for name, s in paces.means.items()},
        ratios={_name(row): row["share"] for row in rows},
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

    def add(self, selections: list[tuple[np.ndarray, Selection]]) -> None:
        """Add the median of a selection that was made several times."""
        self.selecting += np.median([seconds for seconds, _ in selections], axis=0)
        for stage in self.stages:
            taken = [float(made.facts[f"seconds_{stage}"]) for _, made in selections]
            self.stages[stage] += float(np.median(taken))


class _Pools:
    """Selects with all picks at the same weights, in turns, and gives the first ones to the run."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self.pools, self.spent = pools, {picks: _Spent() for picks in pools}
        self.seconds = np.zeros(2)

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        begin = now()
        chosen: dict[str, list[tuple[np.ndarray, Selection]]] = {picks: [] for picks in self.pools}
        for _ in range(LEAST):
            for picks, pool in self.pools.items():
                start = now()
                selection = pool.select(phase, weights)
                chosen[picks].append((now() - start, selection))
        for picks, found in chosen.items():
            self.spent[picks].add(found)
        self.seconds += now() - begin
        return chosen[PICKS[0]][0][1]


class _Aside:
    """What is left out of a run: evaluation, and the paces that are taken between its epochs."""

    def __init__(self, paces: Paces, budget: int) -> None:
        self.seconds, self.paces, self.budget = np.zeros(2), paces, budget
        self.training = 0.0

    def evaluation_of(self, trainer: LocalTrainer) -> None:
        count = trainer.evaluator.count

        def clocked(*args: Any) -> Any:
            start = now()
            try:
                return count(*args)
            finally:
                self.seconds += now() - start

        trainer.evaluator.count = clocked

    def progress(self, stage: str, done: int, of: int) -> None:
        """Take a turn of the paces at the start of every fifth epoch."""
        if stage != "training" or done % (EVERY * self.budget):
            return
        start = now()
        self.paces.turn()
        took = now() - start
        self.seconds += took
        self.training += float(took[0])


def _both(ready: Prepared, paces: Paces) -> dict[str, _Spent]:
    """Run it; return what it took with each kind of picks."""
    device, aside = device_of(ready), _Aside(paces, ready.phases[-1].budget)
    with tempfile.TemporaryDirectory() as folder, tracked_ledger(ready, folder) as ledger:
        _, trainer = local_ports(
            ready.problem,
            ready.chooser,
            ledger.rounds,
            world=1,
            device=device.type,
            progress=aside.progress,
        )
        aside.evaluation_of(trainer)
        pools = _Pools({picks: _pool(ready, picks) for picks in PICKS})
        start = now()
        outcome: Outcome = run_rounds(ready.experiment, ready.phases, pools, trainer, ledger)
        trainer.close()
        total = now() - start - aside.seconds - pools.seconds
    assert outcome.selections == 2
    for spent in pools.spent.values():
        spent.total = total + spent.selecting
        spent.stages["training"] = outcome.seconds_training - aside.training
    return pools.spent


def _pool(ready: Prepared, picks: str) -> LocalPool:
    glister = ready.experiment.selection.glister.model_copy(update={"picks": picks})
    selection = ready.experiment.selection.model_copy(update={"glister": glister})
    experiment = ready.experiment.model_copy(update={"selection": selection})
    names = {phase.strategy for phase in ready.phases}
    chooser = chooser_of(experiment, *ready.given, names)
    return LocalPool(chooser, Scorer(ready.problem, device_of(ready)), Silence().progress)


def _row(
    ready: Prepared, picks: str, spent: _Spent, paces: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return a line of the table; `ours` is full training's seconds per visit, (wall, CPU)."""
    q = paces["forward"] / paces["step"]
    num_pool, fraction = len(ready.chooser.id_N), ready.experiment.selection.fraction
    read = num_pool + ready.problem.parts.validation.num_examples
    visits = ready.phases[-1].total_visits / (num_pool * EPOCHS)
    # By the selections that were made, 2 in 41 epochs: 1 / R would ask for less.
    ceiling = 1 / (visits + read / num_pool * q * 2 / EPOCHS)
    speed_up = paces["ours"] * num_pool * EPOCHS / spent.total
    share, stages = speed_up / ceiling, spent.stages
    return {
        "fraction": fraction,
        "picks": picks,
        "q": float(q[0]),
        "speed-up": float(speed_up[0]),
        "ceiling": float(ceiling[0]),
        "share": float(share[0]),
        "CPU q": float(q[1]),
        "CPU ceiling": float(ceiling[1]),
        "CPU share": float(share[1]),
        **{f"{stage} s": seconds for stage, seconds in stages.items()},
        "other s": float(spent.total[0]) - sum(stages.values()),
    }
