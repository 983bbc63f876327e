"""The chart of classes: what each round chose of each, and how much of each was ever chosen.

Letters: R rounds, C classes, S what is shown of either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raysubset.report.choices import Choices, IntArray
from raysubset.report.palette import LIGHT
from raysubset.report.svg import new_figure
from raysubset.report.wording import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from raysubset.report.record import RunRecord

MAX_ROUNDS, MAX_CLASSES = 8, 20


def classes_chart(
    record: RunRecord, choices: Choices | None, pool_C: IntArray | None
) -> Figure | None:
    """Draw ids per class and round, and the share of each class that was chosen so far.

    Where the pool's classes are not known, the right side counts ids instead.
    """
    if choices is None or not len(choices.tally):
        return None
    class_S = _classes_shown(choices, pool_C)
    last = len(choices.rounds_R) - 1
    round_S = np.unique(np.linspace(0, last, min(last + 1, MAX_ROUNDS)).round().astype(int))
    figure = new_figure(height=1.1 + 0.24 * len(class_S))
    left, right = figure.subplots(1, 2, sharey=True)
    ticks = [str(int(r)) for r in choices.rounds_R[round_S]]
    chosen_SS = choices.chosen_RC[round_S][:, class_S].T
    _cells(left, chosen_SS, max(1, int(chosen_SS.max())), _short, ticks)
    left.set_title("ids chosen in the round")
    seen_SS = choices.distinct_RC[round_S][:, class_S].T
    _draw_seen(right, seen_SS, None if pool_C is None else pool_C[class_S], ticks)
    names = [printable(record.class_name(int(c)), 18) for c in class_S]
    left.set_yticks(range(len(names)), names)
    left.set_ylabel("class")
    return figure


def _draw_seen(
    axes: Axes, seen_SS: IntArray, pool_S: IntArray | None, ticks: Sequence[str]
) -> None:
    if pool_S is None:
        _cells(axes, seen_SS, max(1, int(seen_SS.max())), _short, ticks)
        axes.set_title("ids chosen at least once")
        return
    share_SS = 100 * seen_SS / np.maximum(pool_S, 1)[:, None]
    _cells(axes, share_SS, 100, lambda value: f"{value:.0f}", ticks)
    axes.set_title("% of the class chosen at least once")


def _cells(
    axes: Axes,
    value_SS: np.ndarray,
    highest: float,
    said: Callable[[float], str],
    ticks: Sequence[str],
) -> None:
    """Draw a table of numbers, the larger the darker."""
    from matplotlib.patches import Rectangle

    for (row, column), value in np.ndenumerate(value_SS):
        shade = 0.08 + 0.52 * float(value) / highest if value else 0.0
        cell = Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, color=LIGHT["blue"], alpha=shade)
        cell.set_linewidth(0)
        axes.add_patch(cell)
        axes.text(column, row, said(float(value)), ha="center", va="center", fontsize=8.5)
    axes.set(xlim=(-0.5, len(ticks) - 0.5), ylim=(len(value_SS) - 0.5, -0.5), xlabel="round")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(value: float) -> str:
    """Return at most four signs: 950, 1.2k, 12k."""
    if value < 1000:
        return f"{value:.0f}"
    return f"{value / 1000:.1f}k" if value < 9950 else f"{value / 1000:.0f}k"


def _classes_shown(choices: Choices, pool_C: IntArray | None) -> IntArray:
    """Return all classes, or of many those of which the least and the most was chosen."""
    total_C = choices.distinct_RC[-1]
    if len(total_C) <= MAX_CLASSES:
        return np.arange(len(total_C))
    share_C = total_C if pool_C is None else total_C / np.maximum(pool_C, 1)
    order = np.argsort(share_C, kind="stable")
    half = MAX_CLASSES // 2
    return np.concatenate([order[:half], order[-half:]])
