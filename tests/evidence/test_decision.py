"""Non-inferiority and the fixed sequence over fractions, against scipy and simulated truth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysubset.errors import ConfigError, DataError
from raysubset.evidence.decision import (
    MIN_SEEDS,
    can_decide,
    non_inferior,
    smallest_within,
)
from tests.evidence.simulated import POINT, chance_error, normal, share

SEEDS = st.integers(0, 10_000)
FRACTIONS = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9)


@given(seed=SEEDS, n=st.integers(3, 9), drop=st.sampled_from([0.0, 0.005, 0.01, 0.03]))
def test_the_test_is_that_of_scipy(seed: int, n: int, drop: float):
    difference_S = normal(seed, (n,), -0.005, 0.005)
    own = non_inferior(difference_S, drop)
    theirs = stats.ttest_1samp(difference_S, -drop, alternative="greater")
    assert own.p_value == pytest.approx(theirs[1], abs=1e-12)
    assert own.bound == pytest.approx(theirs.confidence_interval(0.95).low, abs=1e-12)
    assert own.passed == (own.p_value <= 0.05) == (own.bound >= -drop)


@given(seed=SEEDS)
def test_the_test_on_differences_is_the_paired_one(seed: int):
    a_S, b_S = normal(seed, (2, 5), 0.9, 0.01)
    _, p_value = stats.ttest_rel(a_S + POINT, b_S, alternative="greater")
    assert non_inferior(a_S - b_S, POINT).p_value == pytest.approx(p_value, abs=1e-9)


@pytest.mark.parametrize("n", [3, 5])
def test_a_true_loss_of_exactly_the_margin_is_claimed_in_5_of_100_cases(n: int):
    cases = normal(1, (6000, n), -POINT, 0.0035)
    rate = share(lambda d: non_inferior(d, POINT).passed, cases)
    assert abs(rate - 0.05) <= chance_error(0.05, len(cases))


def test_counted_accuracies_keep_the_level():
    # Binomial counts of 359 test examples: neither normal nor continuous.
    rng = np.random.default_rng(2)
    cases = (rng.binomial(359, 0.90, (6000, 3)) - rng.binomial(359, 0.91, (6000, 3))) / 359
    rate = share(lambda d: non_inferior(d, POINT, resolution=1 / 359).passed, cases)
    assert rate <= 0.05 + chance_error(0.05, len(cases))


@pytest.mark.parametrize("n", [3, 4, 5, 6, 8, 12])
def test_half_a_step_covers_two_neighbouring_counts(n: int):
    # All runs show k or k - 1 (in steps); the margin is the true mean: every pass is false.
    # The number of runs that show k - 1 is binomial, so the false-claim rate is a finite sum.
    lower_D = np.linspace(0.01, 0.99, 99)
    rate_D = np.zeros(99)
    for count in range(n + 1):
        shown_S = -np.repeat([0.01, 0.0], [count, n - count])
        bound = non_inferior(shown_S, 0.5, resolution=0.01).bound
        rate_D += np.where(bound > -0.01 * lower_D, stats.binom.pmf(count, n, lower_D), 0.0)
    assert rate_D.max() <= (0.05 if n <= 5 else 0.065)


def test_a_fixed_sequence_of_margins_is_claimed_in_5_of_100_cases():
    # Every fraction loses exactly the margin; differences share the luck of full.
    full_RS1 = normal(3, (6000, 5, 1), 0.0, 0.002)
    cases = normal(4, (6000, 5, len(FRACTIONS)), -POINT, 0.003) - full_RS1

    def claims(difference_SF: np.ndarray) -> bool:
        by_fraction = dict(zip(FRACTIONS, difference_SF.T, strict=True))
        return smallest_within(by_fraction, POINT).fraction is not None

    rate = share(claims, cases)
    assert abs(rate - 0.05) <= chance_error(0.05, len(cases))


def test_the_claimed_fraction_loses_too_much_in_at_most_5_of_100_cases():
    # Not even monotone: 30 % loses too much, 10 % would be fine.
    loss_F = np.array([0.04, 0.0, POINT, 0.002, 0.001, 0.0])
    cases = normal(5, (2500, 5, len(FRACTIONS)), 0.0, 0.003) - loss_F

    def claims_falsely(difference_SF: np.ndarray) -> bool:
        answer = smallest_within(dict(zip(FRACTIONS, difference_SF.T, strict=True)), POINT)
        return any(test.passed and loss_F[FRACTIONS.index(f)] >= POINT for f, test in answer.tests)

    assert share(claims_falsely, cases) <= 0.05 + chance_error(0.05, len(cases))


@given(seed=SEEDS, drops=st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)))
def test_a_larger_drop_never_takes_a_fraction_away(seed: int, drops: tuple[float, float]):
    by_fraction = dict(zip(FRACTIONS, normal(seed, (6, 4), -0.05, 0.03), strict=True))
    strict, lenient = (smallest_within(by_fraction, drop) for drop in sorted(drops))
    assert (lenient.fraction or 2.0) <= (strict.fraction or 2.0)


@given(seed=SEEDS, data=st.data())
def test_neither_the_order_of_seeds_nor_of_fractions_matters(seed: int, data: st.DataObject):
    by_fraction = dict(zip(FRACTIONS, normal(seed, (6, 4), -0.03, 0.02).tolist(), strict=True))
    order = data.draw(st.permutations(FRACTIONS))
    other = {f: data.draw(st.permutations(by_fraction[f])) for f in order}
    assert smallest_within(other, 0.05) == smallest_within(by_fraction, 0.05)


@given(seed=SEEDS)
def test_the_sequence_goes_down_and_stops_at_the_first_failure(seed: int):
    by_fraction = dict(zip(FRACTIONS, normal(seed, (6, 4), -0.03, 0.02), strict=True))
    answer = smallest_within(by_fraction, 0.05)
    tested = [fraction for fraction, _ in answer.tests]
    assert [*tested, *answer.untested] == sorted(FRACTIONS, reverse=True)
    passed = [test.passed for _, test in answer.tests]
    assert all(passed[:-1])
    assert passed[-1] <= (not answer.untested)
    assert answer.fraction == next((f for f, t in reversed(answer.tests) if t.passed), None)


def test_a_smaller_fraction_that_would_pass_is_not_reached_after_a_failure():
    good, bad = [0.0, 0.001, -0.001], [-0.05, -0.051, -0.049]
    answer = smallest_within({0.5: good, 0.3: bad, 0.1: good}, POINT)
    assert (answer.fraction, answer.untested) == (0.5, (0.1,))
    assert answer.reason == (
        "50 % is within 1.0 points of full (0.0, at worst -0.17 with 95 % confidence, 3 seeds); "
        "30 % is not shown to be within 1.0 points of full (-5.0, at worst -5.17 with 95 % "
        "confidence, 3 seeds), so 10 % went untested"
    )


def test_the_reason_says_when_nothing_or_everything_passes():
    good, bad = [0.0, 0.001, -0.001], [-0.05, -0.051, -0.049]
    nothing = smallest_within({0.5: bad}, POINT).reason
    assert nothing.startswith("no fraction is enough on this evidence: 50 % is not shown to be")
    everything = smallest_within({0.5: good, 0.07: good}, POINT).reason
    assert everything.startswith("7 % is within 1.0 points")
    assert everything.endswith("no smaller fraction was tried")


def test_fewer_than_three_pairs_decide_nothing():
    with pytest.raises(ConfigError, match=r"2 seeds are paired with full; .* at least 3: run more"):
        non_inferior([0.0, 0.0], POINT)
    with pytest.raises(ConfigError, match=r"1 seeds .* at fraction 0\.1; .* print means only"):
        smallest_within({0.5: [0.0, 0.1, 0.2], 0.1: [0.0]}, POINT)
    with pytest.raises(ConfigError, match="no fraction"):
        smallest_within({}, POINT)
    assert can_decide([[0.0] * MIN_SEEDS])
    assert not can_decide([[0.0] * MIN_SEEDS, [0.0] * (MIN_SEEDS - 1)])


def test_fractions_may_have_unequal_numbers_of_seeds():
    answer = smallest_within({0.5: [0.0, 0.001, -0.001], 0.1: [0.0, 0.001, -0.001, 0.0]}, POINT)
    assert [test.n for _, test in answer.tests] == [3, 4]


def test_equal_differences_decide_nothing_without_a_resolution():
    with pytest.raises(ConfigError, match=r"all 3 differences are -0\.5 points, .* resolution=1/"):
        non_inferior([-0.005, 0.9 - 0.905, -0.005], POINT)
    assert non_inferior([-0.005] * 3, POINT, resolution=1 / 10_000).passed
    # Half a point above the margin is nothing on 100 test examples.
    assert not non_inferior([-0.005] * 3, POINT, resolution=1 / 100).passed


def test_a_run_without_a_number_is_refused():
    with pytest.raises(DataError, match=r"at fraction 0\.1 holds nan at place 2"):
        smallest_within({0.1: [0.0, 0.1, math.nan]}, POINT)


def test_points_in_place_of_shares_are_refused():
    with pytest.raises(ConfigError, match=r"for 1\.5 points did you mean 0\.015\?"):
        non_inferior([0.0, 0.1, 0.2], 1.5)
    for drop in (-0.01, 100.0, math.nan):
        with pytest.raises(ConfigError, match=r"must lie in \[0, 1\)"):
            non_inferior([0.0, 0.1, 0.2], drop)


@pytest.mark.parametrize("level", [0.95, 0.0, 0.5, math.nan])
def test_a_confidence_in_place_of_a_false_claim_rate_is_refused(level: float):
    with pytest.raises(ConfigError, match=r"share of false claims and must lie in \(0, 0\.5\)"):
        non_inferior([0.0, 0.1, 0.2], POINT, level)
