from __future__ import annotations

from typing import Any

import pytest

from raysubset.experiment import (
    Experiment,
    nest,
)
from raysubset.named import filters_of, parse_call, picks_of, regularizer_of, strategy_of
from raysubset.strategies.full import Full
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Block, Blocks, Exact, Stochastic
from raysubset.strategies.regularizers import Diversity, FacilityLocation, RandomFill
from raysubset.strategies.uniform import AdaptiveRandom, Random


def of(**flat: Any) -> Experiment:
    return Experiment.of(nest({k.replace("__", "."): v for k, v in flat.items()}))


KNOWN = {"exact": 0, "block": 1, "pair": 2}


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("exact", "exact", []),
        (" exact ", "exact", []),
        ("exact()", "exact", []),
        ("block(33)", "block", [33.0]),
        ("block( 1e-3 )", "block", [0.001]),
        ("block(-2)", "block", [-2.0]),
        ("pair(1,2)", "pair", [1.0, 2.0]),
        ("pair(1, 2.5)", "pair", [1.0, 2.5]),
    ],
)
def test_a_call_is_a_name_and_its_numbers(text: str, name: str, values: list[float]):
    assert parse_call(text, KNOWN) == (name, values)


NO_CALLS = """
other Exact exact(1) block block() block(1,2) block(x) block(1 block(1)) block((1)) block(nan)
block(inf) block(1e999) pair(1) pair(,) exact;block(1) __import__('os')
"""


@pytest.mark.parametrize("text", ["", "block 3", "block(1)\nexact", *NO_CALLS.split()])
def test_what_is_no_call_is_refused_with_the_forms(text: str):
    with pytest.raises(ValueError, match=r"exact, block\(VALUE\)"):
        parse_call(text, KNOWN)


def test_names_become_the_values_behind_them():
    assert picks_of("exact") == Exact()
    assert picks_of("block(33)") == Block(33)
    assert picks_of("blocks(15)") == Blocks(15)
    assert picks_of("stochastic(0.1)") == Stochastic(0.1)
    assert regularizer_of("none") is None
    assert regularizer_of("facility_location(0.5)") == FacilityLocation(0.5)
    assert regularizer_of("diversity(0.5)") == Diversity(0.5)
    assert regularizer_of("random(0.25)") == RandomFill(0.25)
    assert [f.name for f in filters_of(("duplicates",))] == ["duplicates"]


def test_every_name_of_a_strategy_gives_its_strategy_behind_the_same_quotas():
    selection = of(selection__balance="equal", selection__glister__picks="block(5)").selection
    assert strategy_of("full", selection) == Full()
    assert strategy_of("random", selection) == Random(balance="equal")
    assert strategy_of("adaptive-random", selection) == AdaptiveRandom(balance="equal")
    glister = strategy_of("glister", selection)
    assert glister == Glister(balance="equal", picks=Block(5))


def test_all_of_glisters_options_reach_it():
    """Set apart from their defaults, one by one; the pool draws `candidates` before it scores."""
    changed = {
        "gradient": "bias",
        "step": "sum",
        "step_size": 0.5,
        "picks": "block(3)",
        "normalize": True,
        "regularizer": "diversity(0.5)",
    }
    selection = of(**{f"selection__glister__{k}": v for k, v in changed.items()}).selection
    glister = strategy_of("glister", selection)
    assert isinstance(glister, Glister)
    for name in changed:
        assert getattr(glister, name) != getattr(Glister(), name), name
    assert set(changed) == set(type(selection.glister).model_fields)
