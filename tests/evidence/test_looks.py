"""Adding seeds at planned looks keeps the level, alone, in a walk and in a bisection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.errors import ConfigError
from raysubset.evidence.decision import non_inferior
from raysubset.evidence.looks import Looks, Standing, bisection_tests, look
from tests.evidence.simulated import POINT, chance_error, normal, share

LOOKS = Looks()
SPREAD = 0.0035


def final(difference_S: np.ndarray, looks: Looks) -> tuple[Standing, int]:
    """Return the last standing of a fraction whose seeds come as they are asked for."""
    n = looks.planned[0]
    while (standing := look(difference_S[:n], POINT, looks)) == "more":
        following = looks.next_look(n)
        assert following is not None
        n = following
    return standing, n


def walk(difference_FS: np.ndarray, looks: Looks) -> int:
    """Return the smallest fraction within, its index, from the last one down; F for none."""
    best = len(difference_FS)
    while best and final(difference_FS[best - 1], looks)[0] == "within":
        best -= 1
    return best


def bisection(difference_FS: np.ndarray, looks: Looks) -> tuple[int, int]:
    """Return the smallest fraction within, its index, F for none, and how many were tested."""
    low, high, tested = 0, len(difference_FS), 0
    while low < high:
        middle, tested = (low + high) // 2, tested + 1
        if final(difference_FS[middle], looks)[0] == "within":
            high = middle
        else:
            low = middle + 1
    return high, tested


@pytest.mark.parametrize("spread", [SPREAD, 0.02])
def test_three_looks_at_the_margin_claim_in_at_most_5_of_100_cases(spread: float):
    cases = normal(0, (2500, 8), -POINT, spread)
    rate = share(lambda d: final(d, LOOKS)[0] == "within", cases)
    assert rate <= 0.05 + chance_error(0.05, len(cases))


def test_even_all_looks_without_any_stopping_claim_in_at_most_5_of_100_cases():
    cases = normal(1, (2500, 8), -POINT, SPREAD)

    def ever(d: np.ndarray) -> bool:
        return any(non_inferior(d[:n], POINT, LOOKS.level_at(n)).passed for n in LOOKS.planned)

    assert share(ever, cases) <= 0.05 + chance_error(0.05, len(cases))


def test_looking_at_the_full_level_each_time_would_not_keep_it():
    # The reason for the correction: each look at 5 % claims in about 9 of 100 cases.
    cases = normal(1, (2500, 8), -POINT, SPREAD)
    rate = share(lambda d: any(non_inferior(d[:n], POINT).passed for n in LOOKS.planned), cases)
    assert rate > 0.05 + chance_error(0.05, len(cases))


def shared_full(seed: int, num_fractions: int, loss_F: np.ndarray | float) -> np.ndarray:
    """Return differences (R, F, S) of fractions that are compared with the same full runs."""
    own = normal(seed, (1000, num_fractions, 8), 0.0, 0.003)
    return own - normal(seed + 1, (1000, 1, 8), 0.0, 0.001) - np.reshape(loss_F, (-1, 1))


def test_a_walk_over_many_fractions_at_the_margin_keeps_the_level():
    cases = shared_full(2, 6, POINT)
    rate = share(lambda d: walk(d, LOOKS) < 6, cases)
    assert rate <= 0.05 + chance_error(0.05, len(cases))


@pytest.mark.parametrize("num_within", [0, 3])
def test_a_bisection_that_counts_its_tests_keeps_the_level(num_within: int):
    # Fractions ascend: the first lose exactly the margin, the last nothing.
    loss_F = np.where(np.arange(7) < 7 - num_within, POINT, 0.0)
    cases = shared_full(4, 7, loss_F)
    looks = Looks(num_fractions=bisection_tests(7))
    rate = share(lambda d: bisection(d, looks)[0] < 7 - num_within, cases)
    assert rate <= 0.05 + chance_error(0.05, len(cases))


def test_a_bisection_that_does_not_count_them_would_not_keep_it():
    cases = shared_full(4, 15, POINT)
    rate = share(lambda d: bisection(d, LOOKS)[0] < 15, cases)
    assert rate > 0.05 + chance_error(0.05, len(cases))


@given(num_fractions=st.integers(1, 70), data=st.data())
def test_a_bisection_tests_no_more_fractions_than_counted(num_fractions: int, data: st.DataObject):
    smallest = data.draw(st.integers(0, num_fractions))
    within = np.arange(num_fractions) >= smallest
    difference_FS = np.where(within[:, None], 0.0, -0.1) + np.array([0, 1e-5, -1e-5])
    found, tested = bisection(difference_FS, Looks(planned=(3,)))
    assert found == smallest
    assert tested <= bisection_tests(num_fractions)


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), loss=st.floats(-0.02, 0.04), n=st.sampled_from([3, 5, 8]))
def test_a_standing_says_what_its_test_says(seed: int, loss: float, n: int):
    difference_S = normal(seed, (n,), -loss, SPREAD)
    standing = look(difference_S, POINT, LOOKS)
    level = LOOKS.level_at(n)
    assert (standing == "within") == non_inferior(difference_S, POINT, level).passed
    mirrored = -difference_S - 2 * POINT  # as far on the other side of the margin
    assert (standing == "not within") == non_inferior(mirrored, POINT, level).passed
    assert standing != "more" or n < 8
    assert look(difference_S[::-1], POINT, LOOKS) == standing


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), drops=st.tuples(st.floats(0, 0.05), st.floats(0, 0.05)))
def test_a_larger_drop_never_undoes_a_claim(seed: int, drops: tuple[float, float]):
    difference_S = normal(seed, (5,), -0.02, 0.01)
    strict, lenient = sorted(drops)
    if look(difference_S, strict, LOOKS) == "within":
        assert look(difference_S, lenient, LOOKS) == "within"


def test_futility_saves_seeds_and_hardly_a_claim():
    hopeless = [final(d, LOOKS) for d in normal(6, (300, 8), -0.02, SPREAD)]
    assert {standing for standing, _ in hopeless} <= {"not within", "undecided"}
    assert np.mean([n for _, n in hopeless]) < 3.1
    cases = normal(7, (1000, 8), -0.005, SPREAD)
    found = share(lambda d: final(d, LOOKS)[0] == "within", cases)
    patient = share(
        lambda d: any(non_inferior(d[:n], POINT, LOOKS.level_at(n)).passed for n in (3, 5, 8)),
        cases,
    )
    assert patient - 0.02 <= found <= patient


def test_the_levels_of_all_looks_and_fractions_add_up():
    for looks in (LOOKS, Looks(planned=(4,)), Looks(planned=(3, 9), level=0.1, num_fractions=3)):
        total = sum(looks.level_at(n) for n in looks.planned) * looks.num_fractions
        assert total == pytest.approx(looks.level)


def test_the_next_look_is_the_next_planned_number():
    assert [LOOKS.next_look(n) for n in (0, 3, 4, 5, 7, 8, 9)] == [3, 5, 5, 8, 8, None, None]


def test_a_look_that_was_not_planned_is_refused():
    with pytest.raises(ConfigError, match=r"4 seeds are no planned look \(3, 5, 8\)"):
        look([0.0, 0.1, 0.2, 0.3], POINT, LOOKS)


@pytest.mark.parametrize("planned", [(), (2, 5), (3, 3), (5, 3), (3, 4, 5, 6)])
def test_a_plan_that_cannot_keep_its_level_is_refused(planned: tuple[int, ...]):
    with pytest.raises(ConfigError, match="1 to 3 ascending numbers of seeds"):
        Looks(planned=planned)


def test_levels_and_numbers_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match="level"):
        Looks(level=0.95)
    with pytest.raises(ConfigError, match="num_fractions"):
        Looks(num_fractions=0)


def test_equal_differences_are_looked_at_through_the_resolution():
    assert look([-0.005] * 3, POINT, LOOKS, resolution=1 / 10_000) == "within"
    assert look([-0.005] * 3, POINT, LOOKS, resolution=1 / 100) in ("more", "undecided")
