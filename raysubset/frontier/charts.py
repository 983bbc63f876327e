"""The charts of a frontier: accuracy against the fraction and against seconds, and the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raysubset.frontier.answer import Answer, Cell
from raysubset.frontier.plan import FULL
from raysubset.frontier.text import in_points
from raysubset.report.palette import LIGHT, STAGE, STRATEGY
from raysubset.report.svg import grid, new_figure
from raysubset.report.wording import duration, is_number, percent_asked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR_APART = 3
_OTHER_LOOK = ("grey", "P", "-")
_BAND = 0.16
_BESIDE = 0.018  # controls stand a little beside the fraction, so that their bars can be told apart
_ROOM = 1.0  # wide bands may take this multiple of the span of means on either side, no more
_LEAST_SPAN = 0.01


def look_of(row: str) -> tuple[str, str, str]:
    """Return (colour, marker, line style) of a row."""
    colour, marker, line = STRATEGY.get(row, _OTHER_LOOK)
    return LIGHT[colour], marker, line


def accuracy_chart(answer: Answer) -> Figure | None:
    """Test accuracy of every row against the fraction, with 95 % bands, full and the drop."""
    if not answer.cells:
        return None
    figure = new_figure(height=4.4)
    axes = figure.add_subplot()
    if answer.full is not None:
        _draw_full(axes, answer.full, answer.max_drop)
    for place, row in enumerate(answer.rows):
        own = [c for c in answer.cells if c.row == row]
        _draw_row(axes, row, own, shift=place - (len(answer.rows) - 1) / 2)
    axes.set(xlabel="fraction of the pool", ylabel="test accuracy in %")
    axes.set_ylim(*_accuracy_limits(answer))
    _fraction_axis(axes, answer.fractions)
    grid(axes)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


def cost_chart(answer: Answer) -> Figure | None:
    """Test accuracy of every cell against its wall-clock, selection included."""
    if not answer.cells:
        return None
    figure = new_figure(height=4.4)
    axes = figure.add_subplot()
    for row in answer.rows:
        own = [c for c in answer.cells if c.row == row]
        _draw_costs(axes, row, own)
    everything = [*answer.cells]
    if answer.full is not None:
        _draw_costs(axes, FULL, [answer.full])
        everything.append(answer.full)
    for cell in everything:
        if cell.role == "reference" or cell.row == answer.rows[0]:
            _say_fraction(axes, cell)
    axes.set(xlabel="seconds of a run, selection included", ylabel="test accuracy in %")
    _seconds_axis(axes, [c.total_s for c in everything])
    axes.margins(0.06, 0.08)
    grid(axes, "both")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    return figure


def stages_chart(answer: Answer) -> Figure | None:
    """Seconds of every cell by stage, full last."""
    cells = [*answer.cells, *([answer.full] if answer.full else [])]
    if not cells:
        return None
    figure = new_figure(height=1.1 + 0.23 * len(cells))
    axes = figure.add_subplot()
    left = [0.0] * len(cells)
    for stage, colour in STAGE.items():
        width = [c.seconds[stage] for c in cells]
        axes.barh(range(len(cells)), width, 0.66, left, color=LIGHT[colour], label=stage)
        left = [a + b for a, b in zip(left, width, strict=True)]
    for at, total in enumerate(left):
        axes.annotate(
            duration(total), (total, at), (5, 0), "data", "offset points", va="center", fontsize=8.5
        )
    axes.set(xlabel="seconds of a run, mean over seeds", ylim=(len(cells) - 0.5, -0.5))
    axes.set_xlim(0, 1.14 * max(left) or 1)
    axes.set_yticks(range(len(cells)), [f"{c.row}  {percent_asked(c.fraction)}" for c in cells])
    _part_rows(axes, cells)
    grid(axes, "x")
    figure.legend(loc="outside upper left", ncols=len(STAGE))
    return figure


def _draw_full(axes: Axes, full: Cell, max_drop: float | None) -> None:
    """Draw full as a line across, its band, and the line below which too much is lost."""
    colour, _, line = look_of(FULL)
    mean = 100 * full.accuracy.mean
    if is_number(full.accuracy.half):
        low, high = 100 * full.accuracy.low, 100 * full.accuracy.high
        axes.axhspan(low, high, color=colour, alpha=_BAND, linewidth=0)
    axes.axhline(mean, color=colour, linestyle=line, linewidth=2, label=FULL)
    if max_drop is not None:
        axes.axhline(
            mean - 100 * max_drop,
            color=LIGHT["muted"],
            linestyle=(0, (6, 3)),
            linewidth=1.1,
            label=f"full less {in_points(max_drop)}",
        )


def _draw_row(axes: Axes, row: str, own: Sequence[Cell], shift: float) -> None:
    """Draw a row as a line with its band; a control's is drawn as bars, or eight bands hide all."""
    fraction = [100 * c.fraction for c in own]
    mean = [100 * c.accuracy.mean for c in own]
    half = [100 * c.accuracy.half for c in own]
    if own[0].role == "strategy" and len(own) > 1:
        low, high = ([100 * getattr(c.accuracy, end) for c in own] for end in ("low", "high"))
        axes.fill_between(fraction, low, high, color=look_of(row)[0], alpha=_BAND, linewidth=0)
        axes.plot(fraction, mean, **_style(row), zorder=3)
        return
    beside = [at * (1 + _BESIDE * shift) for at in fraction]
    axes.errorbar(beside, mean, half, elinewidth=1, capsize=2.5, **_style(row, 1.2))


def _style(row: str, width: float = 1.8) -> dict[str, Any]:
    colour, marker, line = look_of(row)
    return {
        "color": colour,
        "marker": marker,
        "markersize": 9 if marker == "*" else 6.5,
        "linestyle": line,
        "linewidth": width,
        "label": row,
    }


def _accuracy_limits(answer: Answer) -> tuple[float, float]:
    """Return limits that hold every mean; a few seeds' wide bands are cut before they rule."""
    cells = [*answer.cells, *([answer.full] if answer.full else [])]
    means = [c.accuracy.mean for c in cells]
    if answer.full is not None and answer.max_drop is not None:
        means.append(answer.full.accuracy.mean - answer.max_drop)
    low, high = min(means), max(means)
    room = _ROOM * max(high - low, _LEAST_SPAN)
    ends = [e for c in cells for e in (c.accuracy.low, c.accuracy.high) if is_number(e)]
    edge = 0.06 * max(high - low, _LEAST_SPAN)
    lowest = max(min([*ends, low]), low - room) - edge
    highest = min(max([*ends, high]), high + room) + edge
    return 100 * max(0.0, lowest), 100 * min(1.005, highest)


def _fraction_axis(axes: Axes, fractions: Sequence[float]) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    at = [100 * f for f in fractions]
    if max(at) > FAR_APART * min(at):
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(at))
    axes.xaxis.set_major_formatter(FixedFormatter([percent_asked(f) for f in fractions]))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(at) == 1:
        axes.set_xlim(0.7 * at[0], 1.3 * at[0])


def _draw_costs(axes: Axes, row: str, own: Sequence[Cell]) -> None:
    axes.plot(
        [c.total_s for c in own],
        [100 * c.accuracy.mean for c in own],
        **_style(row, 0.9),
    )


def _say_fraction(axes: Axes, cell: Cell) -> None:
    said = FULL if cell.row == FULL else percent_asked(cell.fraction)
    axes.annotate(
        said,
        (cell.total_s, 100 * cell.accuracy.mean),
        (0, -7),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=8,
        color=look_of(cell.row)[0],
    )


def _seconds_axis(axes: Axes, seconds: Sequence[float]) -> None:
    """Spread times of very unequal length over a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if max(seconds) > FAR_APART * min(seconds) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, None)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")


def _part_rows(axes: Axes, cells: Sequence[Cell]) -> None:
    """Draw a thin line between rows, so that fractions of one row read as a group."""
    for at in range(1, len(cells)):
        if cells[at].row != cells[at - 1].row:
            axes.axhline(at - 0.5, color=LIGHT["line"], linewidth=0.8, zorder=0)
