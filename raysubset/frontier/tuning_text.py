"""What is said about tuning: before it runs, beside the figures, and as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from raysubset.experiment import Experiment
from raysubset.frontier.candidates import Axis, axes_of, grid_of, is_tuned
from raysubset.frontier.overrides import Values, brief, in_words, shown
from raysubset.frontier.plan import Trial, num_equal_time
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.sweep import Sweep, left_of
from raysubset.frontier.text import words
from raysubset.frontier.tuning import (
    TUNING_SHARE,
    Tried,
    Tuned,
    candidates_of,
    cells_of,
    is_ended,
    read_tuned,
)
from raysubset.report.table import Column, Table
from raysubset.report.wording import NOTHING, count, counted, percent, percent_asked, printable


def left_to_run(sweep: Sweep) -> int:
    """Return how many runs a frontier still takes, candidates and equal time included.

    The first seed's trial of a cell is one of its candidates, so it is counted once.
    """
    timed = sweep.equal_time
    known = [*sweep.planned, *timed]
    waiting = _waiting(sweep, [*sweep.untuned, *timed])
    cells = {cell.cell for cell in waiting}
    left = len(left_of(sweep, [t for t in known if t.cell not in cells]))
    left += sum(_candidates_left(sweep, cell) for cell in waiting)
    left += len([t for t in known if t.cell in cells and t.seed != sweep.base.seed])
    if timed:
        return left
    later = num_equal_time(sweep.base, sweep.settings)
    more = _num_candidates(sweep) - 1 if is_tuned(sweep.settings) else 0
    return left + later + more * (later // sweep.settings.seeds)


def tuning_lines(sweep: Sweep, tuning_rows: int) -> list[str]:
    """Return what is going to be tuned, on what; nothing where nothing is."""
    if not is_tuned(sweep.settings):
        return []
    axes = axes_of(sweep.base, sweep.settings)
    waiting = _waiting(sweep, sweep.untuned)
    later = num_equal_time(sweep.base, sweep.settings) // sweep.settings.seeds
    runs = sum(_num_candidates(sweep, cell) for cell in waiting)
    also = f", and {counted(later, 'cell')} at equal time when it is measured" if later else ""
    lines = [
        f"tuning: {'; '.join(map(_axis_told, axes))}: {_how_many(sweep)} for each of "
        f"{counted(len(waiting), 'cell')} (row x fraction) on the tuning part "
        f"({counted(tuning_rows, 'row')}), seed {sweep.base.seed}: {counted(runs, 'run')}{also}"
    ]
    if sweep.settings.early_stop == "asha":
        lines.append("early stopping: candidates that fall behind their cell's others (ASHA)")
    if sweep.base.data.tuning == TUNING_SHARE:
        lines.append(
            f"data.tuning: {TUNING_SHARE:g} of the train rows choose the options of every row; "
            "they are in no other part"
        )
    return lines


def tuning_note(base: Experiment, settings: FrontierSettings, tuned: Mapping[str, Tuned]) -> str:
    """Return what a reader must know about how options were chosen."""
    axes = axes_of(base, settings)
    if not axes:
        return f"one learning rate ({base.training.lr:g}) serves every row; it was tuned for none"
    rows = max((one.tuning_rows for one in tuned.values()), default=0)
    among = f"among the same {len(grid_of(axes))} candidates"
    if settings.search == "optuna":
        among = f"among {settings.samples} samples each by Optuna"
    fields = " and ".join(axis.field for axis in axes)
    runs = counted(sum(len(one.tried) for one in tuned.values()), "run")
    note = (
        f"{fields} {'was' if len(axes) == 1 else 'were'} chosen for every row and fraction "
        f"{among}, by accuracy on {count(rows)} tuning rows of seed {base.seed}; the test part "
        f"chose nothing, and no column counts the time of these {runs}"
    )
    if any(axis.field.startswith("selection.glister.") for axis in axes):
        note += "; selection.glister options mean nothing to the other strategies' rows"
    return note


def chosen_lines(tuned: Mapping[str, Tuned]) -> list[str]:
    """Return a line per row with what it chose, and one per candidate that failed."""
    by_row: dict[str, list[str]] = {}
    for one in tuned.values():
        values = ", ".join(f"{field} {brief(v)}" for field, v in one.chosen.items())
        told = f"{percent_asked(one.fraction)} {values or 'its own values'}"
        by_row.setdefault(one.row, []).append(told)
    lines = [f"chosen for {row}: {'; '.join(own)}" for row, own in by_row.items()]
    return lines + [
        f"candidate {cell} {in_words(tried.values)} {tried.out}"
        for cell, one in tuned.items()
        for tried in one.tried
        if tried.out and tried.tuning_accuracy is None
    ]


def fallback_notes(tuned: Mapping[str, Tuned]) -> list[str]:
    """Return the cells that keep the experiment's own values because no candidate came through."""
    return [
        f"{cell}: no candidate came through, so it keeps the experiment's own values"
        for cell, one in tuned.items()
        if not one.chosen
    ]


def tried_table(tuned: Mapping[str, Tuned]) -> Table | None:
    """Return what every cell tried and chose, a line per candidate; None where nothing was."""
    lines = [
        (one.row, percent_asked(one.fraction), tried, tried.values == one.chosen)
        for one in tuned.values()
        for tried in one.tried
    ]
    if not lines:
        return None
    fields = list(dict.fromkeys(field for _, _, tried, _ in lines for field in tried.values))
    rows = max(one.tuning_rows for one in tuned.values())
    return Table(
        columns=(
            words("strategy", (row for row, *_ in lines)),
            Column(name="fraction", cells=tuple(fraction for _, fraction, *_ in lines)),
            *(
                Column(name=field, cells=tuple(_value(t.values, field) for _, _, t, _ in lines))
                for field in fields
            ),
            Column(
                name="tuning accuracy",
                cells=tuple(percent(t.tuning_accuracy) for _, _, t, _ in lines),
            ),
            words("", (_outcome(t, chosen=chosen) for _, _, t, chosen in lines)),
        ),
        notes=(
            f"tuning accuracy: after the last round, on {count(rows)} tuning rows of one seed, "
            "which are in no other part. The highest is chosen; of equals the nearest to the "
            "experiment's own value. The choice serves all seeds.",
        ),
    )


def plain_tuning(tuned: Mapping[str, Tuned]) -> list[dict[str, Any]]:
    """Return what was tried and chosen as plain data."""
    return [{"cell": cell, **asdict(one)} for cell, one in tuned.items()]


def _waiting(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Return the cells that have not chosen yet."""
    known = read_tuned(sweep.folder)
    return [c for c in cells_of(sweep.base, sweep.settings, trials) if c.cell not in known]


def _candidates_left(sweep: Sweep, cell: Trial) -> int:
    if sweep.settings.samples is not None:
        return sweep.settings.samples  # what of them is there is known when it is drawn again
    candidates = candidates_of(sweep.base, sweep.settings, cell)
    return len([one for one in candidates if not is_ended(sweep.folder, one)])


def _num_candidates(sweep: Sweep, cell: Trial | None = None) -> int:
    """Return the candidates of a cell, or of one that all fields mean something to."""
    if sweep.settings.samples is not None:
        return sweep.settings.samples
    if cell is not None:
        return len(candidates_of(sweep.base, sweep.settings, cell))
    return len(grid_of(axes_of(sweep.base, sweep.settings)))


def _how_many(sweep: Sweep) -> str:
    count_ = counted(_num_candidates(sweep), "candidate")
    return f"{count_} by Optuna" if sweep.settings.search == "optuna" else count_


def _axis_told(axis: Axis) -> str:
    """Return "training.lr 0.0125 to 0.2" for a range or many values, else the values."""
    values = [shown(value) for value in axis.values]
    if axis.is_range:
        return f"{axis.field} {values[0]}..{values[1]}{' by its logarithm' if axis.by_log else ''}"
    if len(values) > 8:
        values = [*values[:3], "...", values[-1]]
    return f"{axis.field} {', '.join(values)}"


def _value(values: Values, field: str) -> str:
    return printable(brief(values[field]), 40) if field in values else NOTHING


def _outcome(tried: Tried, *, chosen: bool) -> str:
    return "chosen" if chosen else printable(tried.out)
