"""The charts of one run: each a function of its record, None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from raysubset.report.palette import LIGHT, STAGE
from raysubset.report.record import RunRecord, stage_seconds
from raysubset.report.svg import grid, new_figure
from raysubset.report.wording import count, duration, is_number, percent, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_POINTS = 40
MAX_BARS = 60
_BARS_APART = 30
_NO_SEAM = 1.04  # bars side by side, a little over each other
_WIDE = 20


def accuracy_chart(record: RunRecord) -> Figure | None:
    """Accuracy against visits: validation per round, training per epoch, test at the end."""
    if not record.rounds:
        return None
    figure = new_figure()
    axes = figure.add_subplot()
    seen = [e for e in record.epochs if is_number(e.get("accuracy"))]
    axes.plot(
        [e["visits"] for e in seen],
        [100 * e["accuracy"] for e in seen],
        color=LIGHT["grey"],
        linewidth=1.2,
        label="training, per epoch: on the chosen examples",
    )
    draw_validation(axes, record, LIGHT["blue"], "o", "-", "validation, per round")
    if record.outcome is not None:
        axes.plot(
            [record.outcome.visits],
            [100 * record.outcome.test_accuracy],
            **_star(f"test, read once: {percent(record.outcome.test_accuracy)}"),
        )
    _accuracy_axes(axes)
    return figure


def draw_validation(
    axes: Axes, record: RunRecord, colour: str, marker: str, line: str, label: str
) -> None:
    """Draw validation accuracy against visits."""
    rounds = [r for r in record.rounds if is_number(r.get("validation_accuracy"))]
    axes.plot(
        [r["visits"] for r in rounds],
        [100 * r["validation_accuracy"] for r in rounds],
        color=colour,
        marker=marker if len(rounds) <= MANY_POINTS else "",
        markersize=5,
        linestyle=line,
        linewidth=1.8,
        label=label,
    )


def seconds_chart(record: RunRecord) -> Figure | None:
    """Seconds of each round, by stage."""
    if not record.rounds:
        return None
    figure = new_figure(height=2.7)
    axes = figure.add_subplot()
    per_round = [stage_seconds(r) for r in record.rounds]
    size = -(-len(per_round) // MAX_BARS)
    starts = range(0, len(per_round), size)
    floor = np.zeros(len(starts))
    width = size * (0.72 if len(starts) <= _BARS_APART else _NO_SEAM)
    everything = sum(sum(seconds.values()) for seconds in per_round)
    for stage, colour in STAGE.items():
        total = sum(s[stage] for s in per_round)
        height = np.array([sum(s[stage] for s in per_round[i : i + size]) for i in starts])
        share = f", {percent(total / everything, 0)}" if everything else ""
        label = f"{stage}: {duration(total)}{share}"
        axes.bar(list(starts), height, width, floor, color=LIGHT[colour], label=label)
        floor += height
    each = "a round" if size == 1 else f"{size} rounds"
    axes.set(xlabel="round", ylabel=f"seconds of {each}")
    _whole_numbers(axes)
    grid(axes)
    _legend_beside(axes)
    return figure


def glister_chart(record: RunRecord) -> Figure | None:
    """What GLISTER's model of a step promised, what training gave, and how good its choice is."""
    rounds = [r for r in record.rounds if is_number(r.get("modelled_loss_after"))]
    if not rounds:
        return None
    figure = new_figure(height=2.9)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_losses(left, rounds)
    _draw_shares(right, rounds)
    for axes in (left, right):
        _whole_numbers(axes)
        grid(axes)
    return figure


def _draw_losses(axes: Axes, rounds: Sequence[dict[str, Any]]) -> None:
    """Draw marks, or lines where marks would hide each other."""
    at = [r["round"] for r in rounds]
    many = len(rounds) > MANY_POINTS
    series = (
        ("modelled_loss_before", "before the step", "grey", "o", "none"),
        ("modelled_loss_after", "after it, modelled", "blue", "o", LIGHT["blue"]),
        ("validation_loss", "after training, measured", "vermillion", "x", "none"),
    )
    values = {name: [_or_nan(r.get(name)) for r in rounds] for name, *_ in series}
    if not many:
        ends = (values["modelled_loss_before"], values["modelled_loss_after"])
        axes.vlines(at, *ends, color=LIGHT["blue"], linewidth=1.2)
    for name, label, colour, marker, face in series:
        axes.plot(
            at,
            values[name],
            color=LIGHT[colour],
            linestyle="-" if many else "",
            marker="" if many else marker,
            markerfacecolor=face,
            markeredgewidth=1.6,
            label=label,
        )
    _loss_axes(axes, [v for column in values.values() for v in column if v > 0])


def _loss_axes(axes: Axes, losses: Sequence[float]) -> None:
    if max(losses, default=1.0) > _WIDE * min(losses, default=1.0):
        from matplotlib.ticker import NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: significant(value))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, None)
    axes.set(xlabel="round", ylabel="nats")
    axes.set_title("validation loss")
    axes.margins(x=0.08)
    axes.legend(fontsize=8.5)


def _draw_shares(axes: Axes, rounds: Sequence[dict[str, Any]]) -> None:
    shares = [100 * _or_nan(r.get("share_of_optimum")) for r in rounds]
    width = 0.72 if len(rounds) <= _BARS_APART else _NO_SEAM
    axes.bar([r["round"] for r in rounds], shares, width, color=LIGHT["blue"])
    axes.axhline(100, color=LIGHT["muted"], linewidth=1, linestyle="--")
    lowest = min((share for share in shares if is_number(share)), default=0.0)
    axes.set_title("share of the best drop")
    axes.set(xlabel="round", ylabel="at least, in %", ylim=(max(-100.0, min(0.0, lowest)), 108))


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _accuracy_axes(axes: Axes) -> None:
    axes.set(xlabel="example visits", ylabel="accuracy in %", xlim=(0, None))
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    grid(axes)
    axes.legend(loc="lower right")


def _star(label: str) -> dict[str, Any]:
    return {
        "marker": "*",
        "markersize": 13,
        "color": LIGHT["vermillion"],
        "linestyle": "",
        "label": label,
        "clip_on": False,
        "zorder": 5,
    }


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _legend_beside(axes: Axes) -> None:
    """Put the legend to the right, in the order of the stack."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), borderaxespad=0
    )
