"""Class quotas: exact sums within bounds, nearest to the shares asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.core.quotas import class_quotas
from raysubset.errors import ConfigError
from tests import oracles

COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=6)
BALANCES = ("validation", "pool", "equal")


def shares_of(balance: str, pool_C: list[int], validation_C: list[int]) -> list[int]:
    return {"validation": validation_C, "pool": pool_C, "equal": [1] * len(pool_C)}[balance]


@st.composite
def cases(draw: st.DrawFn, max_classes: int = 6, max_count: int = 9):
    classes = draw(st.integers(1, max_classes))
    row = st.lists(st.integers(0, max_count), min_size=classes, max_size=classes)
    pool_C, validation_C = draw(row.filter(any)), draw(row.filter(any))
    return pool_C, validation_C, draw(st.integers(1, sum(pool_C)))


@pytest.mark.parametrize("balance", BALANCES)
@given(case=cases())
def test_quotas_sum_to_the_budget_within_what_classes_hold(balance, case):
    pool_C, validation_C, budget = case
    quota_C = class_quotas(balance, budget, pool_C, validation_C)
    assert sum(quota_C) == budget
    assert all(0 <= q <= held for q, held in zip(quota_C, pool_C, strict=True))


@pytest.mark.parametrize("balance", BALANCES)
@given(case=cases())
def test_every_class_that_the_pool_holds_gets_one_while_the_budget_allows(balance, case):
    pool_C, validation_C, budget = case
    quota_C = class_quotas(balance, budget, pool_C, validation_C)
    held = [c for c, count in enumerate(pool_C) if count]
    assert sum(quota_C[c] > 0 for c in held) == min(budget, len(held))


@pytest.mark.parametrize("balance", BALANCES)
@settings(max_examples=150)
@given(case=cases(max_classes=4, max_count=6))
def test_quotas_are_those_of_an_exhaustive_search(balance, case):
    pool_C, validation_C, budget = case
    budget = max(budget, sum(count > 0 for count in pool_C))
    share_C = shares_of(balance, pool_C, validation_C)
    expected = oracles.quotas_by_search(budget, share_C, pool_C)
    assert class_quotas(balance, budget, pool_C, validation_C) == expected


@given(case=cases())
def test_f14_a_budget_below_the_classes_goes_to_the_largest_shares(case):
    pool_C, validation_C, _ = case
    held = [c for c, count in enumerate(pool_C) if count]
    order = sorted(held, key=lambda c: (-validation_C[c], c))
    for budget in range(1, len(held)):
        quota_C = class_quotas("validation", budget, pool_C, validation_C)
        assert quota_C == [int(c in order[:budget]) for c in range(len(pool_C))]


def test_no_balance_means_no_quotas():
    assert class_quotas("none", 3, [5, 5], [1, 1]) is None
    assert class_quotas("none", 3, [5, 5], None) is None


def test_the_validation_set_sets_the_quotas():
    assert class_quotas("validation", 10, [100, 100], [9, 1]) == [9, 1]


def test_the_pool_can_set_the_quotas():
    assert class_quotas("pool", 10, [20, 80], [9, 1]) == [2, 8]


def test_quotas_can_be_equal():
    assert class_quotas("equal", 10, [20, 80], [9, 1]) == [5, 5]


def test_f13_what_a_class_cannot_give_goes_to_the_others_in_the_same_proportion():
    # 60 : 20 : 20 of 100; class 0 holds 10, so 90 are left to share 1 : 1.
    assert class_quotas("validation", 100, [10, 99, 99], [60, 20, 20]) == [10, 45, 45]
    # 4 : 2 : 1 of 70; class 0 holds 10, so 60 are left to share 2 : 1.
    assert class_quotas("validation", 70, [10, 99, 99], [4, 2, 1]) == [10, 40, 20]


def test_the_largest_remainder_wins_and_ties_go_to_the_lower_class():
    # 10 * (5, 3, 2) / 10 needs no rounding; 11 leaves remainders .5, .3, .2.
    assert class_quotas("validation", 11, [99] * 3, [5, 3, 2]) == [6, 3, 2]
    assert class_quotas("equal", 5, [99] * 3, None) == [2, 2, 1]


def test_a_class_that_validation_lacks_still_gets_one():
    assert class_quotas("validation", 10, [50, 50, 50], [5, 5, 0]) == [5, 4, 1]


def test_classes_that_validation_lacks_fill_what_the_others_cannot_give():
    assert class_quotas("validation", 40, [2, 2, 60, 20], [5, 5, 0, 0]) == [2, 2, 27, 9]


@pytest.mark.parametrize("balance", BALANCES)
def test_f13_a_class_that_the_pool_lacks_gets_nothing(balance):
    quota_C = class_quotas(balance, 10, [50, 0, 50], [4, 4, 2])
    assert quota_C[1] == 0
    assert sum(quota_C) == 10


def test_large_counts_are_shared_exactly():
    # Exact fractions: 2**60 / 3 has no float64.
    quota_C = class_quotas("equal", 2**60, [2**60] * 3, None)
    assert sum(quota_C) == 2**60
    assert max(quota_C) - min(quota_C) <= 1


def test_quotas_of_validation_without_validation_are_refused_with_the_choice():
    with pytest.raises(ConfigError, match="balance='pool', 'equal' or 'none'"):
        class_quotas("validation", 2, [5, 5], None)


def test_an_unknown_balance_is_refused_with_the_list():
    with pytest.raises(ConfigError, match="validation, pool, equal, none"):
        class_quotas("balanced", 2, [5, 5], [1, 1])


def test_a_budget_above_the_candidates_is_refused():
    with pytest.raises(ConfigError, match="above the 10 candidates"):
        class_quotas("equal", 11, [5, 5], None)
