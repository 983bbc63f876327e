"""Tables: columns of ready text, printed for a terminal or as Markdown.

`rows_of` makes the one that compares runs; `heading` says what was run with which defaults.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raysubset.core.budget import budget_of
from raysubset.report.wording import (
    count,
    decimal,
    is_number,
    markdown,
    percent,
    percent_asked,
    printable,
)
from raysubset.schedule import WHOLE_AT_EQUAL_COMPUTE

if TYPE_CHECKING:
    from raysubset.engine import Outcome
    from raysubset.experiment import Experiment

WIDTH = 120
_WHOLE_POOL = ("full", "full-compressed", "full-validation-compressed", "validation-only")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its cells as text, top to bottom.

    Attributes:
        name: what stands over it.
        group: what stands over it and its neighbours of the same group; "" for nothing.
        cells: one per row.
        words: text that reads from the left; numbers stand to the right.
    """

    name: str
    cells: tuple[str, ...]
    group: str = ""
    words: bool = False

    @property
    def full_name(self) -> str:
        """Group and name in one."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of equal length, and what a reader must know beside them."""

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Neighbours of one group as (group, number of columns)."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if spans and column.group and spans[-1][0] == column.group:
                spans[-1] = (column.group, spans[-1][1] + 1)
            else:
                spans.append((column.group, 1))
        return spans


def rows_of(outcomes: Sequence[Outcome]) -> Table:
    """Return one row per run: accuracy, what was visited, seconds by stage, speed-up."""
    columns = (
        Column(name="strategy", cells=tuple(o.strategy for o in outcomes), words=True),
        Column(name="fraction", cells=tuple(percent_asked(_fraction(o)) for o in outcomes)),
        *_accuracy_columns(outcomes),
        Column(name="epochs", cells=tuple(count(o.epochs) for o in outcomes)),
        Column(name="visits", group="examples", cells=tuple(count(o.visits) for o in outcomes)),
        Column(name="distinct", group="examples", cells=tuple(count(o.distinct) for o in outcomes)),
        *_second_columns(outcomes),
        Column(name="speed-up", cells=tuple(_times(o.speed_up) for o in outcomes)),
        Column(name="ceiling", group="share of", cells=tuple(_of_ceiling(o) for o in outcomes)),
    )
    return Table(columns=columns, notes=_notes(outcomes))


def text_table(table: Table, width: int = WIDTH) -> str:
    """Return the table for a terminal of `width` columns, its notes below."""
    sizes = [max(map(len, (c.name, *c.cells)), default=0) for c in table.columns]
    at = 0
    for group, span in table.groups:
        last = at + span - 1
        sizes[last] += max(0, len(group) - sum(sizes[at : last + 1]) - 2 * (span - 1))
        at += span
    gap = "  " if sum(sizes) + 2 * (len(sizes) - 1) <= width else " "
    names = tuple(c.name for c in table.columns)
    lines = [_group_line(table, sizes, gap)]
    lines += [gap.join(_line(row, table, sizes)) for row in (names, *table.rows)]
    notes = [textwrap.fill(note, width, subsequent_indent="  ") for note in table.notes]
    return "\n".join([line.rstrip() for line in lines if line.strip()] + notes)


def markdown_table(table: Table) -> str:
    """Return the table as Markdown, its notes below."""
    names = [markdown(c.full_name) for c in table.columns]
    rules = [":--" if c.words else "--:" for c in table.columns]
    rows = [[markdown(cell) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(row)} |" for row in (names, rules, *rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in table.notes)])


def heading(experiment: Experiment, identity: Mapping[str, Any], width: int = WIDTH) -> str:
    """Return what was run with which defaults, folded to `width` columns (0: one line)."""
    parts, recipe = identity["parts"], experiment.training
    model = str(identity.get("model", experiment.model.name))
    selection, pool = experiment.selection, int(identity["pool"])
    sizes = [f"{name} {parts[name]:,}" for name in ("validation", "tuning", "test") if parts[name]]
    budget = budget_of(selection.fraction, pool)
    said = [
        f"{printable(str(identity['name']), 60)}: pool {pool:,}",
        *sizes,
        f"{parts['classes']:,} classes; model {printable(model, 60)}",
        _length(experiment, budget),
        f"batch {recipe.batch_size:,}",
        f"lr {recipe.lr:g}",
        f"seed {experiment.seed}",
        f"W={experiment.resources.ranks} ranks",
        f"select_every {selection.select_every}",
        f"balance {selection.balance}",
        *_uncommon(experiment),
    ]
    line = ", ".join(said)
    return line if width == 0 else "\n".join(textwrap.wrap(line, width, break_on_hyphens=False))


def _length(experiment: Experiment, budget: int) -> str:
    """Return how long a run trains, in its own terms."""
    selection, epochs = experiment.selection, experiment.training.epochs
    if selection.strategy == "full":
        return f"{epochs:,} epochs of the whole pool"
    if selection.goal == "smaller":
        return f"{epochs:,} epochs of the {budget:,} ids kept ({percent_asked(selection.fraction)})"
    same = "as many visits as " if selection.strategy in WHOLE_AT_EQUAL_COMPUTE else ""
    return f"{same}{epochs:,} epochs of {budget:,} ids ({percent_asked(selection.fraction)})"


def _uncommon(experiment: Experiment) -> list[str]:
    """Return what changes a selection and is mostly left alone, where it is not."""
    selection = experiment.selection
    said = [f"filters {' '.join(selection.filters)}"] if selection.filters else []
    if selection.goal == "smaller":
        said.append("goal smaller")
    if selection.goal == "smaller" and selection.strategy == "glister":
        said.append(f"proxy {selection.proxy_epochs:,} epochs of the whole pool")
    if selection.warm_start:
        said.append(f"warm_start {selection.warm_start:g}")
    if selection.candidates != 1:
        said.append(f"candidates {selection.candidates:g}")
    return said


def _fraction(outcome: Outcome) -> float:
    """Return the share of the pool that an epoch visits."""
    return 1.0 if outcome.strategy in _WHOLE_POOL else outcome.fraction


def _accuracy_columns(outcomes: Sequence[Outcome]) -> tuple[Column, Column]:
    return (
        Column(
            name="valid.",
            group="accuracy",
            cells=tuple(percent(o.validation_accuracy) for o in outcomes),
        ),
        Column(
            name="test",
            group="accuracy",
            cells=tuple(percent(o.test_accuracy) for o in outcomes),
        ),
    )


def _second_columns(outcomes: Sequence[Outcome]) -> tuple[Column, ...]:
    stages = {"scoring": "scoring", "greedy": "greedy", "train": "training", "other": "other"}
    return tuple(
        Column(name=name, group="seconds", cells=_seconds(outcomes, f"seconds_{stage}"))
        for name, stage in stages.items()
    )


def _seconds(outcomes: Sequence[Outcome], field: str) -> tuple[str, ...]:
    """Return one stage's seconds with as many decimals as its largest needs."""
    values = [getattr(outcome, field) for outcome in outcomes]
    largest = max((v for v in values if is_number(v)), default=0.0)
    digits = 2 if largest < 10 else 1 if largest < 1000 else 0
    return tuple(decimal(value, digits) for value in values)


def _times(speed_up: float | None) -> str:
    return f"{speed_up:.2f}x" if speed_up is not None and is_number(speed_up) else decimal(None)


def _of_ceiling(outcome: Outcome) -> str:
    if not (is_number(outcome.speed_up) and is_number(outcome.ceiling)):
        return decimal(None)
    return percent(outcome.speed_up / outcome.ceiling, 0)


def _notes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    notes = [
        "speed-up: against the same epochs over the whole pool at this run's own seconds per "
        "visit; evaluation is not counted. Its ceiling counts the passes over pool and validation "
        "and takes a forward pass for a third of a training step, so a share above 100 % means "
        "that it cost less here."
    ]
    if any(o.strategy == "full-compressed" for o in outcomes):
        notes.append(
            "full-compressed: full at equal compute, the whole pool for as many example visits."
        )
    return tuple(notes)


def _group_line(table: Table, sizes: Sequence[int], gap: str) -> str:
    cells, at = [], 0
    for group, span in table.groups:
        room = sum(sizes[at : at + span]) + len(gap) * (span - 1)
        one = span == 1 or not group
        cells.append(group.rjust(room) if one else f" {group} ".center(room, "-"))
        at += span
    return gap.join(cells)


def _line(cells: Sequence[str], table: Table, sizes: Sequence[int]) -> list[str]:
    return [
        cell.ljust(size) if column.words else cell.rjust(size)
        for cell, column, size in zip(cells, table.columns, sizes, strict=True)
    ]
