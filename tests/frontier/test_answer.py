"""The answer follows from the rows by the statistics of `evidence`, and words follow intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysubset.evidence.power import power
from raysubset.frontier.answer import Answer, answer_of
from raysubset.frontier.plan import Role
from raysubset.frontier.sentences import sentences_of
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.table import TrialRow

SETTINGS = FrontierSettings()
ROLES: Mapping[str, Role] = {"full": "reference", "glister": "strategy", "random": "strategy"}


def row(name: str, fraction: float, seed: int, accuracy: float, **changes: float) -> TrialRow:
    """Return a row of 10,000 test examples."""
    values = {
        "epochs": 10,
        "budget": round(1000 * fraction),
        "num_pool": 1000,
        "num_validation": 100,
        "num_test": 10_000,
        "visits": round(10_000 * fraction),
        "distinct": 500,
        "test_macro_f1": accuracy,
        "seconds_start": 9.0,
        "seconds_scoring": 1.0,
        "seconds_greedy": 0.5,
        "seconds_training": 10 * fraction,
        "seconds_other": 0.25,
        "ceiling": 1 / fraction,
        **changes,
    }
    return TrialRow(
        trial=f"{name}-{fraction:g}-s{seed}",
        row=name,
        role=ROLES.get(name, "control"),
        fraction=fraction,
        seed=seed,
        test_accuracy=accuracy,
        class_accuracy=(accuracy, accuracy),
        **values,  # type: ignore[arg-type]
    )


def frontier(
    means: Mapping[tuple[str, float], float], seeds: int = 5, spread: float = 0.002, key: int = 0
) -> list[TrialRow]:
    """Return rows whose accuracies spread around these means, full's around 0.95."""
    draw = np.random.default_rng(key)
    rows: list[TrialRow] = []
    for (name, fraction), mean in {("full", 1.0): 0.95, **means}.items():
        rows += [row(name, fraction, s, float(mean + spread * draw.normal())) for s in range(seeds)]
    return rows


def first(rows: list[TrialRow], max_drop: float | None = 1.0) -> str:
    return sentences_of(answer_of(rows, max_drop), SETTINGS)[0]


def values(rows: list[TrialRow], name: str, fraction: float) -> np.ndarray:
    return np.array([r.test_accuracy for r in rows if (r.row, r.fraction) == (name, fraction)])


def test_cells_and_duels_are_scipy_s_intervals():
    rows = frontier({("glister", 0.1): 0.93, ("adaptive-random", 0.1): 0.94})
    answer = answer_of(rows, 1.0)
    cell = answer.cell("glister", 0.1)
    assert cell is not None and cell.to_full is not None
    own, full = values(rows, "glister", 0.1), values(rows, "full", 1.0)
    low, high = stats.t.interval(0.95, 4, own.mean(), stats.sem(own))
    assert (cell.accuracy.low, cell.accuracy.high) == pytest.approx((low, high))
    paired = stats.ttest_rel(own, full).confidence_interval(0.95)
    assert (cell.to_full.low, cell.to_full.high) == pytest.approx((paired.low, paired.high))
    (duel,) = answer.duels
    rival = values(rows, "adaptive-random", 0.1)
    wanted = stats.ttest_rel(own, rival).confidence_interval(0.95)
    assert (duel.difference.low, duel.difference.high) == pytest.approx((wanted.low, wanted.high))
    assert duel.word == "loses"


def test_seconds_count_selection_and_not_the_start_of_a_process():
    cell = answer_of(frontier({("glister", 0.1): 0.93}), 1.0).cell("glister", 0.1)
    assert cell is not None
    assert cell.total_s == pytest.approx(1 + 0.5 + 1 + 0.25)
    assert cell.speed_up == pytest.approx((1 + 0.5 + 10 + 0.25) / cell.total_s)
    assert cell.seconds_start == 9


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing_but_the_order_of_the_table(random):
    means = {("glister", f): 0.9 + f / 20 for f in (0.1, 0.3)}
    rows = frontier(means | {("adaptive-random", f): 0.95 for f in (0.1, 0.3)})
    mixed = list(rows)
    random.shuffle(mixed)
    one, other = answer_of(rows, 1.0), answer_of(mixed, 1.0)
    assert {(c.row, c.fraction): round(c.accuracy.half, 12) for c in one.cells} == {
        (c.row, c.fraction): round(c.accuracy.half, 12) for c in other.cells
    }
    assert sentences_of(one, SETTINGS) == sentences_of(other, SETTINGS)


def test_pairs_are_made_by_seed_and_a_missing_partner_is_left_out():
    rows = [r for r in frontier({("glister", 0.1): 0.93}) if (r.row, r.seed) != ("full", 2)]
    cell = answer_of(rows, 1.0).cell("glister", 0.1)
    assert cell is not None and cell.to_full is not None
    assert (cell.accuracy.n, cell.to_full.n) == (5, 4)


@pytest.mark.parametrize(
    ("glister", "control", "said"),
    [
        (0.93, 0.94, "A control wins against GLISTER: adaptive random by "),
        (0.94, 0.93, "GLISTER wins against every control at 10 %, by "),
        (0.94, 0.94, "No difference seen between GLISTER and its strongest control: "),
    ],
)
def test_the_first_sentence_says_who_wins(glister: float, control: float, said: str):
    means = {("glister", 0.1): glister, ("adaptive-random", 0.1): control}
    assert first(frontier(means, spread=0.001)).startswith(said)


def test_one_lost_duel_outweighs_won_ones():
    means = {("glister", f): 0.94 for f in (0.1, 0.3)}
    means |= {("adaptive-random", 0.1): 0.90, ("adaptive-random", 0.3): 0.95}
    told = first(frontier(means))
    assert told.startswith("A control wins against GLISTER")
    lost, won = told.split("points at 30 %")
    assert "10 %" not in lost
    assert "wins against every control at 10 %" in won


def test_a_control_with_validation_labels_is_named_as_such():
    told = first(frontier({("glister", 0.1): 0.93, ("validation-only", 0.1): 0.95}))
    assert "which trains on validation labels" in told


def test_a_strategy_that_beats_one_control_and_not_another_does_not_win():
    means = {("glister", 0.1): 0.94, ("adaptive-random", 0.1): 0.94, ("full-compressed", 0.1): 0.9}
    assert not first(frontier(means)).startswith("GLISTER wins")


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nobody_wins_and_nothing_is_decided(seeds: int):
    rows = frontier({("glister", 0.1): 0.5, ("adaptive-random", 0.1): 0.95}, seeds=seeds)
    answer = answer_of(rows, 1.0)
    said = " ".join(sentences_of(answer, SETTINGS))
    assert all(duel.word is None for duel in answer.duels)
    assert set(answer.within.values()) == {None}
    assert "too few to say who wins" in said and "Nothing is decided" in said
    assert "nan" not in said


def test_the_smallest_fraction_is_the_last_that_passes_from_the_largest_down():
    # 10 % is within the drop again, but 30 % was not: the sequence ends there
    means = {("glister", 0.1): 0.95, ("glister", 0.3): 0.90, ("glister", 0.5): 0.95}
    answer = answer_of(frontier(means, spread=0.001), 1.0)
    within = answer.within["glister"]
    assert within is not None and within.fraction == 0.5
    assert [fraction for fraction, _ in within.tests] == [0.5, 0.3]
    said = " ".join(sentences_of(answer, SETTINGS))
    assert "The smallest fraction within 1 point of full: GLISTER 50 % (" in said


def test_no_fraction_is_named_where_none_passes():
    said = " ".join(sentences_of(answer_of(frontier({("glister", 0.5): 0.9}), 1.0), SETTINGS))
    assert "No fraction that was run is certified" in said


def test_no_decision_is_printed_where_none_was_asked_for():
    answer = answer_of(frontier({("glister", 0.5): 0.95}), None)
    assert set(answer.within.values()) == {None}
    assert "smallest fraction" not in " ".join(sentences_of(answer, SETTINGS))


def test_an_empty_frontier_has_an_answer_too():
    answer: Answer = answer_of([], 1.0)
    assert "No trial is finished" in sentences_of(answer, SETTINGS)[0]


def test_accuracies_that_agree_exactly_are_no_certainty():
    means = {("glister", 0.1): 0.94, ("adaptive-random", 0.1): 0.94}
    (duel,) = answer_of(frontier(means, spread=0.0), 1.0).duels
    assert duel.difference.half > 0 and duel.word == "no difference seen"


def test_where_the_tests_stopped_short_the_answer_says_how_many_more_seeds_it_takes():
    rows = frontier({("glister", 0.1): 0.946}, seeds=3, spread=0.01, key=2)
    answer = answer_of(rows, 1.0)
    within = answer.within["glister"]
    assert within is not None and not within.tests[-1][1].passed
    more = answer.more["glister", 0.1]
    differences = values(rows, "glister", 0.1) - values(rows, "full", 1.0)
    spread, loss = differences.std(ddof=1), -differences.mean()
    assert power(3 + more, spread, 0.01, loss) >= 0.8 > power(3 + more - 1, spread, 0.01, loss)
    said = " ".join(sentences_of(answer, SETTINGS))
    assert f"{more} more seeds for GLISTER at 10 %" in said


def test_a_loss_beyond_the_drop_needs_no_more_seeds():
    answer = answer_of(frontier({("glister", 0.1): 0.90}), 1.0)
    assert answer.more == {}
    assert "more seed" not in " ".join(sentences_of(answer, SETTINGS))


def test_a_control_that_is_asked_about_is_still_a_control():
    means = {("glister", 0.1): 0.94, ("full-compressed", 0.1): 0.8, ("adaptive-random", 0.1): 0.95}
    rows = [
        replace(r, role="strategy") if r.row == "adaptive-random" else r for r in frontier(means)
    ]
    answer = answer_of(rows, 1.0)
    pairs = {(d.strategy, d.control) for d in answer.duels}
    assert pairs == {
        ("glister", "adaptive-random"),
        ("glister", "full-compressed"),
        ("adaptive-random", "full-compressed"),
    }
    told = [s for s in sentences_of(answer, SETTINGS) if "GLISTER" in s and "wins" in s]
    assert told[0].startswith("A control wins against GLISTER")


def test_equal_time_is_a_control_of_strategies_that_took_time_to_select():
    means = {(name, 0.1): 0.94 for name in ("glister", "random", "adaptive-random-equal-time")}
    rows = [replace(r, seconds_scoring=0.0) if r.row == "random" else r for r in frontier(means)]
    assert {d.strategy for d in answer_of(rows, 1.0).duels} == {"glister"}


def test_a_fraction_that_is_missing_is_not_skipped():
    rows = frontier({("glister", 0.1): 0.95})
    rows += [r for r in frontier({("random", 0.1): 0.95, ("random", 0.5): 0.95}) if r.row != "full"]
    answer = answer_of(rows, 1.0, fractions=(0.1, 0.5))
    assert answer.within["glister"] is None and answer.within["random"] is not None
    said = " ".join(sentences_of(answer, SETTINGS))
    assert "Not decided, not every fraction has 3 finished pairs with full: GLISTER" in said
