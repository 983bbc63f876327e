"""Scenarios of docs/reliability.md: each is proved where its row says; what is not, is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCENARIOS = [f"F{number:02d}" for number in range(1, 39)]
NOT_SHOWN = "## What no test here shows"


def tables() -> tuple[list[list[str]], list[list[str]]]:
    """Return the cells of the rows of the scenarios, and of those of what is not shown."""
    parts = (ROOT / "docs" / "reliability.md").read_text().split(NOT_SHOWN)
    scenarios, rest = (
        [line.strip("| ").split(" | ") for line in part.splitlines() if re.match(r"\| F\d\d", line)]
        for part in parts
    )
    return scenarios, rest


def told() -> dict[str, str]:
    """Return the last cell of each scenario's row, by its number."""
    return {row[0]: row[-1] for row in tables()[0]}


def proved() -> dict[str, set[str]]:
    """Return the files with tests that carry each number."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number in re.findall(r"^\s*def test_f(\d\d)_", path.read_text(), re.MULTILINE):
            found.setdefault(f"F{number}", set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_scenario_has_a_row_and_no_other_has():
    assert [*told()] == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_proved_by_the_files_that_it_names(scenario: str):
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", told()[scenario]))
    assert named == proved().get(scenario, set()) != set()


def test_what_is_not_shown_is_of_a_scenario_and_says_what_why_and_what_stands_in_for_it():
    rows = tables()[1]
    assert rows
    for numbers, *cells in rows:
        assert set(numbers.split(", ")) <= set(SCENARIOS)
        assert len(cells) == 3 and all(cells)
