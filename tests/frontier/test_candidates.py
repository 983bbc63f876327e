"""Candidates are what was asked for; what cannot be swept is refused by name, with the remedy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.errors import ConfigError
from raysubset.experiment import nest, options
from raysubset.frontier.candidates import axes_for, axes_of, changed, grid_of, own_values, rates
from raysubset.frontier.overrides import in_words, suffix_of
from raysubset.frontier.settings import FrontierSettings, settings_of
from raysubset.frontier.tuning import Tried, choose
from tests.small_runs import experiment


def axes(*sweep: str, **settings: Any):
    return axes_of(experiment(), settings_of({"sweep": sweep, **settings}))


@given(own=st.floats(1e-6, 1e3), count=st.integers(2, 50))
def test_rates_double_ascend_and_hold_the_own_one_in_the_middle(own: float, count: int):
    made = rates(own, count)
    assert len(made) == count == len(set(made))
    assert made.index(own) == count // 2
    assert all(b == 2 * a for a, b in pairwise(made))


def test_several_fields_make_a_grid_of_every_combination_once():
    made = grid_of(axes("training.lr=0.01,0.1", "model.name=mlp,convnet", tune_lr=None))
    assert len(made) == 4 == len({in_words(values) for values in made})
    assert {values["model.name"] for values in made} == {"mlp", "convnet"}


def test_values_are_what_the_experiment_reads():
    assert axes("training.clip_norm=none,1")[0].values == (None, 1.0)
    assert axes("training.nesterov=true,false")[0].values == (True, False)
    assert axes("selection.glister.picks=exact,block(33)")[0].values == ("exact", "block(33)")


def test_a_range_is_drawn_by_its_logarithm_where_it_is_wide_and_in_integers_where_the_field_is():
    own = {"search": "optuna", "samples": 4}
    assert axes("training.lr=0.001..0.3", **own)[0].by_log
    assert not axes("training.momentum=0.5..0.99", **own)[0].by_log
    whole = axes("training.batch_size=16..256", **own)[0]
    assert whole.whole and whole.by_log and whole.values == (16, 256)


REFUSED = {
    "selection.fraction=0.1,0.2": "give --fractions",
    "selection.strategy=random,glister": "give --strategies",
    "selection.goal=a,b": "give --goal",
    "selection.balance=pool,none": "give --selection.balance",
    "training.epochs=5,10": "give --epochs",
    "seed=1,2": "give --seeds",
    "data.limit=10,20": "give --data.limit",
    "resources.workers=1,2": "give --resources.workers",
    "tracking.name=a,b": "give --tracking.name",
    "training.lrr=0.1,0.2": "did you mean training.lr?",
    "lr=0.1,0.2": "did you mean training.lr?",
    "training.lr=-1,0.1": "greater than 0",
    "training.lr=0.1,0.10": "two different values",
    "training.lr=0.1": "two different values",
    "training.lr": "needs values",
    "training.lr=0.001..0.3": "--search optuna",
    "selection.glister.picks=exact,blokc(3)": "must be one of",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_swept_is_refused_with_the_remedy(text: str):
    with pytest.raises(ConfigError, match=r"--sweep") as told:
        axes(text)
    assert REFUSED[text] in str(told.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tune_lr": 1}, "--tune-lr 1: "),
        ({"tune_lr": 51}, "--tune-lr 51: "),
        ({"early_stop": "asha"}, "add --tune-lr or --sweep"),
        ({"search": "optuna", "samples": 3}, "needs --sweep"),
        ({"search": "optuna", "sweep": "training.lr=0.1..0.2"}, "--samples 10"),
        ({"samples": 3, "tune_lr": 3}, "go together"),
        ({"search": "optuna", "samples": 3, "tune_lr": 3, "sweep": "a=1,2"}, "is a grid"),
        ({"find": True, "tune_lr": 3}, "cannot be joined"),
    ],
)
def test_options_that_contradict_each_other_are_refused(values: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as told:
        settings_of(values)
    assert said in str(told.value)


def test_a_field_named_twice_is_refused():
    with pytest.raises(ConfigError, match="twice"):
        axes("training.lr=0.1,0.2", tune_lr=3)


def test_every_field_of_the_experiment_can_be_changed_to_its_own_value_and_is_then_the_same():
    own = experiment()
    assert changed(own, own_values(own, options())) == own


def test_options_of_glister_are_candidates_of_glister_alone():
    swept = axes("selection.glister.step=mean,sum", "training.lr=0.1,0.2")
    assert axes_for("glister", swept) == swept
    assert [axis.field for axis in axes_for("random", swept)] == ["training.lr"]


VALUES = st.fixed_dictionaries(
    {
        "training.lr": st.floats(0, 1e9),
        "model.name": st.text(max_size=80),
        "selection.batch_size": st.integers(1, 10**9),
    }
)


@given(a=VALUES, b=VALUES)
def test_other_values_have_other_folders_and_every_suffix_is_a_name_for_a_folder(
    a: dict[str, Any], b: dict[str, Any]
):
    assert "/" not in suffix_of(a) and len(suffix_of(a)) <= 60
    assert (suffix_of(a) == suffix_of(b)) == (a == b)


def test_two_fields_of_one_last_name_are_told_apart():
    first, second = "training.batch_size", "selection.batch_size"
    assert suffix_of({first: 1, second: 2}) != suffix_of({first: 2, second: 1})


def test_a_trial_without_overrides_keeps_its_name():
    assert suffix_of({}) == "" and suffix_of({"training.lr": 0.1}) == "-lr0.1"


def tried(lr: float, accuracy: float | None, out: str = "") -> Tried:
    return Tried(values={"training.lr": lr}, tuning_accuracy=accuracy, out=out)


def test_the_best_on_tuning_is_chosen_of_equals_the_nearest_then_the_earlier():
    own = {"training.lr": 0.1}
    assert choose([tried(0.1, 0.8), tried(0.4, 0.9)], own)["training.lr"] == 0.4
    assert choose([tried(0.4, 0.9), tried(0.2, 0.9)], own)["training.lr"] == 0.2
    assert choose([tried(0.2, 0.9), tried(0.05, 0.9)], own)["training.lr"] == 0.2
    assert choose([tried(0.05, 0.9), tried(0.2, 0.9)], own)["training.lr"] == 0.05


def test_who_failed_or_was_stopped_is_not_chosen_and_nobody_left_means_nothing_is():
    own = {"training.lr": 0.1}
    late = tried(0.2, 0.99, out="stopped early")
    assert choose([late, tried(0.1, 0.5)], own)["training.lr"] == 0.1
    assert choose([late, tried(9.0, None, out="failed")], own) == {}


def test_settings_of_an_older_frontier_tune_nothing():
    assert FrontierSettings().sweep == () and not axes_of(experiment(), FrontierSettings())
    assert nest({"a.b": 1}) == {"a": {"b": 1}}
