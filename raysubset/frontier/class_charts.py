"""The charts of classes: how much of the choice each one got, and what it cost each one.

Letters: C classes, S what is shown of them, M columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from raysubset.frontier.stability import ClassChange, FloatArray, IntArray, Stability
from raysubset.report.palette import LIGHT
from raysubset.report.svg import new_figure
from raysubset.report.wording import NOTHING, percent_asked, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES, MAX_COLUMNS, MAX_ROWS = 20, 12, 3
_ROW_NAME = 30
_NOTHING_MUCH = 0.05


def coverage_chart(found: Sequence[Stability], names: Sequence[str]) -> Figure | None:
    """Each class's share of the chosen ids over its share of the pool, by row and fraction."""
    columns = [(s.row, s.fraction, s.coverage_C) for s in found]
    return _strips(columns, names, 1.0, lambda value: f"{value:.2f}x", 1.0)


def change_chart(found: Sequence[ClassChange], names: Sequence[str]) -> Figure | None:
    """Each class's accuracy minus full's in points, by row and fraction."""
    columns = [(c.row, c.fraction, 100 * c.change_C) for c in found]
    return _strips(columns, names, 0.0, _signed, 5.0)


def classes_left_out(num_classes: int) -> str:
    """Return which classes a chart shows, where it does not show all; else ""."""
    if num_classes <= MAX_CLASSES:
        return ""
    half = MAX_CLASSES // 2
    return f" Of {num_classes:,} classes, the {half} lowest and the {half} highest on average."


def _strips(
    columns: Sequence[tuple[str, float, FloatArray]],
    names: Sequence[str],
    middle: float,
    said: Callable[[float], str],
    least_span: float,
) -> Figure | None:
    """Draw one strip of numbers a row, side by side; blue above the middle, vermillion below."""
    strips = _shown(columns)
    if not strips:
        return None
    value_CM = np.stack([v for _, own in strips for _, v in own], axis=1)
    if not np.isfinite(value_CM).any():
        return None
    class_S = _classes_shown(value_CM)
    span = float(np.nanmax(np.abs(value_CM[class_S] - middle), initial=least_span))
    figure = new_figure(height=1.0 + 0.24 * len(class_S))
    ratios = [len(own) for _, own in strips]
    grid_ = figure.subplots(1, len(strips), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for axes, (row, own) in zip(grid_, strips, strict=True):
        value_SM = np.stack([v[class_S] for _, v in own], axis=1)
        _cells(axes, value_SM, middle, span, said)
        axes.set_xticks(range(len(own)), [percent_asked(f) for f, _ in own])
        axes.set_title(printable(row, _ROW_NAME), fontsize=9.5)
    labels = [printable(names[int(c)] if c < len(names) else str(c), 18) for c in class_S]
    grid_[0].set_yticks(range(len(labels)), labels)
    grid_[0].set_ylabel("class")
    return figure


def _shown(
    columns: Sequence[tuple[str, float, FloatArray]],
) -> list[tuple[str, list[tuple[float, FloatArray]]]]:
    """Return the first rows with as many of their fractions as a page's width holds."""
    rows: dict[str, list[tuple[float, FloatArray]]] = {}
    for row, fraction, value_C in columns:
        rows.setdefault(row, []).append((fraction, value_C))
    strips: list[tuple[str, list[tuple[float, FloatArray]]]] = []
    for row, own in list(rows.items())[:MAX_ROWS]:
        own = sorted(own, key=lambda pair: pair[0])
        room = max(1, MAX_COLUMNS // min(len(rows), MAX_ROWS))
        at = np.unique(np.linspace(0, len(own) - 1, min(len(own), room)).round().astype(int))
        strips.append((row, [own[i] for i in at]))
    return strips


def _classes_shown(value_CM: FloatArray) -> IntArray:
    """Return all classes, or of many those with the lowest and the highest mean."""
    known_CM = np.isfinite(value_CM)
    total_C, count_C = np.where(known_CM, value_CM, 0.0).sum(axis=1), known_CM.sum(axis=1)
    if len(value_CM) <= MAX_CLASSES:
        return np.arange(len(value_CM))
    known = np.flatnonzero(count_C)
    order = known[np.argsort(total_C[known] / count_C[known], kind="stable")]
    half = MAX_CLASSES // 2
    return order if len(order) <= MAX_CLASSES else np.concatenate([order[:half], order[-half:]])


def _signed(value: float) -> str:
    """Return for instance "+0.4"; nought has no sign."""
    return f"{value:+.1f}" if abs(value) >= _NOTHING_MUCH else "0.0"


def _cells(
    axes: Axes, value_SM: FloatArray, middle: float, span: float, said: Callable[[float], str]
) -> None:
    from matplotlib.patches import Rectangle

    for (at, column), value in np.ndenumerate(value_SM):
        known = bool(np.isfinite(value))
        away = (float(value) - middle) / span if known else 0.0
        colour = LIGHT["blue" if away > 0 else "vermillion"]
        cell = Rectangle((column - 0.47, at - 0.45), 0.94, 0.9, color=colour)
        cell.set(alpha=0.04 + 0.52 * abs(away) if away else 0.03, linewidth=0)
        axes.add_patch(cell)
        text = said(float(value)) if known else NOTHING
        axes.text(column, at, text, ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.5, value_SM.shape[1] - 0.5), ylim=(len(value_SM) - 0.5, -0.5))
    axes.set_xlabel("fraction")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
