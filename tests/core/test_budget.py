"""From a fraction to a budget: one rounding rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.core.budget import budget_of, check_budget, check_fraction, floor_of
from raysubset.errors import BudgetError, ConfigError
from tests import oracles


def test_f14_the_floor_is_taken_of_the_decimal_that_was_typed():
    assert int(0.29 * 100) == 28  # what binary arithmetic would do
    assert budget_of(0.29, 100) == 29


@given(thousandths=st.integers(1, 1000), num_examples=st.integers(1, 10**9))
def test_f14_budgets_equal_exact_decimal_floors(thousandths, num_examples):
    text = f"{thousandths / 1000:.3f}"
    expected = max(1, oracles.floor_in_decimals(text, num_examples))
    assert budget_of(float(text), num_examples) == expected


@given(tenths=st.integers(0, 100), count=st.integers(0, 10**6))
def test_multiples_of_a_budget_floor_by_the_same_rule(tenths, count):
    text = f"{tenths / 10:.1f}"
    assert floor_of(float(text), count) == oracles.floor_in_decimals(text, count)


@pytest.mark.parametrize(("fraction", "num_examples"), [(0.001, 10), (1e-9, 3), (0.5, 1)])
def test_f14_a_budget_is_at_least_one(fraction, num_examples):
    assert budget_of(fraction, num_examples) == 1


@given(num_examples=st.integers(1, 10**12))
def test_the_whole_fraction_is_the_whole_pool(num_examples):
    assert budget_of(1.0, num_examples) == num_examples
    assert budget_of(1, num_examples) == num_examples


@pytest.mark.parametrize(
    ("fraction", "meant"), [(30, "0.3"), (2, "0.02"), (100, "1"), (1.5, "0.015")]
)
def test_f14_a_percentage_is_refused_with_the_fraction_that_was_meant(fraction, meant):
    with pytest.raises(BudgetError, match=rf"did you mean {meant}\?"):
        check_fraction(fraction)


@pytest.mark.parametrize("fraction", [0, 0.0, -0.1, -30, 101, math.inf, -math.inf, math.nan])
def test_f14_a_fraction_outside_its_range_is_refused_with_the_range(fraction):
    with pytest.raises(BudgetError, match=r"must lie in \(0, 1\]"):
        check_fraction(fraction)


@pytest.mark.parametrize("fraction", ["0.1", None, True, [0.1]])
def test_a_fraction_that_is_no_number_is_refused(fraction):
    with pytest.raises(BudgetError, match="must be a number"):
        check_fraction(fraction)


@pytest.mark.parametrize("budget", [0, -1, -500, 0.0])
def test_f14_a_budget_below_one_is_refused(budget):
    with pytest.raises(BudgetError, match="at least 1"):
        check_budget(budget, 10)


@pytest.mark.parametrize("budget", [math.nan, math.inf, 2.5, "5", None, True])
def test_f14_a_budget_that_is_no_whole_number_is_refused(budget):
    with pytest.raises(BudgetError, match="whole number"):
        check_budget(budget, 10)


def test_f14_a_budget_above_the_pool_is_refused_with_what_the_pool_holds():
    with pytest.raises(BudgetError, match=r"budget=1,001 .* pool of 1,000; ask for at most 1,000"):
        check_budget(1001, 1000)


@pytest.mark.parametrize("budget", [7, 7.0, np.int64(7), np.float64(7)])
def test_whole_numbers_of_any_type_become_int(budget):
    assert type(check_budget(budget, 10)) is int
    assert check_budget(budget, 10) == 7


def test_bad_budgets_are_bad_input():
    assert issubclass(BudgetError, ConfigError)
    assert BudgetError.exit_code == 2
