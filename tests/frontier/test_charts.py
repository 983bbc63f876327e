from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from raysubset.frontier import charts
from raysubset.frontier.answer import Answer, answer_of
from raysubset.frontier.class_charts import (
    MAX_CLASSES,
    MAX_COLUMNS,
    change_chart,
    classes_left_out,
    coverage_chart,
)
from raysubset.frontier.plan import EQUAL_TIME, FULL, PLAIN
from raysubset.frontier.stability import ClassChange, Stability
from raysubset.report.palette import DARK, LIGHT, STRATEGY
from raysubset.report.svg import drawing, svg_of
from tests.frontier.rows import rows_of_plan, trial_row

NONE = np.zeros(0, dtype=np.int64)


def answer() -> Answer:
    return answer_of(rows_of_plan(), 1.0)


def texts(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def change(row: str, fraction: float, change_C: np.ndarray) -> ClassChange:
    return ClassChange(row=row, fraction=fraction, seeds=3, change_C=change_C)


def stability(row: str, fraction: float, chosen_C: np.ndarray, pool_C: np.ndarray) -> Stability:
    return Stability(
        row=row, fraction=fraction, seeds=3, chosen=1.0, overlap=None, expected=None, shared=0,
        always=NONE, never=NONE, chosen_C=chosen_C, pool_C=pool_C,
    )  # fmt: skip


def test_no_two_rows_share_a_marker_or_both_colour_and_line():
    assert {PLAIN, EQUAL_TIME, FULL} <= set(STRATEGY)
    for (_, a), (_, b) in combinations(STRATEGY.items(), 2):
        assert a[1] != b[1]
        assert (a[0], a[2]) != (b[0], b[2])
    assert {colour for colour, *_ in STRATEGY.values()} <= LIGHT.keys() & DARK.keys()


def test_every_row_is_drawn_at_its_means():
    told = answer()
    with drawing():
        figure = charts.accuracy_chart(told)
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    bars = {c.get_label(): c.lines[0] for c in figure.axes[0].containers}
    for row in told.rows:
        own = [100 * c.accuracy.mean for c in told.cells if c.row == row]
        drawn = np.asarray((lines.get(row) or bars[row]).get_ydata(), dtype=float)
        np.testing.assert_allclose(drawn, own)
    assert told.full is not None and told.max_drop is not None
    drop = np.asarray(lines["full less 1 point"].get_ydata(), dtype=float)
    np.testing.assert_allclose(drop, 100 * (told.full.accuracy.mean - told.max_drop))
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {*told.rows, FULL} < set(legend)


def test_far_apart_axes_are_logarithmic_and_near_ones_are_not():
    near = answer_of([r for r in rows_of_plan() if r.fraction != 0.1], 1.0)
    with drawing():
        scales = [charts.accuracy_chart(a).axes[0].get_xscale() for a in (answer(), near)]
    assert scales == ["linear", "linear"]  # 0.1 and 0.3: just 3 times apart
    rows = rows_of_plan() + [trial_row("glister", 0.02, seed) for seed in range(3)]
    with drawing():
        assert charts.accuracy_chart(answer_of(rows, 1.0)).axes[0].get_xscale() == "log"


def test_bars_of_a_cell_add_up_to_its_seconds():
    told = answer()
    with drawing():
        figure = charts.stages_chart(told)
    assert figure is not None and told.full is not None
    ends = np.zeros(len(told.cells) + 1)
    for container in figure.axes[0].containers:
        ends += [patch.get_width() for patch in container.patches]
    np.testing.assert_allclose(ends, [c.total_s for c in (*told.cells, told.full)])


def test_every_cell_has_a_mark_at_its_price():
    told = answer()
    with drawing():
        figure = charts.cost_chart(told)
    assert figure is not None and told.full is not None
    marks = {
        (round(float(x), 6), round(float(y), 6))
        for line in figure.axes[0].get_lines()
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert marks == {
        (round(c.total_s, 6), round(100 * c.accuracy.mean, 6)) for c in (*told.cells, told.full)
    }


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("fractions", [(0.1,), (0.1, 0.3)])
def test_charts_are_drawn_whatever_is_finished(seeds: int, fractions: tuple[float, ...]):
    some = [r for r in rows_of_plan() if r.seed < seeds and r.fraction in (*fractions, 1.0)]
    for rows in (some, [r for r in some if r.row != FULL]):
        told = answer_of(rows, None)
        with drawing():
            for chart in (charts.accuracy_chart, charts.cost_chart, charts.stages_chart):
                figure = chart(told)
                assert figure is not None
                assert "nan" not in svg_of(figure).lower()
    assert charts.accuracy_chart(answer_of([], None)) is None
    assert charts.cost_chart(answer_of([], None)) is None
    assert charts.stages_chart(answer_of([], None)) is None


def test_a_strip_says_every_number_and_marks_what_is_unknown():
    change_C = np.array([0.012, -0.3, np.nan, 0.0001])
    with drawing():
        assert texts(change_chart([change("glister", 0.1, change_C)], list("abcd"))) == [
            "+1.2", "-30.0", "-", "0.0",
        ]  # fmt: skip
        pool_C = np.array([0.5, 0.5, 0.0])
        found = stability("glister", 0.1, np.array([0.25, 0.75, 0.0]), pool_C)
        assert texts(coverage_chart([found], list("abc"))) == ["0.50x", "1.50x", "-"]
        assert change_chart([], []) is None
        assert change_chart([change("glister", 0.1, np.full(3, np.nan))], list("abc")) is None


def test_of_many_classes_the_lowest_and_the_highest_are_shown():
    names = [f"class {c}" for c in range(100)]
    changes = [
        change(row, fraction, np.linspace(-0.5, 0.1, 100))
        for row in ("glister", "adaptive-random", "random", "full")
        for fraction in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
    ]
    with drawing():
        figure = change_chart(changes, names)
    assert figure is not None
    half = MAX_CLASSES // 2
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == names[:half] + names[-half:]
    columns = [label.get_text() for axes in figure.axes for label in axes.get_xticklabels()]
    assert len(columns) <= MAX_COLUMNS
    assert (columns[0], columns[-1]) == ("1 %", "50 %")
    assert "100 classes" in classes_left_out(100)
    assert classes_left_out(MAX_CLASSES) == ""
