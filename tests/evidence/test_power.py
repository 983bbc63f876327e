"""What seeds can detect: formulas against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.errors import ConfigError
from raysubset.evidence.decision import MIN_SEEDS, non_inferior
from raysubset.evidence.power import more_seeds, plan_sentence, power, seeds_needed
from tests.evidence.simulated import POINT, chance_error, normal, share

SPREADS = st.floats(0.0005, 0.05)
LOSSES = st.floats(-0.01, 0.02)


@pytest.mark.parametrize(("n", "published"), [(3, 0.50), (5, 0.83), (8, 0.98)])
def test_the_power_is_the_rate_of_true_claims(n: int, published: float):
    cases = normal(n, (3000, n), -0.005, 0.0035)
    rate = share(lambda d: non_inferior(d, POINT).passed, cases)
    exact = power(n, 0.0035, POINT, 0.005)
    assert abs(rate - exact) <= chance_error(exact, len(cases))
    assert exact == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize(("loss", "level"), [(POINT, 0.05), (POINT, 0.05 / 3), (0.02, 0.05)])
def test_a_loss_at_the_margin_or_beyond_is_claimed_no_more_often_than_allowed(
    loss: float, level: float
):
    for n in (3, 10, 200):
        assert power(n, 0.0035, POINT, loss, level) <= level + 1e-9


@given(n=st.integers(3, 50), spread=SPREADS, loss=LOSSES)
def test_a_larger_drop_or_a_smaller_loss_is_easier_to_certify(n: int, spread: float, loss: float):
    base = power(n, spread, POINT, loss)
    assert power(n, spread, 1.5 * POINT, loss) >= base - 1e-9
    assert power(n, spread, POINT, loss - 0.005) >= base - 1e-9
    assert power(n, spread, POINT, loss, level=0.01) <= base + 1e-9


@given(spread=SPREADS, loss=st.floats(-0.01, 0.009), wanted=st.sampled_from([0.5, 0.8, 0.95]))
def test_the_seeds_needed_are_the_fewest(spread: float, loss: float, wanted: float):
    needed = seeds_needed(spread, POINT, loss, power=wanted)
    if needed is None:
        assert power(1000, spread, POINT, loss) < wanted
        return
    assert power(needed, spread, POINT, loss) >= wanted
    assert needed == MIN_SEEDS or power(needed - 1, spread, POINT, loss) < wanted


def test_no_number_of_seeds_certifies_a_loss_outside_the_drop():
    assert seeds_needed(0.0035, POINT, POINT) is None
    assert seeds_needed(0.0035, POINT, 0.02) is None
    assert seeds_needed(0.05, POINT, 0.009) is None  # inside, but beyond 1,000 seeds
    assert seeds_needed(0.05, POINT, 0.009, most=20_000) is not None


@pytest.mark.parametrize("spread", [1e-9, 1e-6, 1e-3, 1.0, 100.0])
def test_the_power_is_a_share_however_small_the_spread(spread: float):
    for loss in (-1.0, 0.0, POINT, 0.5, 1.0):
        assert 0 <= power(3, spread, POINT, loss) <= power(1000, spread, POINT, -1.0) <= 1


def test_more_seeds_come_from_what_was_observed():
    difference_S = np.array([-0.005, -0.0085, -0.0015])  # mean -0.5, spread 0.35 points
    total = seeds_needed(0.0035, POINT, 0.005)
    assert total is not None
    assert more_seeds(difference_S, POINT) == total - 3
    assert more_seeds(difference_S[[2, 0, 1]], POINT) == total - 3
    assert more_seeds(difference_S / 100, POINT) == 0
    assert more_seeds(difference_S - 0.01, POINT) is None


def test_equal_differences_still_have_the_spread_of_a_step():
    assert more_seeds([-0.005] * 2, POINT, resolution=0.01) == more_seeds(
        [-0.005 + 0.005 / math.sqrt(2), -0.005 - 0.005 / math.sqrt(2)], POINT
    )


def test_the_plan_says_what_it_can_detect():
    assert plan_sentence(5, 0.0035, POINT, 0.005) == (
        "5 seeds, spread 0.35: a true loss of 0.5 points is certified within 1.0 in 83 % of cases"
    )
    assert "only means printed" in plan_sentence(2, 0.0035, POINT, 0.005)
    assert power(2, 0.0035, POINT, 0.005) == 0.0


@pytest.mark.parametrize("spread", [0.0, -1.0, math.nan, math.inf])
def test_a_spread_of_nothing_is_refused(spread: float):
    with pytest.raises(ConfigError, match="must be above 0"):
        power(5, spread, POINT, 0.005)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ConfigError, match="true_loss=5 "):
        power(5, 0.0035, POINT, 5.0)
    with pytest.raises(ConfigError, match="power=80 "):
        seeds_needed(0.0035, POINT, 0.005, power=80)
    with pytest.raises(ConfigError, match="1 seed shows no spread"):
        more_seeds([0.1], POINT)
