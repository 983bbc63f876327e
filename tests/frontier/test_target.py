"""Time to full's accuracy less the drop: read off the climbs, by seed, if all get there."""

from __future__ import annotations

import json
import math
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.frontier.answer import answer_of
from raysubset.frontier.sweep import Sweep, run_sweep
from raysubset.frontier.table import TrialRow
from raysubset.frontier.target import climb_of, reach_of, seconds_to
from raysubset.frontier.text import table_of
from raysubset.ledger import Ledger
from raysubset.report.record import stage_seconds
from tests.frontier.rows import trial_row
from tests.frontier.sweeps import begin, here, sweep


def climber(name: str, seed: int, climb: list[tuple[float, float]], **changes: Any) -> TrialRow:
    fraction = 1.0 if name == "full" else 0.1
    return trial_row(
        name,
        fraction,
        seed,
        climb_s=tuple(s for s, _ in climb),
        climb_accuracy=tuple(a for _, a in climb),
        **{"judge": "tuning"} | changes,
    )


FULL = [(10.0, 0.80), (20.0, 0.88), (30.0, 0.90)]


def test_it_is_full_s_time_to_the_target_over_the_row_s():
    full = [climber("full", s, FULL) for s in (0, 1)]
    own = [climber("glister", s, [(2.0, 0.7), (5.0, 0.885)]) for s in (0, 1)]
    reach = reach_of(own, full, 0.02)
    assert reach is not None and (reach.reached, reach.pairs) == (2, 2)
    assert reach.speed_up == pytest.approx(20 / 5)
    assert reach_of(full, full, 0.02).speed_up == 1.0  # type: ignore[union-attr]


def test_a_seed_that_never_gets_there_takes_the_number_away():
    full = [climber("full", s, FULL) for s in (0, 1)]
    own = [climber("glister", 0, [(5.0, 0.885)]), climber("glister", 1, [(5.0, 0.87)])]
    reach = reach_of(own, full, 0.02)
    assert reach is not None and (reach.speed_up, reach.reached, reach.pairs) == (None, 1, 2)
    table = table_of(answer_of([*full, *own], 2.0), None)
    target = next(c for c in table.columns if c.full_name == "speed-up target")
    assert target.cells == ("1 of 2", "1.00x")


def test_another_judge_or_no_drop_or_no_full_gives_no_figure():
    full, own = [climber("full", 0, FULL)], [climber("glister", 0, FULL)]
    other = [climber("validation-only", 0, FULL, judge="none")]
    assert reach_of(own, full, None) is None
    assert reach_of(own, [], 0.02) is None
    assert reach_of(other, full, 0.02) is None
    assert answer_of([*full, *own], None).judge is None


def _climb(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return steps of (seconds more, accuracy) as (seconds so far, accuracy)."""
    return list(zip(accumulate(s for s, _ in steps), (a for _, a in steps), strict=True))


climbs = st.lists(st.tuples(st.floats(0.1, 9), st.floats(0, 1)), min_size=1, max_size=6).map(_climb)


@given(climbs, st.floats(0, 1))
def test_seconds_to_a_target_are_the_first_that_stand_there(
    climb: list[tuple[float, float]], target: float
):
    found = seconds_to(climber("glister", 0, climb), target)
    slow = [seconds for seconds, accuracy in climb if accuracy >= target]
    assert found == (min(slow) if slow else None)


def test_a_proxy_costs_time_and_reaches_nothing():
    rounds = [
        {"strategy": "proxy", "seconds_training": 4.0, "tuning_accuracy": 0.99},
        {"strategy": "glister", "seconds_training": 3.0, "tuning_accuracy": 0.5},
    ]
    climb = climb_of(rounds, trains_on_validation=False)
    assert climb.judge == "tuning"
    assert math.isnan(climb.accuracy[0]) and climb.accuracy[1] == 0.5
    assert climb.seconds == (4.0, 7.0)


def test_without_a_tuning_part_rows_that_train_on_validation_have_no_judge():
    rounds = [{"strategy": "full", "seconds_training": 4.0, "validation_accuracy": 0.99}]
    assert climb_of(rounds, trains_on_validation=True).judge == "none"
    assert climb_of(rounds, trains_on_validation=False).judge == "validation"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("target") / "frontier"
    ready = sweep(folder, settings={"fractions": "0.5", "max_drop": 20.0}, data__tuning=0.2)
    begin(ready, resume=False)
    run_sweep(ready, here(ready))
    return ready


def test_climbs_are_those_of_the_histories(done: Sweep):
    for trial, row in zip(done.trials, done.rows(), strict=True):
        history = Ledger(Path(done.folder / "trials" / trial.name), trial.experiment, {}).history()
        rounds = [line for line in history if line["kind"] == "round"]
        assert row.judge == "tuning"
        assert row.climb_accuracy == tuple(line["tuning_accuracy"] for line in rounds)
        spent = [sum(stage_seconds(line).values()) for line in rounds]
        np.testing.assert_allclose(row.climb_s, np.cumsum(spent))
        # The run also waits for its last round's commit; an accuracy was reached before it.
        result = json.loads((done.folder / "trials" / trial.name / "result.json").read_text())
        reached_s = row.seconds - result["seconds_last_commit"]
        np.testing.assert_allclose(row.climb_s[-1], reached_s)


def test_the_table_fits_120_columns_with_it(done: Sweep):
    from raysubset.report.table import text_table

    table = table_of(answer_of(done.rows(), 20.0), None)
    lines = text_table(table).splitlines()
    assert any("target" in line for line in lines)
    assert max(map(len, lines)) <= 120
