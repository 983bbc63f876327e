from __future__ import annotations

import pytest

from raysubset.report.verdict import noise, verdict
from tests.report.outcomes import outcome

MANY = 100_000  # test examples: noise of two runs is 0.2 points or less
CAVEAT = "1 seed: not evidence; `raysubset frontier` decides"


def test_a_control_that_wins_is_named_first():
    rows = [outcome("glister", 0.900), outcome("adaptive-random", 0.919)]
    assert verdict(rows, MANY) == f"adaptive random wins by 1.9 points ({CAVEAT})"


def test_glister_wins_over_the_stronger_of_two_controls():
    rows = [
        outcome("glister", 0.919),
        outcome("adaptive-random", 0.911),
        outcome("full-compressed", 0.900),
    ]
    assert verdict(rows, MANY) == (
        f"GLISTER wins by 0.8 points over adaptive random, the stronger control ({CAVEAT}); "
        "GLISTER is 1.9 points above full at equal compute"
    )


def test_full_at_equal_compute_can_be_the_strongest_control():
    rows = [
        outcome("glister", 0.90),
        outcome("adaptive-random", 0.91),
        outcome("random", 0.80),
        outcome("full-compressed", 0.95),
    ]
    assert verdict(rows, MANY) == f"full at equal compute wins by 5.0 points ({CAVEAT})"
    assert verdict(rows[:1] + rows[2:3] + rows[1:2], MANY).startswith("adaptive random wins by 1.0")


def test_a_margin_within_the_noise_of_the_test_part_is_no_difference():
    rows = [outcome("glister", 350 / 359), outcome("adaptive-random", 355 / 359)]
    assert verdict(rows, 359) == (
        "no difference seen: adaptive random is 1.4 points ahead of GLISTER, within noise of "
        f"359 test examples (+-2.1 points; {CAVEAT})"
    )
    rows = [outcome("glister", 355 / 359), outcome("adaptive-random", 350 / 359)]
    assert "GLISTER is 1.4 points ahead of adaptive random, within noise" in verdict(rows, 359)


def test_less_than_one_test_example_is_no_difference():
    rows = [outcome("glister", 0.9), outcome("adaptive-random", 0.9), outcome("random", 0.5)]
    assert verdict(rows, 100).startswith(
        "no difference seen between adaptive random and GLISTER on 100 test examples (+-"
    )


def test_two_perfect_runs_are_not_taken_for_certain():
    rows = [outcome("glister", 1.0), outcome("adaptive-random", 1.0)]
    assert "between adaptive random and GLISTER on 359 test examples (+-0.8" in verdict(rows, 359)
    assert noise(1.0, 1.0, 359) > 0


def test_noise_is_two_standard_errors_of_a_difference():
    assert noise(0.5, 0.5, 10_000) == pytest.approx(2 * (2 * 0.25 / 10_000) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(
    "other",
    [
        outcome("full", 0.99, visits=77_400),
        outcome("adaptive-random", 0.99, seed=1),
    ],
)
def test_more_visits_or_another_seed_make_no_control(other: object):
    text = verdict([outcome("glister", 0.9), other], MANY)  # pyright: ignore[reportArgumentType]
    assert text.startswith(
        "no verdict: no control of this seed visited as many examples as GLISTER"
    )


def test_the_full_run_does_not_hide_the_controls():
    rows = [
        outcome("full", 0.99, visits=77_400),
        outcome("glister", 0.90),
        outcome("adaptive-random", 0.92),
    ]
    assert verdict(rows, MANY).startswith("adaptive random wins by 2.0 points")


def test_a_control_alone_with_another_is_judged_as_the_strategy():
    rows = [outcome("adaptive-random", 0.95), outcome("full-compressed", 0.90)]
    assert verdict(rows, MANY) == (
        f"adaptive random wins by 5.0 points over full at equal compute ({CAVEAT})"
    )


@pytest.mark.parametrize("first", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("second", [0.1, 0.899, 1.0])
def test_a_verdict_is_one_line_of_plain_signs(first: float, second: float):
    rows = [outcome("glister", first), outcome("adaptive-random", second), outcome("random", 0.4)]
    text = verdict(rows, 500)
    assert text.isascii()
    assert "\n" not in text
