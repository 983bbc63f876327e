"""The learning curve: a power law recovered, checked and read as a price in labels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from raysubset.errors import ConfigError, DataError
from raysubset.evidence.intervals import mean_interval
from raysubset.evidence.labels import LabelsFactor, labels_factor, labels_interval, sentence
from raysubset.evidence.learning_curve import (
    LEAST,
    MOST,
    LeftOut,
    PowerLaw,
    check_curve,
    fit_curve,
    fit_many,
)
from tests.evidence.simulated import normal

SIZES = [500, 1000, 3000, 5000, 10_000]
SIZE_S = np.array(SIZES, dtype=float)
LAW = PowerLaw(floor=0.05, scale=2.0, exponent=0.45)
LAWS = st.builds(
    PowerLaw,
    floor=st.sampled_from([0.0, 0.02, 0.1]),
    scale=st.floats(0.5, 3.0),
    exponent=st.floats(0.1, 1.0),
)


def measured(law: PowerLaw, seed: int, n: int = 5, spread: float = 0.004) -> dict[int, list[float]]:
    noise_SN = normal(seed, (len(SIZES), n), 0.0, spread)
    errors = (np.clip(law.error(s) + e, 0, 1) for s, e in zip(SIZES, noise_SN, strict=True))
    return {size: list(error) for size, error in zip(SIZES, errors, strict=True)}


@given(law=LAWS)
def test_a_power_law_without_noise_is_recovered(law: PowerLaw):
    exact = {size: [min(1.0, law.error(size))] * 3 for size in SIZES}
    if law.error(SIZES[0]) > 1:
        return
    fitted = fit_curve(SIZES, exact)
    for size in (*SIZES, 20_000, 100_000):
        assert fitted.error(size) == pytest.approx(law.error(size), abs=1e-5)
    assert fitted.exponent == pytest.approx(law.exponent, rel=0.01)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), law=LAWS)
def test_the_search_finds_the_minimum_of_bounded_least_squares(seed: int, law: PowerLaw):
    mean_S = np.array([law.error(size) for size in SIZES]) + normal(seed, (5,), 0.0, 0.02)
    weight_S = np.random.default_rng(seed).uniform(0.5, 2.0, 5)
    ratio_S = SIZE_S / SIZE_S[-1]

    def miss_S(law_3: np.ndarray) -> np.ndarray:
        return (law_3[0] + law_3[1] * ratio_S ** -law_3[2] - mean_S) * np.sqrt(weight_S)

    starts = [(0.01, 0.05, exponent) for exponent in (0.05, 0.3, 1.0, 2.5)]
    bounds = ([0, 0, LEAST], [np.inf, np.inf, MOST])
    slow = min(2 * least_squares(miss_S, start, bounds=bounds).cost for start in starts)
    floor, scale, exponent = fit_many(SIZE_S, mean_S[None], weight_S)[0]
    fast = np.sum(miss_S(np.array([floor, scale * SIZE_S[-1] ** -exponent, exponent])) ** 2)
    assert fast <= slow * (1 + 1e-6) + 1e-12
    assert floor >= 0
    assert scale >= 0


def test_many_curves_at_once_are_the_curves_one_by_one():
    mean_DS = np.array([LAW.error(size) for size in SIZES]) + normal(0, (6, 5), 0.0, 0.01)
    together = fit_many(SIZE_S, mean_DS, np.ones(5))
    alone = [fit_many(SIZE_S, mean_DS[[row]], np.ones(5))[0] for row in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_an_uncertain_size_pulls_less():
    sure = measured(LAW, 0, spread=0.0005)
    base = abs(fit_curve(SIZES, sure).error(3000) - LAW.error(3000))
    moved = {**sure, 3000: [error + 0.03 for error in sure[3000]]}
    doubtful = {**sure, 3000: [sure[3000][0] + 0.03 + e for e in (-0.1, 0.1, -0.05, 0.05, 0.0)]}
    off_sure = abs(fit_curve(SIZES, moved).error(3000) - LAW.error(3000))
    off_doubtful = abs(fit_curve(SIZES, doubtful).error(3000) - LAW.error(3000))
    assert base < off_doubtful < off_sure


def test_the_order_of_seeds_and_sizes_does_not_matter():
    data = measured(LAW, 1)
    other = {size: data[size][::-1] for size in reversed(SIZES)}
    assert fit_curve(SIZES[::-1], other) == fit_curve(SIZES, data)
    assert check_curve(other) == check_curve(data)
    assert labels_interval(SIZES, other, 5000) == labels_interval(SIZES, data, 5000)


def test_the_curve_without_the_largest_size_predicts_it():
    checks = [check_curve(measured(LAW, seed)) for seed in range(60)]
    held = np.mean([check.held is True for check in checks])
    assert held >= 0.9
    assert {check.size for check in checks} == {10_000}


def test_the_check_has_not_seen_what_it_predicts():
    data = measured(LAW, 2, spread=0.001)
    broken = {**data, 10_000: [error + 0.1 for error in data[10_000]]}
    assert check_curve(broken).predicted == check_curve(data).predicted
    assert check_curve(data).held
    assert check_curve(broken).held is False
    assert check_curve(broken).measured == mean_interval(broken[10_000])


def test_below_three_seeds_there_is_a_curve_and_no_interval():
    data = {size: errors[:2] for size, errors in measured(LAW, 3).items()}
    factor = labels_interval(SIZES, data, 10_000)
    assert math.isfinite(factor.factor)
    assert math.isnan(factor.low)
    assert math.isnan(factor.high)
    assert sentence(factor).endswith("(no interval: fewer than 3 seeds)")
    assert check_curve(data).held is None
    one = {size: errors[:1] for size, errors in data.items()}
    assert check_curve(one).held is None
    assert fit_curve(SIZES, one).error(3000) == pytest.approx(LAW.error(3000), abs=0.02)


def test_unequal_numbers_of_seeds_are_taken_as_they_are():
    data = measured(LAW, 4)
    data[500] = data[500][:3]
    assert fit_curve(SIZES, data).error(3000) == pytest.approx(LAW.error(3000), abs=0.01)
    assert math.isfinite(labels_interval(SIZES, data, 5000).low)


@given(law=LAWS, size=st.sampled_from(SIZES), gain=st.floats(0.001, 0.05))
def test_so_many_labels_have_so_much_less_error(law: PowerLaw, size: int, gain: float):
    factor = labels_factor(law, size, gain)
    if math.isinf(factor):
        # Nothing left above the floor, or more labels than a float can count.
        assert law.error(size) - gain <= law.floor + 1e-12
        return
    assert factor > 1
    assert law.error(factor * size) == pytest.approx(law.error(size) - gain, abs=1e-9)


@given(law=LAWS, gains=st.tuples(st.floats(0.001, 0.05), st.floats(0.001, 0.05)))
def test_a_larger_gain_takes_more_labels(law: PowerLaw, gains: tuple[float, float]):
    small, large = (labels_factor(law, 5000, gain) for gain in sorted(gains))
    assert small <= large


def test_the_interval_holds_the_truth_nearly_as_often_as_it_says():
    truth = labels_factor(LAW, 10_000)
    drawn = [
        labels_interval(SIZES, measured(LAW, seed, spread=0.003), 10_000, draws=200, seed=seed)
        for seed in range(150)
    ]
    held = np.mean([factor.low <= truth <= factor.high for factor in drawn])
    assert held >= 0.95 - 0.03 - 0.05  # what the docstring admits, and three standard errors


def test_the_interval_is_a_function_of_its_seed_and_contains_the_fit():
    data = measured(LAW, 5)
    first = labels_interval(SIZES, data, 5000, seed=1)
    assert labels_interval(SIZES, data, 5000, seed=1) == first
    assert labels_interval(SIZES, data, 5000, seed=2) != first
    assert first.low <= first.factor <= first.high


def test_a_flat_curve_says_that_the_gain_is_out_of_reach():
    flat = measured(PowerLaw(floor=0.1, scale=0.0, exponent=1.0), 6, spread=0.0001)
    factor = labels_interval(SIZES, flat, 10_000)
    assert math.isinf(factor.factor)
    assert sentence(factor).startswith(
        "+1 point is not reachable by more labels: the curve flattens at 90."
    )
    assert PowerLaw(floor=0.1, scale=0.0, exponent=1.0).size_for(0.2) == math.inf


def said(factor: float, low: float, high: float, gain: float = 0.01) -> LabelsFactor:
    return LabelsFactor(
        factor=factor, low=low, high=high, at_size=1000, gain=gain, floor=0.1, level=0.95
    )


def test_the_sentence_names_the_price_and_its_interval():
    assert sentence(said(2.1, 1.6, 3.0)) == "about 2.1x the labels for +1 point (1.6x to 3.0x)"
    assert sentence(said(4.0, 2.5, math.inf, 0.02)) == (
        "about 4.0x the labels for +2 points (2.5x or more: the curve may flatten before)"
    )
    assert sentence(said(math.inf, 3.0, math.inf)).endswith("(seeds leave 3.0x open)")
    assert sentence(said(1e6, 50.0, 1e9, 0.005)) == (
        "more than 100x the labels for +0.5 points (50.0x to more than 100x)"
    )


def test_the_sentence_warns_of_a_curve_that_missed_the_largest_size():
    check = LeftOut(
        size=1000,
        predicted=0.12,
        predicted_half=0.001,
        measured=mean_interval([0.14, 0.141, 0.139]),
        held=False,
    )
    assert sentence(said(2.1, 1.6, 3.0), check).endswith(
        "; but the curve misses the largest size: 12.0 % error predicted, 14.0 +-0.25 % measured"
    )


def test_too_few_sizes_are_refused():
    data = measured(LAW, 7)
    with pytest.raises(ConfigError, match="at least 3 distinct"):
        fit_curve([500, 500, 1000], data)
    with pytest.raises(ConfigError, match="at least 4 fractions"):
        check_curve({size: data[size] for size in SIZES[:3]})
    with pytest.raises(ConfigError, match=r"sizes \[7\] have no errors"):
        fit_curve([7, *SIZES], data)
    with pytest.raises(ConfigError, match="each at least 1"):
        fit_curve([0, 1, 2], {n: [0.1] for n in range(3)})


def test_errors_that_are_no_shares_are_refused():
    with pytest.raises(DataError, match="leave"):
        fit_curve(SIZES, {**measured(LAW, 8), 500: [12.0]})
    with pytest.raises(DataError, match="errors at 500 holds nan"):
        fit_curve(SIZES, {**measured(LAW, 8), 500: [math.nan]})
    with pytest.raises(ConfigError, match="gain=1 must be a share"):
        labels_factor(LAW, 500, 1.0)
    with pytest.raises(ConfigError, match="at_size=0"):
        labels_factor(LAW, 0)
