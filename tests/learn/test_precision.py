"""Laws of deciding precision and layout: a margin, a matter of size, and one answer for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raysubset.cli.options import as_begun, resolve
from raysubset.cli.runs import run_one
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.sweep import Sweep
from raysubset.learn import precision
from raysubset.learn.precision import (
    MARGIN,
    Numbers,
    candidates,
    choice,
    decided,
    example_flop,
    rows_to_measure,
    seconds_of_a_step,
)
from raysubset.learn.problem import Problem
from raysubset.preparation import Prepared, for_strategy, with_numbers
from tests.small_runs import experiment, play, prepared, problem

CONVNET: dict[str, Any] = {"model__name": "convnet", "training__epochs": 4}
PLAIN = Numbers(precision="fp32", channels_last="off")
FAST = Numbers(precision="bf16", channels_last="on")
ENOUGH = 10**9  # visits


def quick(of: Numbers, times: float) -> precision.Measure:
    """Return a measurement by which one kind of numbers is so many times quicker."""

    def measure(_: Problem, rows: int, tried: Sequence[Numbers]) -> dict[Numbers, float]:
        assert rows >= 2
        return {numbers: 1 / times if numbers == of else 1.0 for numbers in tried}

    return measure


def forbidden(*_: object) -> dict[Numbers, float]:
    raise AssertionError("measured")


@pytest.fixture
def matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with bf16, and small models that matter."""
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    monkeypatch.setattr(precision, "STEP_FLOP", 0.0)
    monkeypatch.setattr(precision, "RUN_FLOP", 0.0)


SECONDS = st.floats(1e-3, 1e3)


@given(st.lists(SECONDS, min_size=1, max_size=4))
def test_what_is_chosen_is_what_stands_or_quicker_than_it_by_the_margin(taken: list[float]):
    tried = [PLAIN, FAST, replace(FAST, channels_last="off"), replace(PLAIN, channels_last="on")]
    seconds = dict(zip(tried, taken, strict=False))
    chosen = choice(seconds)
    assert chosen == PLAIN or seconds[PLAIN] >= MARGIN * seconds[chosen]
    if all(seconds[PLAIN] < MARGIN * s for s in seconds.values()):
        assert chosen == PLAIN
    # whatever was left lying is less than the margin quicker than what was taken, or came before
    later = tried[tried.index(chosen) + 1 : len(taken)]
    assert all(seconds[chosen] < MARGIN * seconds[other] for other in later)


@given(st.floats(0.0, 0.1), st.floats(0.0, 0.1))
def test_noise_of_a_tenth_changes_no_clear_answer(noise: float, other: float):
    for gain, wanted in ((1.0, PLAIN), (2.0, FAST)):
        assert choice({PLAIN: 1 + noise, FAST: (1 + other) / gain}) == wanted


def test_explicit_options_are_never_tried_otherwise():
    def tried(**options: Any) -> set[tuple[str, str]]:
        given = candidates(problem(**CONVNET, **options))
        return {(numbers.precision, numbers.channels_last) for numbers in given}

    assert len(tried()) == 4
    assert tried(training__precision="fp32") == {("fp32", "off"), ("fp32", "on")}
    assert tried(training__channels_last="on") == {("fp32", "on"), ("bf16", "on")}
    both = {"training__precision": "bf16", "training__channels_last": "off"}
    assert tried(**both) == {("bf16", "off")}
    assert candidates(problem(**CONVNET))[0] == PLAIN


@pytest.mark.usefixtures("matters")
def test_a_cpu_without_bf16_is_never_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    assert decided(problem(**CONVNET), ENOUGH, 1, forbidden) is None


def test_digits_are_never_measured_however_long_they_train():
    for name in ("convnet", "mlp"):
        assert decided(problem(model__name=name), ENOUGH, 1, forbidden) is None


def test_a_short_run_is_never_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "STEP_FLOP", 0.0)
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    assert rows_to_measure(problem(**CONVNET), 10_000, 1, 4) == 0
    assert rows_to_measure(problem(**CONVNET), ENOUGH, 1, 4) == 16


def test_arithmetic_is_counted_on_the_real_model():
    # three convolutions at 8 x 8, 4 x 4 and 2 x 2, and the head: two operations a weight and place
    weights = 9 * (1 * 32 * 64 + 32 * 64 * 16 + 64 * 128 * 4) + 128 * 10
    assert example_flop(problem(**CONVNET)) == 3 * 2 * weights


@pytest.mark.usefixtures("matters")
def test_a_measured_step_is_a_ranks_own_batch_and_costs_a_small_share_of_the_run():
    the_problem = problem(**CONVNET)
    assert rows_to_measure(the_problem, ENOUGH, 2, 4) == the_problem.training.batch_size // 2
    assert rows_to_measure(the_problem, 1_000, 1, 4) == 8  # at the least, else it tells nothing


@pytest.mark.usefixtures("matters")
@pytest.mark.parametrize(("times", "wanted"), [(2.0, FAST), (1.2, PLAIN)])
def test_the_answer_is_explicit_in_the_run_and_in_all_its_controls(times: float, wanted: Numbers):
    made = with_numbers(prepared(**CONVNET), quick(FAST, times))
    for each in (made, for_strategy(made, "random"), for_strategy(made, "full-compressed")):
        for recipe in (each.experiment.training, each.problem.training):
            assert (recipe.precision, recipe.channels_last) == tuple(vars(wanted).values())
        assert each.decision in each.notes and f"{times:.2f} times" in str(each.decision)
    assert with_numbers(made, forbidden) is made  # decided once


@pytest.mark.usefixtures("matters")
def test_the_answer_stands_in_the_folder_and_is_what_a_resumed_run_takes(tmp_path: Path):
    made = with_numbers(prepared(**CONVNET), quick(FAST, 2.0))
    play(made, tmp_path / "run")
    stored = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert stored["training"]["precision"] == "bf16"
    assert str(made.decision) in (tmp_path / "run" / "environment.json").read_text()
    again = as_begun(experiment(**CONVNET), made.experiment)
    assert not again.differences(made.experiment)
    explicit = experiment(**CONVNET, training__precision="fp32")
    assert as_begun(explicit, made.experiment).training.precision == "fp32"


@pytest.mark.usefixtures("matters")
def test_all_trials_of_a_frontier_share_the_answer(tmp_path: Path):
    base = experiment(**CONVNET)
    sweep = Sweep(folder=tmp_path, base=base, settings=FrontierSettings(fractions=(0.2,), seeds=3))
    made: Prepared = with_numbers(prepared(**CONVNET), quick(FAST, 2.0))
    trials = sweep.computing_as(made.experiment).planned
    assert len(trials) > 2
    assert {t.experiment.training.precision for t in trials} == {"bf16"}
    assert {t.experiment.training.channels_last for t in trials} == {"on"}


@pytest.mark.usefixtures("matters")
def test_a_real_measurement_decides_and_leaves_no_trace_in_the_run(tmp_path: Path):
    ready = prepared(**CONVNET)
    _, before = play(ready, tmp_path / "before")
    seconds = seconds_of_a_step(ready.problem, 8, candidates(ready.problem))
    assert set(seconds) == set(candidates(ready.problem))
    assert all(taken > 0 for taken in seconds.values())
    _, after = play(ready, tmp_path / "after")
    assert before.ids == after.ids and before.history == after.history


@pytest.mark.usefixtures("matters")
def test_the_command_measures_a_new_run_and_never_one_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder, path = tmp_path / "run", tmp_path / "auto.yaml"
    path.write_text(experiment(**CONVNET).to_yaml())
    asked = resolve(str(path), None, folder, resume=False, local=True)
    first, _ = run_one(asked, folder, False, local=True)
    assert "measured here, a step of 8 rows" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(precision, "candidates", forbidden)
    for file in (None, str(path)):
        again = resolve(file, None, folder, resume=True, local=True)
        assert again.training.precision in ("fp32", "bf16")
        assert run_one(again, folder, True, local=True)[0] == first
