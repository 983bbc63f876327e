"""The plan of a frontier: complete, paired, and refused where it makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raysubset.experiment import Experiment, nest
from raysubset.frontier.plan import (
    EQUAL_TIME,
    PLAIN,
    controls_of,
    equal_time_epochs,
    equal_time_trials,
    trials_of,
)
from raysubset.frontier.settings import FrontierSettings


def base(**options: Any) -> Experiment:
    return Experiment.of(nest({k.replace("__", "."): v for k, v in options.items()}))


def settings(**options: Any) -> FrontierSettings:
    return FrontierSettings.model_validate({"fractions": "0.1,0.3", "seeds": 3} | options)


def test_every_strategy_and_control_runs_at_every_fraction_and_seed_and_full_once_a_seed():
    asked = settings(strategies="glister,random")
    trials = trials_of(base(seed=4), asked)
    rows = ["glister", "random", *controls_of(base(), asked)]
    wanted = {(row, f, s) for row in rows for f in (0.1, 0.3) for s in (4, 5, 6)}
    wanted |= {("full", 1.0, s) for s in (4, 5, 6)}
    assert {(t.row, t.fraction, t.seed) for t in trials} == wanted
    assert len({t.name for t in trials}) == len(trials)


def test_trials_of_one_seed_share_everything_but_what_is_compared():
    for trial in trials_of(base(), settings()):
        told = trial.experiment.differences(base(seed=trial.seed))
        allowed = ("selection.strategy", "selection.fraction", "selection.balance")
        assert all(line.startswith(allowed) for line in told), told


@pytest.mark.parametrize(
    ("options", "strategies", "wanted"),
    [
        ({}, "glister", {"adaptive-random", PLAIN, "full-compressed", "validation-only"}),
        ({"selection__balance": "none"}, "glister", {"adaptive-random", "validation-only"}),
        ({"selection__balance": "none"}, "random", {"adaptive-random", "full-compressed"}),
        ({"selection__balance": "pool"}, "random", {"adaptive-random", PLAIN}),
    ],
)
def test_the_controls_follow_from_what_the_strategies_read(
    options: dict[str, Any], strategies: str, wanted: set[str]
):
    rows = set(controls_of(base(**options), settings(strategies=strategies)))
    assert wanted <= rows
    reads = "glister" in strategies or options.get("selection__balance") is None
    assert ("validation-only" in rows) == ("full-validation-compressed" in rows) == reads
    assert (PLAIN in rows) == (options.get("selection__balance") != "none")


def test_the_plain_control_stands_behind_neither_quotas_nor_filters():
    trials = trials_of(base(selection__filters=("duplicates",)), settings())
    plain = [t.experiment.selection for t in trials if t.row == PLAIN]
    assert plain and all((s.balance, s.filters) == ("none", ()) for s in plain)
    others = [t.experiment.selection for t in trials if t.row not in (PLAIN, "full")]
    assert all(s.filters == ("duplicates",) for s in others)


def test_without_controls_only_the_reference_stands_beside_the_strategies():
    rows = {t.row for t in trials_of(base(), settings(controls=False, strategies="glister"))}
    assert rows == {"glister", "full"}


@given(
    epochs=st.integers(1, 500),
    fraction=st.floats(0.01, 1),
    share=st.floats(0, 100, allow_nan=False),
)
def test_equal_time_is_never_less_than_the_strategy_and_never_more_than_full(
    epochs: int, fraction: float, share: float
):
    more = equal_time_epochs(epochs, fraction, share)
    assert epochs <= more <= max(epochs, epochs / fraction)
    assert more == epochs or more <= round(epochs * (1 + share))


def test_all_seeds_get_the_same_epochs_at_equal_time():
    trials = equal_time_trials(base(training__epochs=10), settings(), {0.1: 0.5, 0.3: 2.0})
    assert {t.row for t in trials} == {EQUAL_TIME}
    epochs = {(t.fraction, t.experiment.training.epochs) for t in trials}
    assert epochs == {(0.1, 15), (0.3, 30)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fractions": "0.1,30"}, "did you mean 0.3"),
        ({"fractions": "0.1,0"}, "greater than 0"),
        ({"fractions": "0.1,1.5"}, "did you mean 0.015"),
        ({"fractions": "0.1,0.1"}, "repeats 0.1"),
        ({"fractions": "0.1,0.10"}, "repeats 0.1"),
        ({"fractions": "0.1,x"}, "valid number"),
        ({"fractions": ","}, "empty"),
        ({"strategies": "glister,glister"}, "repeats glister"),
        ({"strategies": "glistre"}, "glister"),
        ({"strategies": "glister,full"}, "always runs"),
        ({"seeds": 2}, "at least 3"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"max_drop": -1}, "greater than or equal to 0"),
        ({"max_drop": "nan"}, "finite"),
        ({"price_per_hour": -1}, "greater than or equal to 0"),
    ],
)
def test_nonsense_is_refused_with_the_remedy(options: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        settings(**options)


def test_two_seeds_are_enough_where_no_decision_is_asked_for():
    assert settings(seeds=2, max_drop=None).seeds == 2
