"""How a budget is cut into steps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import raysubset as rs
from raysubset.errors import ConfigError

BUDGETS = st.integers(0, 500)
SIZES = st.integers(1, 60)


@given(budget=BUDGETS, size=SIZES)
def test_every_value_of_picks_takes_the_whole_budget(budget, size):
    for picks in (rs.Exact(), rs.Block(size), rs.Blocks(size), rs.Stochastic(0.5)):
        assert sum(picks.sizes(budget)) == budget
        assert all(step >= 1 for step in picks.sizes(budget))


@given(budget=BUDGETS, size=SIZES)
def test_blocks_of_a_size_are_full_but_for_the_last(budget, size):
    sizes = rs.Block(size).sizes(budget)
    assert all(step == size for step in sizes[:-1])
    assert len(sizes) == math.ceil(budget / size)


@given(budget=BUDGETS, count=SIZES)
def test_a_number_of_blocks_differ_by_at_most_one(budget, count):
    sizes = rs.Blocks(count).sizes(budget)
    assert len(sizes) == min(count, budget)
    assert not sizes or max(sizes) - min(sizes) <= 1


@given(budget=BUDGETS)
def test_exact_and_stochastic_picks_are_single(budget):
    assert rs.Exact().sizes(budget) == rs.Stochastic(0.1).sizes(budget) == [1] * budget


@pytest.mark.parametrize(
    ("n", "k", "epsilon", "size"), [(5000, 500, 0.1, 24), (1000, 10, 0.01, 461), (10, 10, 0.9, 1)]
)
def test_stochastic_samples_have_the_size_of_the_definition(n, k, epsilon, size):
    # ceil(N / K * ln(1 / epsilon)): 10 * 2.3026, 100 * 4.6052, 1 * 0.1054
    assert rs.Stochastic(epsilon).sample_size(n, k) == size


@pytest.mark.parametrize("make", [rs.Block, rs.Blocks])
@pytest.mark.parametrize("value", [0, -1])
def test_empty_blocks_are_refused(make, value):
    with pytest.raises(ConfigError, match="at least 1"):
        make(value)


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, float("nan")])
def test_an_epsilon_that_is_no_probability_is_refused(epsilon):
    with pytest.raises(ConfigError, match=r"\(0, 1\)"):
        rs.Stochastic(epsilon)
