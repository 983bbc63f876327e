"""What training saw, against one visit at a time."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysubset.core.observations import Observations
from tests.oracles import Memory

N = 6


@st.composite
def runs(draw: st.DrawFn):
    """Epochs, each a list of visits (row, loss, margin, correct) to distinct rows."""
    seen = st.tuples(st.floats(0, 9, width=32), st.integers(-8, 8), st.booleans())
    epoch = st.lists(st.integers(0, N - 1), unique=True, max_size=N)
    return [[(row, *draw(seen)) for row in rows] for rows in draw(st.lists(epoch, max_size=5))]


def after(epochs) -> Observations:
    memory = Observations.none(N)
    for visits in epochs:
        rows, losses, margins, correct = zip(*visits, strict=True) if visits else ((), (), (), ())
        memory = memory.after_epoch(
            torch.tensor(rows, dtype=torch.int64),
            torch.tensor(losses, dtype=torch.float32),
            torch.tensor(margins, dtype=torch.float32),
            torch.tensor(correct, dtype=torch.bool),
        )
    return memory


def columns(memory: Observations) -> list[np.ndarray]:
    return [
        memory.visits_N.numpy(),
        memory.last_loss_N.numpy(),
        memory.margin_sum_N.numpy(),
        memory.correct_N.numpy(),
        memory.forgotten_N.numpy(),
    ]


@given(epochs=runs())
def test_observations_are_those_of_one_visit_at_a_time(epochs):
    slow = [Memory() for _ in range(N)]
    for visits in epochs:
        for row, *seen in visits:
            slow[row].visit(*seen)
    found = columns(after(epochs))
    names = ("visits", "last_loss", "margin_sum", "correct", "forgotten")
    for column, name in zip(found, names, strict=True):
        # Whole-number margins: sums are exact, so equality is.
        np.testing.assert_array_equal(column, [getattr(m, name) for m in slow], err_msg=name)


@given(epochs=runs(), data=st.data())
def test_the_order_of_rows_within_an_epoch_changes_nothing(epochs, data):
    other = [data.draw(st.permutations(visits)) for visits in epochs]
    for a, b in zip(columns(after(epochs)), columns(after(other)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_before_the_first_visit_nothing_is_known():
    memory = Observations.none(3)
    assert memory.visits_N.tolist() == [0, 0, 0]
    assert bool(memory.last_loss_N.isnan().all())
    assert memory.correct_N.tolist() == [-1, -1, -1]
    assert memory.forgotten_N.tolist() == [0, 0, 0]


def test_an_example_first_seen_wrong_was_not_forgotten():
    memory = after([[(0, 1.0, -1, False)], [(0, 1.0, 1, True)], [(0, 1.0, -1, False)]])
    assert memory.forgotten_N.tolist()[0] == 1


def test_the_memory_before_is_left_as_it_was():
    before = Observations.none(N)
    before.after_epoch(torch.tensor([1]), torch.ones(1), torch.ones(1), torch.ones(1).bool())
    assert before.visits_N.tolist() == [0] * N


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_losses_of_any_type_are_kept_as_float32(dtype):
    one = torch.ones(1, dtype=dtype)
    memory = Observations.none(2).after_epoch(torch.tensor([1]), one, one, torch.tensor([1]))
    assert memory.last_loss_N.dtype == torch.float32
    assert memory.margin_sum_N.dtype == torch.float32
    assert memory.correct_N.tolist() == [-1, 1]


def test_observations_travel_between_processes():
    memory = after([[(0, 1.0, -1, False), (3, 0.5, 2, True)]])
    for a, b in zip(columns(memory), columns(pickle.loads(pickle.dumps(memory))), strict=True):
        np.testing.assert_array_equal(a, b)
