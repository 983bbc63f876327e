"""The answer of a frontier: means and intervals, the smallest fraction that is enough, who wins.

Everything is paired by seed, and everything comes from the rows of the trials.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raysubset.evidence.decision import SmallestWithin, smallest_within
from raysubset.evidence.intervals import Interval, Word, mean_interval, paired_interval, word_of
from raysubset.evidence.power import more_seeds
from raysubset.frontier.plan import (
    EQUAL_TIME,
    FULL,
    SAME_ROWS_CONTROLS,
    VALIDATION_CONTROLS,
    Goal,
    Role,
)
from raysubset.frontier.settings import MIN_SEEDS
from raysubset.frontier.table import TrialRow
from raysubset.frontier.target import Judge, Reach, reach_of

_ByCell = Mapping[tuple[str, float], list[TrialRow]]
STAGES = ("scoring", "greedy", "training", "other")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One strategy at one fraction, over its seeds.

    Attributes:
        row: the strategy, or the control.
        role: asked about, control or reference.
        fraction: of the pool.
        accuracy: test accuracy over seeds.
        to_full: its difference to full, paired by seed; None without full, and for full.
        epochs: passes over a subset (or over all rows).
        visits: example visits in training, mean.
        distinct: distinct examples trained on, mean.
        num_validation: validation rows whose labels it used.
        seconds: by stage, mean over seeds.
        seconds_start: process start and data, mean; charged to no strategy.
        speed_up: full's mean seconds over this one's; None without full.
        ceiling: the largest speed-up possible.
        reach: how it gets to full's final accuracy less the drop; None without one.
    """

    row: str
    role: Role
    fraction: float
    accuracy: Interval
    to_full: Interval | None
    epochs: int
    visits: float
    distinct: float
    num_validation: int
    seconds: Mapping[str, float]
    seconds_start: float
    speed_up: float | None
    ceiling: float
    reach: Reach | None = None

    @property
    def total_s(self) -> float:
        """Wall-clock of the method, selection included."""
        return sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A strategy against a control at one fraction, paired by seed.

    Attributes:
        strategy: the row that is asked about.
        control: its rival.
        fraction: of the pool.
        difference: accuracy of the strategy minus the control's.
        word: what the interval allows to say; None below 3 pairs.
    """

    strategy: str
    control: str
    fraction: float
    difference: Interval
    word: Word | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a frontier says.

    Attributes:
        max_drop: accuracy that may be lost, as a share; None where no decision is asked for.
        num_seeds: the most seeds that any cell has.
        num_test: test examples.
        judge: the part on which time to accuracy was read; None where it was not.
        full: full's cell; None where no full run is finished.
        cells: strategies, then controls, each by fraction.
        within: per row, the smallest fraction within the drop; None where it cannot be decided.
        more: (row, fraction) -> how many more seeds would show it to be within the drop in 80 % of
            cases, by the spread and the mean that were seen; only where that is known.
        duels: every strategy against every control.
    """

    max_drop: float | None
    num_seeds: int
    num_test: int
    judge: Judge | None
    full: Cell | None
    cells: tuple[Cell, ...]
    within: Mapping[str, SmallestWithin | None]
    more: Mapping[tuple[str, float], int]
    duels: tuple[Duel, ...]

    def cell(self, row: str, fraction: float) -> Cell | None:
        """Return a cell, or None where no trial of it is finished."""
        return next((c for c in self.cells if (c.row, c.fraction) == (row, fraction)), None)

    @property
    def rows(self) -> list[str]:
        """The rows in the order of the table."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def fractions(self) -> list[float]:
        """The fractions, ascending."""
        return sorted({cell.fraction for cell in self.cells})


def answer_of(
    rows: Sequence[TrialRow],
    max_drop_points: float | None,
    fractions: Collection[float] | None = None,
    goal: Goal = "faster",
) -> Answer:
    """Return what the finished trials say.

    Args:
        rows: finished trials.
        max_drop_points: accuracy points below full that may be lost; None for no decision.
        fractions: what was asked for. A row is decided when all of them are there: tests go from
            the largest down, and one that is missing must not be skipped. None: what is there.
        goal: what a fraction means; it decides which rows are controls whoever asks about them.
    """
    full = [row for row in rows if row.row == FULL]
    by_cell: dict[tuple[str, float], list[TrialRow]] = {}
    for row in rows:
        if row.row != FULL:
            by_cell.setdefault((row.row, row.fraction), []).append(row)
    max_drop = None if max_drop_points is None else max_drop_points / 100
    cells = tuple(_cell(own, full, max_drop) for own in by_cell.values())
    ordered = tuple(sorted(cells, key=lambda c: (c.role == "control", _place(rows, c), c.fraction)))
    return Answer(
        max_drop=max_drop,
        num_seeds=max((c.accuracy.n for c in cells), default=0),
        num_test=rows[0].num_test if rows else 0,
        judge=full[0].judge if full and any(c.reach for c in cells) else None,
        full=_cell(full, full, max_drop, is_full=True) if full else None,
        cells=ordered,
        within={
            row: _within(row, by_cell, full, max_drop, fractions) for row in _decidable(ordered)
        },
        more=_more(by_cell, full, max_drop),
        duels=_duels(by_cell, (*SAME_ROWS_CONTROLS[goal], *VALIDATION_CONTROLS[goal])),
    )


def _decidable(cells: Sequence[Cell]) -> list[str]:
    """Return the rows that a fraction says something about.

    At equal time more is visited; the validation rows are none of the pool, and come on top of it.
    """
    other = (EQUAL_TIME, "validation-only", "random-validation")
    return list(dict.fromkeys(cell.row for cell in cells if cell.row not in other))


def resolution_of(rows: Sequence[TrialRow]) -> float:
    """Return one test example as a share: accuracies are counts, rounded to it."""
    return 1 / max(1, min(row.num_test for row in rows))


def _place(rows: Sequence[TrialRow], cell: Cell) -> int:
    return next(i for i, row in enumerate(rows) if row.row == cell.row)


def _cell(
    own: Sequence[TrialRow],
    full: Sequence[TrialRow],
    max_drop: float | None,
    *,
    is_full: bool = False,
) -> Cell:
    seconds = {s: float(np.mean([getattr(r, f"seconds_{s}") for r in own])) for s in STAGES}
    total = sum(seconds.values())
    visits = float(np.mean([r.visits for r in own]))
    ceiling = float(np.mean([r.ceiling for r in own]))
    if own[0].row == EQUAL_TIME and full:  # its epochs are more than full's, its visits say it
        ceiling = float(np.mean([r.visits for r in full])) / visits
    full_s = float(np.mean([r.seconds for r in full])) if full else None
    return Cell(
        row=own[0].row,
        role=own[0].role,
        fraction=own[0].fraction,
        accuracy=mean_interval([r.test_accuracy for r in own], resolution=resolution_of(own)),
        to_full=None if is_full else _paired(own, full),
        epochs=own[0].epochs,
        visits=visits,
        distinct=float(np.mean([r.distinct for r in own])),
        num_validation=max(r.num_validation for r in own),
        seconds=seconds,
        seconds_start=float(np.mean([r.seconds_start for r in own])),
        speed_up=full_s / total if full_s is not None and total else None,
        ceiling=ceiling,
        reach=reach_of(own, full, max_drop),
    )


def _accuracy(rows: Sequence[TrialRow]) -> dict[int, float]:
    return {row.seed: row.test_accuracy for row in rows}


def _paired(first: Sequence[TrialRow], second: Sequence[TrialRow]) -> Interval | None:
    """Return the difference over the seeds that both have; None where they share none."""
    if not {r.seed for r in first} & {r.seed for r in second}:
        return None
    resolution = resolution_of([*first, *second])
    return paired_interval(_accuracy(first), _accuracy(second), resolution=resolution)


def _differences(own: Sequence[TrialRow], full: Sequence[TrialRow]) -> list[float]:
    """Return accuracy minus full's, paired by seed."""
    reference = _accuracy(full)
    pairs = [(row.test_accuracy, reference.get(row.seed)) for row in own]
    return [accuracy - other for accuracy, other in pairs if other is not None]


def _within(
    row: str,
    by_cell: _ByCell,
    full: Sequence[TrialRow],
    max_drop: float | None,
    fractions: Collection[float] | None,
) -> SmallestWithin | None:
    differences = {f: _differences(own, full) for (r, f), own in by_cell.items() if r == row}
    enough = all(len(values) >= MIN_SEEDS for values in differences.values()) and (
        fractions is None or set(differences) >= set(fractions)
    )
    if max_drop is None or not differences or not enough:
        return None
    resolution = resolution_of([r for own in by_cell.values() for r in own])
    return smallest_within(differences, max_drop, resolution=resolution)


def _more(
    by_cell: _ByCell, full: Sequence[TrialRow], max_drop: float | None
) -> dict[tuple[str, float], int]:
    found: dict[tuple[str, float], int] = {}
    for cell, own in by_cell.items():
        differences = _differences(own, full)
        if max_drop is None or len(differences) < MIN_SEEDS:
            continue
        more = more_seeds(differences, max_drop, resolution=resolution_of(own))
        if more:
            found[cell] = more
    return found


def _duels(by_cell: _ByCell, controls: Sequence[str]) -> tuple[Duel, ...]:
    duels: list[Duel] = []
    for (strategy, fraction), own in by_cell.items():
        if own[0].role != "strategy":
            continue
        for (control, at), others in by_cell.items():
            if at == fraction and _is_rival(own, others, controls):
                duels += _duel(strategy, control, fraction, _paired(own, others))
    return tuple(sorted(duels, key=lambda d: (d.strategy, d.fraction)))


def _is_rival(own: Sequence[TrialRow], others: Sequence[TrialRow], controls: Sequence[str]) -> bool:
    """Return whether the others are a control of this strategy, asked about or not.

    Adaptive random at equal time is one of strategies that spend time on scoring.
    """
    name = others[0].row
    if name == own[0].row:
        return False
    if name == EQUAL_TIME:
        return any(row.seconds_scoring > 0 for row in own)
    return others[0].role == "control" or name in controls


def _duel(strategy: str, control: str, fraction: float, difference: Interval | None) -> list[Duel]:
    if difference is None:
        return []
    return [
        Duel(
            strategy=strategy,
            control=control,
            fraction=fraction,
            difference=difference,
            word=word_of(difference) if difference.n >= MIN_SEEDS else None,
        )
    ]


def is_on_same_rows(control: str) -> bool:
    """Return whether a control trains on pool rows alone."""
    return not any(control in rows for rows in VALIDATION_CONTROLS.values())
