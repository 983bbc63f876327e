from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.schedule import Phase, plan

FRACTIONS = st.sampled_from([0.01, 0.02, 0.1, 0.29, 1 / 3, 0.5, 0.7, 0.999, 1.0]) | st.floats(
    1e-4, 1.0
)


def of(strategy: str, epochs: int, fraction: float = 0.1, every: int = 2, **selection: Any) -> Any:
    selection |= {"strategy": strategy, "fraction": fraction, "select_every": every}
    return Experiment.of({"selection": selection, "training": {"epochs": epochs}})


def visits(phases: tuple[Phase, ...]) -> int:
    return sum(phase.budget * len(phase.epochs) for phase in phases)


def budget_of(fraction: float, num_pool: int) -> int:
    exact = Decimal(repr(fraction)) * num_pool
    return max(1, int(exact.to_integral_value(rounding=ROUND_FLOOR)))


def strategies_of(phases: tuple[Phase, ...]) -> list[str]:
    return [phase.strategy for phase in phases]


def check(phases: tuple[Phase, ...], num_pool: int, every: int) -> None:
    """What holds for every plan."""
    assert [phase.round for phase in phases] == list(range(len(phases)))
    epochs = [epoch for phase in phases for epoch in phase.epochs]
    assert epochs == list(range(len(epochs)))
    done = 0
    for phase in phases:
        assert 1 <= phase.budget <= num_pool
        assert phase.visits_before == done
        assert phase.visits == phase.budget * len(phase.epochs) > 0
        assert phase.total_visits == visits(phases)
        assert len(phase.epochs) <= every
        done += phase.visits


@pytest.mark.parametrize("strategy", ["glister", "random", "adaptive-random", "full-compressed"])
@given(
    num_pool=st.integers(1, 60_000),
    epochs=st.integers(1, 60),
    fraction=FRACTIONS,
    every=st.integers(1, 80),
    warm_start=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]) | st.floats(0, 1, exclude_max=True),
)
def test_every_strategy_visits_exactly_budget_times_epochs(
    strategy: str, num_pool: int, epochs: int, fraction: float, every: int, warm_start: float
):
    experiment = of(strategy, epochs, fraction, every, warm_start=warm_start)
    try:
        phases = plan(experiment, num_pool)
    except ConfigError:
        assume(strategy != "glister")
        raise
    budget = budget_of(fraction, num_pool)
    check(phases, num_pool, every)
    assert visits(phases) == budget * epochs
    for phase in phases:
        if phase.strategy in ("glister", "adaptive-random"):
            assert phase.budget == budget


@pytest.mark.parametrize("strategy", ["full-validation-compressed", "validation-only"])
@given(num_pool=st.integers(10, 5000), num_rows=st.integers(4, 5000), epochs=st.integers(1, 60))
def test_a_control_on_other_rows_visits_them_all_as_often_as_the_strategy_visits_its_own(
    strategy: str, num_pool: int, num_rows: int, epochs: int
):
    phases = plan(of(strategy, epochs, 0.5), num_pool, num_rows)
    assert visits(phases) == visits(plan(of("glister", epochs + 2, 0.5), num_pool)) * epochs / (
        epochs + 2
    )
    assert all(phase.budget <= num_rows for phase in phases)
    assert all(phase.budget == num_rows for phase in phases[:-2])


@given(
    num_pool=st.integers(1, 60_000),
    epochs=st.integers(1, 60),
    fraction=FRACTIONS,
    every=st.integers(1, 80),
)
def test_full_visits_the_whole_pool_in_every_epoch(
    num_pool: int, epochs: int, fraction: float, every: int
):
    phases = plan(of("full", epochs, fraction, every), num_pool)
    check(phases, num_pool, every)
    assert visits(phases) == num_pool * epochs
    assert {(p.strategy, p.budget) for p in phases} == {("full", num_pool)}


@given(
    num_pool=st.integers(10, 5000),
    epochs=st.integers(1, 60),
    every=st.integers(1, 60),
    warm_start=st.floats(0, 0.99),
)
def test_glister_has_a_selection_or_is_refused_with_the_remedy(
    num_pool: int, epochs: int, every: int, warm_start: float
):
    experiment = of("glister", epochs, 0.1, every, warm_start=warm_start)
    warm = min(max(1, round(warm_start * epochs)), epochs - 1) if warm_start else 0
    first = warm or every
    if first >= epochs:
        with pytest.raises(ConfigError) as caught:
            plan(experiment, num_pool)
        message = str(caught.value)
        assert f"training.epochs={epochs}" in message and "selection.warm_start=" in message
        assert f"selection.select_every={min(every, epochs)}" in message
        enough = "" if warm_start else f" to {every + 1} or more"
        assert f"raise epochs{enough}, or lower select_every or warm_start" in message
        if not warm_start:
            plan(of("glister", every + 1, 0.1, every), num_pool)
        return
    phases = plan(experiment, num_pool)
    names = strategies_of(phases)
    assert "glister" in names
    start = names.index("glister")
    assert set(names[start:]) == {"glister"} and "glister" not in names[:start]
    assert set(names[:start]) == ({"full", "random"} & set(names[:start]) if warm else {"random"})
    budget = budget_of(0.1, num_pool)
    assert visits(phases[:start]) == first * budget
    assert visits(phases[start:]) == (epochs - first) * budget


def test_a_warm_start_is_full_epochs_and_one_random_rest():
    """25 of 50 epochs of 100 ids: 2,500 visits are 2 epochs of 1,000 and a rest of 500."""
    phases = plan(of("glister", 50, 0.1, 5, warm_start=0.5), 1000)
    warm = [(p.strategy, p.budget, list(p.epochs)) for p in phases[:3]]
    assert warm == [("full", 1000, [0]), ("full", 1000, [1]), ("random", 500, [2])]
    assert {(p.strategy, p.budget, len(p.epochs)) for p in phases[3:]} == {("glister", 100, 5)}
    assert len(phases) == 3 + 5


def test_a_warm_start_smaller_than_one_full_epoch_is_one_random_subset():
    phases = plan(of("glister", 10, 0.01, 2, warm_start=0.2), 1000)
    assert [(p.strategy, p.budget) for p in phases[:2]] == [("random", 20), ("glister", 10)]


def test_without_a_warm_start_the_first_round_is_random_and_as_long_as_the_others():
    phases = plan(of("glister", 7, 0.1, 3), 1000)
    assert [(p.strategy, list(p.epochs)) for p in phases] == [
        ("random", [0, 1, 2]),
        ("glister", [3, 4, 5]),
        ("glister", [6]),
    ]


@pytest.mark.parametrize("strategy", ["random", "adaptive-random", "full", "full-compressed"])
def test_select_every_beyond_the_epochs_is_one_round(strategy: str):
    phases = plan(of(strategy, 5, 0.2, 500), 100)
    assert len(phases) == 1
    assert visits(phases) == (500 if strategy == "full" else 100)


@pytest.mark.parametrize("every", [1, 3, 50])
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_glister_over_the_whole_pool_needs_no_room_for_a_selection(every: int, epochs: int):
    phases = plan(of("glister", epochs, 1.0, every), 90)
    check(phases, 90, every)
    assert visits(phases) == 90 * epochs
    assert {phase.budget for phase in phases} == {90}
    full = plan(of("full", epochs, 1.0, every), 90)
    assert [p.epochs for p in phases] == [p.epochs for p in full]


def test_the_budget_is_floored_by_decimal():
    assert plan(of("random", 1, 0.29), 100)[0].budget == 29


def test_full_compressed_below_one_epoch_is_a_random_subset():
    phases = plan(of("full-compressed", 3, 0.1), 1000)
    assert [(p.strategy, p.budget, list(p.epochs)) for p in phases] == [("random", 300, [0])]


def test_every_compressed_epoch_but_the_last_is_full():
    phases = plan(of("full-compressed", 25, 0.1, 10), 1000)
    assert [(p.strategy, p.budget, list(p.epochs)) for p in phases] == [
        ("full", 1000, [0]),
        ("full", 1000, [1]),
        ("random", 500, [2]),
    ]


@pytest.mark.parametrize(
    ("pool", "fraction", "epochs"), [(144, 0.25, 33), (100, 0.1, 41), (97, 0.5, 7)]
)
def test_no_phase_of_full_at_equal_compute_is_too_small_to_train_on(pool, fraction, epochs):
    experiment = Experiment.of(
        {
            "selection": {"strategy": "full-compressed", "fraction": fraction},
            "training": {"epochs": epochs},
        }
    )
    phases = plan(experiment, pool)
    assert min(phase.budget for phase in phases) >= 2 * experiment.resources.ranks
    assert sum(phase.visits for phase in phases) == budget_of(fraction, pool) * epochs
