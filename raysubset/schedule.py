"""The schedule: a run as plain data, a list of phases known before anything is computed.

Every strategy of one experiment visits exactly the same number of examples (K * E), but for
`full`, which visits N * E. The learning rate is a function of visits, so no epoch is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from raysubset.core.budget import budget_of
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One round: select, then train.

    Attributes:
        round: its number, from 0.
        strategy: the name of what selects in this phase.
        budget: ids that each of its epochs visits.
        epochs: the run's epoch numbers, consecutive over phases.
        visits_before: example visits of the phases before it.
        total_visits: example visits of the whole run.
        lr_span: [from, to) of the visits that its learning-rate schedule spans; None for all.
        fresh: it trains from the initial weights, not from those that selected.
    """

    round: int
    strategy: str
    budget: int
    epochs: range
    visits_before: int
    total_visits: int
    lr_span: tuple[int, int] | None = None
    fresh: bool = False

    @property
    def visits(self) -> int:
        """Example visits of this phase."""
        return self.budget * len(self.epochs)


@dataclass(frozen=True)
class _Stretch:
    """Consecutive epochs of one kind, before they are cut into phases."""

    strategy: str
    budget: int
    epochs: int
    every: int
    fresh: bool = False


PROXY, KEPT = "proxy", "kept"
"""Goal smaller: the rounds that train the model which chooses, and those that go on with a choice
made in an earlier round."""
WHOLE_AT_EQUAL_COMPUTE = (
    "full-compressed",
    "full-validation-compressed",
    "validation-only",
    "random-validation",
)
"""Controls that visit all of their rows, K * E times in total."""


def plan(experiment: Experiment, num_pool: int, num_rows: int | None = None) -> tuple[Phase, ...]:
    """Return the phases of a run.

    Args:
        experiment: strategy, fraction, epochs.
        num_pool: N, the pool after filters: the fraction is a share of it.
        num_rows: how many rows a control on other rows than the pool trains on; None for N.
    """
    selection, epochs = experiment.selection, experiment.training.epochs
    budget = budget_of(selection.fraction, num_pool)
    every = min(selection.select_every, epochs)
    if selection.strategy == "full":
        stretches = [_Stretch("full", num_pool, epochs, every)]
    elif selection.strategy in WHOLE_AT_EQUAL_COMPUTE:
        rows = num_pool if num_rows is None else num_rows
        stretches = _full_visits(budget * epochs, rows, every * budget, _least(experiment))
    elif selection.strategy == "glister" and selection.goal == "smaller":
        stretches = _glister_once(experiment, budget, num_pool, every)
    elif selection.strategy == "glister":
        stretches = _glister(experiment, budget, num_pool, every)
    else:
        stretches = [_Stretch(selection.strategy, budget, epochs, every)]
    return _cut(stretches)


def ceiling(share: float, *, rows: float, num_pool: int, apart: int) -> float:
    """Return the largest speed-up of a run: 1 / (share + (rows / N) / (3 R)).

    A forward pass is taken for a third of a training step, row by row.

    Args:
        share: example visits, of those of as many epochs over the pool.
        rows: read by one selection: the pool (or its candidates) and validation; 0 where none is.
        num_pool: N.
        apart: R, the epochs between two selections.
    """
    return 1 / (share + rows / num_pool / (3 * apart))


def _glister(experiment: Experiment, budget: int, num_pool: int, every: int) -> list[_Stretch]:
    """A first phase without a selection (nothing is learned yet), then GLISTER.

    With a warm start it is full-pool epochs with as many visits as the epochs they replace
    (Killamsetty et al., 2021, section 5), else one random subset.
    """
    epochs = experiment.training.epochs
    asked = experiment.selection.warm_start
    # At least one epoch of what was asked for, and at least one left to select for.
    warm = min(max(1, round(asked * epochs)), epochs - 1) if asked else 0
    if warm:
        first = _full_visits(warm * budget, num_pool, every * budget, _least(experiment))
    else:
        warm, first = every, [_Stretch("random", budget, every, every)]
    if warm >= epochs and budget < num_pool:
        selection = experiment.selection
        enough = "" if selection.warm_start else f" to {selection.select_every + 1} or more"
        raise ConfigError(
            f"training.epochs={epochs} with selection.select_every={every} and "
            f"selection.warm_start={experiment.selection.warm_start:g} leaves no epoch for "
            f"GLISTER to select for; raise epochs{enough}, or lower select_every or warm_start."
        )
    rest = [_Stretch("glister", budget, epochs - warm, every)] if warm < epochs else []
    return first + rest


def _glister_once(experiment: Experiment, budget: int, num_pool: int, every: int) -> list[_Stretch]:
    """A proxy over the whole pool, one selection at its weights, then training from scratch.

    The static protocol of DeepCore (Guo et al., "DeepCore: A comprehensive library for coreset
    selection in deep learning", DEXA 2022): selection.proxy_epochs, then training.epochs.
    """
    epochs, proxy = experiment.training.epochs, experiment.selection.proxy_epochs
    if budget == num_pool:
        return [_Stretch("glister", budget, epochs, every)]  # every id: nothing is to be chosen
    return [
        _Stretch(PROXY, num_pool, proxy, every),
        _Stretch("glister", budget, every, every, fresh=True),
        *([_Stretch(KEPT, budget, epochs - every, every)] if epochs > every else []),
    ]


def _full_visits(visits: int, num_pool: int, visits_per_phase: int, least: int) -> list[_Stretch]:
    """Full-pool epochs for exactly this many visits; a last, partial epoch is a random subset.

    A rest below `least`, too small to train on, is shared with the last whole epoch.
    """
    whole, rest = divmod(visits, num_pool)
    every = max(1, visits_per_phase // num_pool)
    partial = [rest] if rest else []
    if whole and 0 < rest < least:
        whole, both = whole - 1, num_pool + rest
        partial = [both - both // 2, both // 2]
    stretches = [_Stretch("full", num_pool, whole, every)] if whole else []
    return stretches + [_Stretch("random", size, 1, 1) for size in partial]


def _least(experiment: Experiment) -> int:
    """Return the smallest subset that every rank can train on (BatchNorm needs 2 rows)."""
    return 2 * experiment.resources.ranks


def _cut(stretches: list[_Stretch]) -> tuple[Phase, ...]:
    total = sum(s.budget * s.epochs for s in stretches)
    phases: list[Phase] = []
    epoch = visits = 0
    for stretch, span in zip(stretches, _lr_spans(stretches), strict=True):
        end = epoch + stretch.epochs
        while epoch < end:
            stop = min(end, epoch + stretch.every)
            phase = Phase(
                round=len(phases),
                strategy=stretch.strategy,
                budget=stretch.budget,
                epochs=range(epoch, stop),
                visits_before=visits,
                total_visits=total,
                lr_span=span,
                fresh=stretch.fresh and visits == span[0],
            )
            phases.append(phase)
            epoch, visits = stop, visits + phase.visits
    return tuple(phases)


def _lr_spans(stretches: list[_Stretch]) -> list[tuple[int, int]]:
    """Return the visits that each stretch's learning-rate schedule spans; fresh ones begin one."""
    starts = [0]
    for stretch in stretches:
        starts.append(starts[-1] + stretch.budget * stretch.epochs)
    fresh = [i for i, stretch in enumerate(stretches) if stretch.fresh and i]
    bounds = [0, *(starts[i] for i in fresh), starts[-1]]
    return [
        next((a, b) for a, b in pairwise(bounds) if a <= start < b)
        for start in starts[: len(stretches)]
    ]
