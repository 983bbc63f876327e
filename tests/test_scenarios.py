"""Scenarios of docs/reliability.md: each is proved where its row says, or the row says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCENARIOS = [f"F{number:02d}" for number in range(1, 39)]
NOT_TESTED = "not tested here: "


def told() -> dict[str, str]:
    """Return the last cell of each scenario's row, by its number."""
    lines = (ROOT / "docs" / "reliability.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| F\d\d ", line)]
    return {row[0]: row[-1] for row in rows}


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
    assert named == proved().get(scenario, set())
    assert named or NOT_TESTED in told()[scenario]
