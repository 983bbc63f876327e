from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from raysubset.experiment import Experiment
from raysubset.report.table import Column, Table, heading, markdown_table, rows_of, text_table
from tests.report.outcomes import outcome

IDENTITY = {
    "name": "digits",
    "pool": 1295,
    "parts": {"pool": 1295, "validation": 143, "test": 359, "tuning": 0, "classes": 10},
}
HUGE = {
    "epochs": 300,
    "visits": 384_350_100,
    "distinct": 1_281_167,
    "seconds_scoring": 12_345.6,
    "seconds_training": 123_456.7,
    "seconds_greedy": 1_234.5,
}


def cells(table: Table, name: str) -> tuple[str, ...]:
    return next(c.cells for c in table.columns if c.full_name == name)


def lines_of(table: Table) -> list[str]:
    return text_table(table).split("\nspeed-up:")[0].splitlines()


def test_numbers_read_as_people_write_them():
    table = rows_of([outcome()])
    assert cells(table, "examples visits") == ("7,740",)
    assert cells(table, "accuracy test") == ("97.5 %",)
    assert cells(table, "fraction") == ("10 %",)
    assert cells(table, "speed-up") == ("7.58x",)
    assert cells(table, "share of ceiling") == ("101 %",)


@pytest.mark.parametrize("others", [{}, HUGE])
def test_a_terminal_of_120_columns_holds_every_line(others: dict[str, float]):
    strategies = ("glister", "adaptive-random", "random", "full-compressed", "full")
    text = text_table(rows_of([outcome(s, 1.0, **others) for s in strategies]))
    assert max(map(len, text.splitlines())) <= 120
    assert text.isascii()


def test_columns_are_aligned():
    lines = lines_of(rows_of([outcome(), outcome("adaptive-random", visits=12)]))
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    end = lines[1].index("visits") + len("visits")
    assert lines[2][:end].endswith(" 7,740")
    assert lines[3][:end].endswith("    12")


def test_a_column_of_seconds_has_the_decimals_that_its_largest_needs():
    table = rows_of([outcome(seconds_training=1.234), outcome(seconds_training=123.4)])
    assert cells(table, "seconds train") == ("1.2", "123.4")
    assert cells(rows_of([outcome()]), "seconds train") == ("1.60",)


@pytest.mark.parametrize("nothing", [math.nan, None])
def test_a_figure_that_is_not_there_is_a_dash(nothing: float | None):
    table = rows_of([outcome(speed_up=nothing, validation_accuracy=nothing)])
    assert cells(table, "speed-up") == cells(table, "share of ceiling") == ("-",)
    assert cells(table, "accuracy valid.") == ("-",)
    assert "nan" not in text_table(table)


def test_strategies_over_the_whole_pool_visit_all_of_it_in_an_epoch():
    table = rows_of([outcome("full"), outcome("full-compressed"), outcome("random")])
    assert cells(table, "fraction") == ("100 %", "100 %", "10 %")


def test_full_at_equal_compute_is_explained_where_it_stands():
    assert "full at equal compute" in text_table(rows_of([outcome("full-compressed")]))
    assert "full at equal compute" not in text_table(rows_of([outcome()]))


def test_markdown_holds_the_same_cells_as_the_terminal():
    table = rows_of([outcome(), outcome("adaptive-random")])
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in markdown_table(table).splitlines()[2:4]]
    assert [tuple(row) for row in rows] == table.rows


def test_f27_markdown_shows_a_hostile_cell_as_it_is_written():
    cell = "<script>|`x`[a](b)\nnew *row* \x1b"
    text = markdown_table(Table(columns=(Column(name="class", cells=(cell,), words=True),)))
    assert text.count("\n") == 2
    assert "<script>" not in text
    assert "\\|\\`x\\`\\[a\\]" in text


def test_a_table_without_rows_or_groups_can_be_printed():
    table = Table(columns=(Column(name="a", cells=()), Column(name="b", cells=())))
    assert text_table(table) == "a  b"


def test_the_heading_says_what_was_run_with_which_defaults():
    line = heading(Experiment.of({"training": {"epochs": 60}}), IDENTITY, width=0)
    for said in (
        "digits: pool 1,295, validation 143, test 359, 10 classes",
        "60 epochs of 129 ids (10 %), batch 32, lr 0.05, seed 0, W=2 ranks, select_every 10",
        "balance validation",
    ):
        assert said in line
    assert "tuning" not in line


def test_the_heading_names_filters_warm_start_and_candidates_where_they_are_used():
    selection = {"filters": ["duplicates"], "warm_start": 0.5, "candidates": 2.0}
    line = heading(Experiment.of({"selection": selection}), IDENTITY, width=0)
    assert line.endswith("filters duplicates, warm_start 0.5, candidates 2")


def test_the_heading_of_a_full_run_does_not_speak_of_a_fraction():
    experiment = Experiment.of({"selection": {"strategy": "full"}})
    assert "100 epochs of the whole pool" in heading(experiment, IDENTITY, width=0)


def test_the_heading_folds_at_the_width_and_keeps_control_characters_out():
    identity = IDENTITY | {"name": "evil\x1b[2Jname"}
    text = heading(Experiment.of({}), identity, width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "\x1b" not in text


def test_tables_and_verdicts_import_nothing_heavy():
    code = (
        "import sys, raysubset.report.table, raysubset.report.verdict\n"
        "print([m for m in ('torch', 'matplotlib', 'jinja2', 'ray') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
