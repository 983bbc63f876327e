"""Means with Student intervals, paired by seed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysubset.errors import ConfigError, DataError
from raysubset.evidence.intervals import (
    Interval,
    deviation,
    mean_interval,
    paired_interval,
    word_of,
)
from tests.evidence.simulated import chance_error, normal, share

SHARES = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=2, max_size=9)


@given(values=SHARES.filter(lambda v: len(set(v)) > 1), level=st.sampled_from([0.5, 0.9, 0.95]))
def test_the_interval_is_that_of_scipy(values: list[float], level: float):
    own = mean_interval(values, level)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert (own.low, own.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert own.mean == pytest.approx(np.mean(values), abs=1e-12)
    assert own.n == len(values)


@given(seed=st.integers(0, 1000), n=st.integers(2, 9))
def test_the_paired_interval_is_that_of_scipy(seed: int, n: int):
    a_S, b_S = normal(seed, (2, n), 0.9, 0.01)
    own = paired_interval(dict(enumerate(a_S)), dict(enumerate(b_S)))
    theirs = stats.ttest_rel(a_S, b_S).confidence_interval(0.95)
    assert (own.low, own.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_truth_lies_in_95_of_100_intervals(n: int):
    cases, truth = normal(0, (4000, n), 0.9, 0.004), 0.9
    held = share(lambda v: mean_interval(v).low <= truth <= mean_interval(v).high, cases)
    assert abs(held - 0.95) <= chance_error(0.95, len(cases))


@given(values=SHARES, data=st.data())
def test_the_order_of_seeds_changes_no_digit(values: list[float], data: st.DataObject):
    assert mean_interval(data.draw(st.permutations(values))) == mean_interval(values)
    by_seed = dict(enumerate(values))
    shuffled = {seed: by_seed[seed] for seed in data.draw(st.permutations(sorted(by_seed)))}
    zero = dict.fromkeys(by_seed, 0.0)
    assert paired_interval(shuffled, zero) == paired_interval(by_seed, zero)


def test_only_seeds_that_both_have_are_paired():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7, 7: 0.1}, {2: 0.6, 1: 0.9, 0: 0.7, 9: 0.9}
    assert paired_interval(a, b) == mean_interval([0.9 - 0.7, 0.8 - 0.9, 0.7 - 0.6])


def test_what_a_seed_does_to_both_cancels():
    luck = {seed: 0.1 * seed for seed in range(5)}
    ahead = {seed: shift + 0.01 for seed, shift in luck.items()}
    assert mean_interval(list(luck.values())).half > 0.1
    assert paired_interval(ahead, luck).half < 1e-12


def test_one_seed_has_a_mean_and_no_interval():
    one = mean_interval([0.9], resolution=0.01)
    assert (one.mean, one.n) == (0.9, 1)
    assert all(math.isnan(number) for number in (one.half, one.low, one.high))
    assert word_of(one) == "no difference seen"


@pytest.mark.parametrize("n", [2, 3, 8])
def test_equal_counts_are_no_certainty(n: int):
    step = 1 / 359
    assert mean_interval([0.9] * n).half < 1e-12
    half = mean_interval([0.9] * n, resolution=step).half
    assert half == pytest.approx(stats.t.isf(0.025, n - 1) * step / 2 / math.sqrt(n))


@given(values=SHARES, resolution=st.floats(0, 0.1))
def test_a_resolution_only_widens(values: list[float], resolution: float):
    assert deviation(np.array(values), resolution) >= max(resolution / 2, np.std(values, ddof=1))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.3, "wins"),
        (-0.3, -0.1, "loses"),
        (-0.1, 0.1, "no difference seen"),
        (0.0, 0.2, "no difference seen"),
        (-0.2, 0.0, "no difference seen"),
    ],
)
def test_the_word_follows_the_interval(low: float, high: float, word: str):
    mean, half = (low + high) / 2, (high - low) / 2
    assert word_of(Interval(mean=mean, half=half, low=low, high=high, n=3, level=0.95)) == word


def test_no_seeds_and_no_common_seeds_are_refused():
    with pytest.raises(ConfigError, match="at least one seed"):
        mean_interval([])
    with pytest.raises(ConfigError, match=r"one side has \[0, 1\], the other \[2\]"):
        paired_interval({0: 0.1, 1: 0.2}, {2: 0.1})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_refused_with_its_place(bad: float):
    with pytest.raises(DataError, match=f"holds {bad} at place 1; repeat that run"):
        mean_interval([0.9, bad, 0.8])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_outside_its_range_is_refused(level: float):
    with pytest.raises(ConfigError, match=r"must lie in \(0, 1\)"):
        mean_interval([0.9, 0.8], level)


@pytest.mark.parametrize("resolution", [-0.1, 359, math.nan])
def test_a_count_in_place_of_a_resolution_is_refused(resolution: float):
    with pytest.raises(ConfigError, match="1 / test_examples"):
        mean_interval([0.9, 0.8], resolution=resolution)
