"""A frontier with goal smaller: other controls, no equal time, and what labels buy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import ConfigError, RunFolderError
from raysubset.evidence.learning_curve import PowerLaw, fit_curve
from raysubset.frontier.answer import answer_of
from raysubset.frontier.finding import trials_for
from raysubset.frontier.learning import curve_sentence, learning_curve
from raysubset.frontier.plan import (
    EQUAL_TIME,
    RANDOM,
    RANDOM_PLAIN,
    VALIDATION_CONTROLS,
    check_goal,
    controls_of,
    num_equal_time,
)
from raysubset.frontier.report import report_sweep
from raysubset.frontier.sweep import Sweep, run_sweep
from raysubset.frontier.table import TrialRow
from tests.frontier.rows import trial_row
from tests.frontier.sweeps import begin, here, sweep
from tests.frontier.test_answer import frontier

SMALLER = {"selection__goal": "smaller", "selection__proxy_epochs": 2}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("smaller") / "frontier"
    ready = sweep(folder, settings={"strategies": "glister,random"}, **SMALLER)
    begin(ready, resume=False)
    run_sweep(ready, here(ready))
    return ready


def test_nothing_visits_what_was_deleted(done: Sweep):
    for trial in done.trials:
        kept = trial.experiment.selection
        assert kept.goal == "smaller"
        assert kept.strategy in ("glister", "random", "full", *VALIDATION_CONTROLS["smaller"])
    rows = done.rows()
    known = {"glister", "random", "full", *controls_of(done.base, done.settings)}
    assert {row.row for row in rows} == known
    for row in rows:
        if row.row in ("glister", "random", RANDOM_PLAIN):
            assert row.distinct == row.budget


def test_equal_time_has_no_meaning_there(done: Sweep):
    assert num_equal_time(done.base, done.settings) == 0
    assert all(row.row != EQUAL_TIME for row in done.rows())
    assert not (done.folder / "equal_time.json").exists()


def test_random_is_the_control_whoever_asks_about_it(done: Sweep):
    duels = answer_of(done.rows(), 1.0, goal="smaller").duels
    asked = {d.control for d in duels if d.strategy == "glister"}
    assert asked == {"random", RANDOM_PLAIN, "random-validation", "validation-only"}
    faster = answer_of(done.rows(), 1.0, goal="faster").duels
    assert "random" not in {d.control for d in faster if d.strategy == "glister"}


def test_a_search_runs_random_beside_the_strategy(tmp_path: Path):
    ready = sweep(tmp_path / "f", settings={"find": True}, **SMALLER)
    assert {t.row for t in trials_for(ready, (0.2, 3))} == {"glister", "random", "full"}


def test_goals_do_not_mix_in_a_folder(done: Sweep):
    other = sweep(done.folder, settings={"strategies": "glister,random"})
    with pytest.raises(RunFolderError, match=r"selection\.goal: smaller -> faster"):
        begin(other, resume=True)


def test_strategies_that_visit_the_pool_are_refused(tmp_path: Path):
    ready = sweep(tmp_path / "f", settings={"strategies": "adaptive-random"}, **SMALLER)
    with pytest.raises(ConfigError, match="visits the whole pool"):
        check_goal(ready.base, ready.settings)


def test_the_report_holds_the_curve_of_its_rows(done: Sweep):
    lines = report_sweep(done, None)
    told = json.loads((done.folder / "frontier.json").read_text())["learning_curve"]
    curve = learning_curve(done.rows())
    assert curve is not None and told["sizes"] == list(curve.sizes)
    assert told["law"]["exponent"] == curve.law.exponent
    assert curve_sentence(curve) in lines
    page = (done.folder / "report.html").read_text()
    assert "What labels buy" in page and "worth keeping" in page


def curve_rows(law: PowerLaw, fractions: list[float], spread: float = 0.0) -> list[TrialRow]:
    """Return rows of random subsets of 10,000 rows whose errors follow a law."""
    draw, rows = np.random.default_rng(5), list[TrialRow]()
    for fraction in [*fractions, 1.0]:
        for seed in range(4):
            size = round(10_000 * fraction)
            changes: dict[str, Any] = {"budget": size, "num_pool": 10_000, "num_test": 100_000}
            error = law.error(size) + spread * draw.normal()
            name = RANDOM if fraction < 1 else "full"
            rows.append(trial_row(name, fraction, seed, test_accuracy=1 - error, **changes))
    return rows


def test_the_curve_is_that_of_random_subsets_and_full():
    law = PowerLaw(floor=0.02, scale=1.5, exponent=0.4)
    rows = curve_rows(law, [0.05, 0.1, 0.3, 0.5], spread=1e-4)
    noise = [trial_row("glister", f, s, test_accuracy=0.5) for f in (0.05, 0.1) for s in range(4)]
    curve = learning_curve([*rows, *noise])
    assert curve is not None
    assert curve.sizes == (500, 1000, 3000, 5000, 10_000)
    by_size = {n: [1 - r.test_accuracy for r in rows if r.budget == n] for n in curve.sizes}
    assert curve.law == fit_curve(curve.sizes, by_size)
    wanted = law.size_for(law.error(10_000) - 0.01) / 10_000
    assert curve.labels.factor == pytest.approx(wanted, rel=0.1)
    assert curve.check is not None and curve.check.held
    assert "Tested on its largest size left out" in curve_sentence(curve)


def test_a_curve_that_misses_its_largest_size_says_so():
    law = PowerLaw(floor=0.02, scale=1.5, exponent=0.4)
    rows = [
        r
        if r.row != "full"
        else trial_row(
            "full",
            1.0,
            r.seed,
            **{
                "budget": 10_000,
                "num_pool": 10_000,
                "num_test": 100_000,
                "test_accuracy": r.test_accuracy + 0.03,
            },
        )
        for r in curve_rows(law, [0.05, 0.1, 0.3, 0.5], spread=1e-4)
    ]
    assert "do not build on it" in curve_sentence(learning_curve(rows))


def test_too_few_sizes_give_no_curve():
    law = PowerLaw(floor=0.02, scale=1.5, exponent=0.4)
    assert learning_curve(curve_rows(law, [0.1])) is None
    assert learning_curve(frontier({("glister", 0.1): 0.9})) is None
    assert "No learning curve" in curve_sentence(None)
