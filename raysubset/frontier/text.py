"""The table of a frontier: one row per strategy and fraction, for a terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raysubset.evidence.intervals import Interval
from raysubset.frontier.answer import Answer, Cell
from raysubset.report.table import Column, Table
from raysubset.report.wording import (
    NOTHING,
    count,
    decimal,
    is_number,
    percent,
    percent_asked,
)

_FLATTERED = (
    " Validation drove some choices and so flatters them: --data.tuning 0.1 keeps rows for this."
)
_MILLION, _HOUR_S, _LONG_S = 1_000_000, 3600.0, 10_000.0


def table_of(answer: Answer, price_per_hour: float | None) -> Table:
    """Return one row per strategy and fraction, controls below, full last; fits 120 columns.

    Args:
        answer: what the frontier says.
        price_per_hour: what an hour of the machine costs; None for no column of costs.
    """
    cells = [*answer.cells, *([answer.full] if answer.full else [])]
    columns = [
        words("strategy", (c.row for c in cells)),
        Column(name="fraction", cells=tuple(percent_asked(c.fraction) for c in cells)),
        Column(name="seeds", cells=tuple(count(c.accuracy.n) for c in cells)),
        *interval_columns("accuracy", [c.accuracy for c in cells], unit=" %"),
        *interval_columns("to full", [c.to_full for c in cells], signed=True),
        Column(name="visits", group="examples", cells=tuple(_short(c.visits) for c in cells)),
        Column(name="distinct", group="examples", cells=tuple(_short(c.distinct) for c in cells)),
        Column(name="labels", group="valid.", cells=tuple(count(c.num_validation) for c in cells)),
        *_second_columns(cells),
        Column(name="times", group="speed-up", cells=tuple(_times(c.speed_up) for c in cells)),
        Column(name="share", group="speed-up", cells=tuple(_of_ceiling(c) for c in cells)),
    ]
    if answer.judge is not None:
        reached = tuple(_reached(c) for c in cells)
        columns.append(Column(name="target", group="speed-up", cells=reached))
    if price_per_hour is not None:
        columns.append(_costs(cells, price_per_hour))
    return Table(columns=tuple(columns), notes=_notes(answer, price_per_hour))


def points(share: float | None, digits: int = 1, *, signed: bool = True) -> str:
    """Return a difference in points, for instance "-0.4"; never "-0.0"."""
    if share is None or not is_number(share):
        return NOTHING
    value = round(100 * share, digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}"


def in_points(share: float) -> str:
    """Return an allowed drop as a person gave it: "1 point", "0.5 points"."""
    value = round(100 * share, 9)  # 100 * 0.007 has a tail of digits
    return f"{value:g} point{'' if value == 1 else 's'}"


def words(name: str, cells: Iterable[str]) -> Column:
    """Return a column of text that reads from the left."""
    return Column(name=name, cells=tuple(cells), words=True)


def interval_columns(
    group: str, intervals: Sequence[Interval | None], *, signed: bool = False, unit: str = ""
) -> tuple[Column, Column]:
    """Return the means of intervals in points, and half their widths."""
    means = tuple(points(i.mean, signed=signed) + unit if i else NOTHING for i in intervals)
    halves = tuple(points(i.half if i else None, signed=False) for i in intervals)
    return (
        Column(name="mean", group=group, cells=means),
        Column(name="+-", group=group, cells=halves),
    )


def _second_columns(cells: Sequence[Cell]) -> tuple[Column, Column]:
    """Return selection and training in seconds, or in hours where seconds grow long."""
    training = [c.seconds["training"] for c in cells]
    selection = [c.total_s - c.seconds["training"] for c in cells]
    largest = max([*training, *selection], default=0.0)
    group, unit_s = ("hours", _HOUR_S) if largest >= _LONG_S else ("seconds", 1.0)
    digits = 2 if largest / unit_s < 10 else 1 if largest / unit_s < 1000 else 0
    select, train = (
        Column(name=name, group=group, cells=tuple(decimal(v / unit_s, digits) for v in values))
        for name, values in (("select", selection), ("train", training))
    )
    return select, train


def _costs(cells: Sequence[Cell], price_per_hour: float) -> Column:
    costs = [c.total_s / _HOUR_S * price_per_hour for c in cells]
    digits = 2 if max(costs, default=0.0) < _LONG_S else 0
    said = ("<0.01" if 0 < cost < 0.005 else decimal(cost, digits) for cost in costs)
    return Column(name="cost", cells=tuple(said))


def _short(value: float) -> str:
    """Return "7,740", or "13.5M" where the digits would burst the table."""
    return count(value) if value < _MILLION else f"{value / _MILLION:,.3g}M"


def _times(speed_up: float | None) -> str:
    return f"{decimal(speed_up)}x" if is_number(speed_up) else NOTHING


def _reached(cell: Cell) -> str:
    """Return for instance "3.10x", or "2 of 5" where not every seed got there."""
    if cell.reach is None:
        return NOTHING
    if cell.reach.speed_up is not None:
        return _times(cell.reach.speed_up)
    return f"{cell.reach.reached} of {cell.reach.pairs}"


def _of_ceiling(cell: Cell) -> str:
    if cell.speed_up is None or not is_number(cell.ceiling):
        return NOTHING
    return percent(cell.speed_up / cell.ceiling, 0)


def _notes(answer: Answer, price_per_hour: float | None) -> tuple[str, ...]:
    notes = [
        f"accuracy: on {count(answer.num_test)} test examples in %, mean over seeds; +- is half of "
        "its 95 % interval. to full: in points, paired by seed.",
        "valid. labels: validation rows whose labels were used to select or to train. select: "
        "scoring, greedy, hand-over and waiting; neither process start nor evaluation is counted.",
        "speed-up: full's time over this one's, selection included; share: of its ceiling, where "
        "the passes over pool and validation count as a third of a training step a row.",
    ]
    if answer.judge is not None and answer.max_drop is not None:
        notes.append(
            f"target: full's seconds until it first stands {in_points(answer.max_drop)} below its "
            f"own end, over this row's seconds until it stands there, on {answer.judge} rows, read "
            "at the end of a round; or the seeds that got there."
            + _FLATTERED
            * (answer.judge == "validation")
        )
    if price_per_hour is not None:
        notes.append(f"cost: of one run, at {price_per_hour:,g} an hour.")
    return tuple(notes)
