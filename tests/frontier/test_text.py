from __future__ import annotations

import pytest

from raysubset.frontier.answer import answer_of
from raysubset.frontier.page_tables import decisions_table, duels_table, plan_table
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.table import TrialRow
from raysubset.frontier.text import in_points, points, table_of
from raysubset.report.table import Table, text_table
from tests.frontier.rows import SETTINGS, rows_of_plan, trial_row


def cells(table: Table, name: str) -> tuple[str, ...]:
    return next(c.cells for c in table.columns if c.full_name == name)


def test_every_cell_is_a_row_with_its_own_figures_and_full_is_last():
    answer = answer_of(rows_of_plan(), 1.0)
    table = table_of(answer, None)
    assert answer.full is not None
    everything = [*answer.cells, answer.full]
    assert cells(table, "strategy") == tuple(c.row for c in everything)
    for place, cell in enumerate(everything):
        assert cells(table, "accuracy mean")[place] == f"{100 * cell.accuracy.mean:.1f} %"
        assert cells(table, "accuracy +-")[place] == f"{100 * cell.accuracy.half:.1f}"
        assert cells(table, "examples visits")[place] == f"{cell.visits:,.0f}"
        assert cells(table, "seconds train")[place] == f"{cell.seconds['training']:.1f}"
        chosen = cell.total_s - cell.seconds["training"]
        assert cells(table, "seconds select")[place] == f"{chosen:.1f}"
        assert cells(table, "valid. labels")[place] == str(cell.num_validation)
    assert cells(table, "to full mean")[-1] == "-"
    assert not any(c.name == "cost" for c in table.columns)


def test_the_cost_is_that_of_a_run_with_its_selection():
    answer = answer_of(rows_of_plan(), 1.0)
    found = cells(table_of(answer, 720.0), "cost")
    assert found[0] == f"{answer.cells[0].total_s / 5:.2f}"


def big(row: TrialRow) -> TrialRow:
    """Return a row of the longest run that anyone will tabulate."""
    seconds = {f"seconds_{s}": 400_000.0 for s in ("scoring", "greedy", "training", "other")}
    return trial_row(
        row.row, row.fraction, row.seed, visits=384_350_000, distinct=1_281_167, num_test=50_000,
        num_validation=50_000, **seconds,
    )  # fmt: skip


@pytest.mark.parametrize("price", [None, 2.5, 100.0])
@pytest.mark.parametrize("change", [lambda row: row, big])
def test_the_table_fits_a_terminal(change, price):
    rows = [change(row) for row in rows_of_plan(SETTINGS)]
    rows += [change(trial_row("adaptive-random-equal-time", 0.1, seed)) for seed in range(3)]
    rows += [change(trial_row("full-validation-compressed", 0.005, seed)) for seed in range(3)]
    lines = text_table(table_of(answer_of(rows, 1.0), price)).splitlines()
    assert max(map(len, lines)) <= 120


def test_one_seed_prints_no_spread_and_decides_nothing():
    rows = [row for row in rows_of_plan() if row.seed == 0]
    answer = answer_of(rows, 1.0)
    table = table_of(answer, None)
    assert set(cells(table, "accuracy +-")) == {"-"}
    assert decisions_table(answer) is None
    duels = duels_table(answer)
    assert duels is not None
    said = " ".join(cell for row in duels.rows for cell in row)
    assert "nan" not in said and "wins" not in said and "loses" not in said
    assert any("decide nothing" in note for note in duels.notes)


def test_every_test_of_a_decision_is_told_and_what_was_not_tested():
    answer = answer_of(rows_of_plan(), 1.0)
    table = decisions_table(answer)
    assert table is not None
    told = list(zip(cells(table, "strategy"), cells(table, "fraction"), strict=True))
    for row, within in answer.within.items():
        assert within is not None
        for fraction, test in within.tests:
            place = told.index((row, f"{100 * fraction:g} %"))
            assert cells(table, "to full at least")[place] == points(test.bound)
            assert cells(table, "within the drop")[place] == ("yes" if test.passed else "no")
        below = ", ".join(f"{100 * fraction:g} %" for fraction in within.untested)
        assert not below or (row, below) in told


def test_every_duel_stands_under_its_fraction():
    answer = answer_of(rows_of_plan(), 1.0)
    table = duels_table(answer)
    assert table is not None
    pairs = list(zip(cells(table, "strategy"), cells(table, "against"), strict=True))
    for duel in answer.duels:
        column = cells(table, f"points ahead at {100 * duel.fraction:g} %")
        said = column[pairs.index((duel.strategy, duel.control))]
        assert said.startswith(f"{points(duel.difference.mean)} +- ")
        assert said.endswith(str(duel.word)) == (duel.word in ("wins", "loses"))


def test_points_have_a_sign_but_for_nought():
    assert points(-0.0004) == points(0.0) == points(0.0004) == "0.0"
    assert (points(0.012), points(-0.012), points(0.012, signed=False)) == ("+1.2", "-1.2", "1.2")
    assert points(float("nan")) == points(None) == "-"
    assert [in_points(d) for d in (0.01, 0.005, 0.007, 0.0)] == [
        "1 point", "0.5 points", "0.7 points", "0 points",
    ]  # fmt: skip


def test_the_plan_says_what_is_missing():
    rows = [row for row in rows_of_plan() if row.seed < 2]
    table = plan_table(SETTINGS, rows, 4)
    told = dict(table.rows)
    assert told["seeds asked for"] == "3" and told["seeds finished"] == "0, 1"
    assert told["trials failed"] == "4"
    nothing = dict(plan_table(FrontierSettings(max_drop=None), [], 0).rows)
    assert nothing["drop that is allowed"] == "none: means only"
    assert nothing["seeds finished"] == "none"
