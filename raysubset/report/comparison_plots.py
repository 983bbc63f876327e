"""The charts of several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raysubset.report.palette import LIGHT, STAGE, STRATEGY
from raysubset.report.plots import draw_validation
from raysubset.report.svg import grid, new_figure
from raysubset.report.wording import count, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from raysubset.engine import Outcome
    from raysubset.report.record import RunRecord

_OTHER_LOOK = ("grey", "P", "-")
_FAR_APART = 3


def curves_chart(records: Sequence[RunRecord]) -> Figure | None:
    """Validation accuracy against example visits, all runs together."""
    records = [r for r in records if r.rounds]
    if not records:
        return None
    figure = new_figure(height=3.4)
    axes = figure.add_subplot()
    for record in records:
        strategy = record.experiment.selection.strategy
        colour, marker, line = STRATEGY.get(strategy, _OTHER_LOOK)
        draw_validation(axes, record, LIGHT[colour], marker, line, strategy)
    ends = [record.rounds[-1]["visits"] for record in records]
    if max(ends) > _FAR_APART * min(ends):
        _logarithmic(figure)
    else:
        axes.set_xlim(0, None)
    axes.set(xlabel="example visits", ylabel="validation accuracy in %")
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    grid(axes)
    axes.legend(loc="lower right")
    return figure


def test_chart(outcomes: Sequence[Outcome], test_examples: int) -> Figure | None:
    """Test accuracy of each run with the interval that so many test examples leave open."""
    if not outcomes:
        return None
    figure = new_figure(height=0.9 + 0.32 * len(outcomes))
    axes = figure.add_subplot()
    for row, outcome in enumerate(outcomes):
        colour, marker, _ = STRATEGY.get(outcome.strategy, _OTHER_LOOK)
        low, high = wilson(outcome.test_accuracy, test_examples)
        axes.hlines(row, 100 * low, 100 * high, color=LIGHT[colour], linewidth=2)
        axes.plot([100 * outcome.test_accuracy], [row], marker, color=LIGHT[colour], markersize=7)
    axes.set(xlabel="test accuracy in %", ylim=(len(outcomes) - 0.5, -0.5))
    axes.set_yticks(range(len(outcomes)), [o.strategy for o in outcomes])
    grid(axes, "x")
    return figure


def cost_chart(outcomes: Sequence[Outcome]) -> Figure | None:
    """Seconds of each run, by stage."""
    if not outcomes:
        return None
    figure = new_figure(height=1.1 + 0.36 * len(outcomes))
    axes = figure.add_subplot()
    left = [0.0] * len(outcomes)
    for stage, colour in STAGE.items():
        width = [float(getattr(o, f"seconds_{stage}") or 0.0) for o in outcomes]
        axes.barh(range(len(outcomes)), width, 0.62, left, color=LIGHT[colour], label=stage)
        left = [a + b for a, b in zip(left, width, strict=True)]
    for row, total in enumerate(left):
        axes.annotate(
            duration(total), (total, row), (5, 0), textcoords="offset points", va="center"
        )
    axes.set(xlabel="seconds", ylim=(len(outcomes) - 0.5, -0.5), xlim=(0, 1.14 * max(left) or 1))
    axes.set_yticks(range(len(outcomes)), [o.strategy for o in outcomes])
    grid(axes, "x")
    figure.legend(loc="outside upper left", ncols=len(STAGE))
    return figure


def wilson(accuracy: float, examples: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share of so many examples (Wilson, 1927)."""
    n, p = examples, accuracy
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _logarithmic(figure: Figure) -> None:
    """Spread runs of very unequal length: without it the long one squeezes the others."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis = figure.axes[0].xaxis
    figure.axes[0].set_xscale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_formatter(NullFormatter())
