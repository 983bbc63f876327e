"""Laws of the recipe: learning rate, optimizer, batches and order as functions of counts."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from raysubset.core.keys import derive_key
from raysubset.errors import ConfigError, ModelError
from raysubset.learn.recipe import batch_bounds, epoch_order, lr_at, make_optimizer


def test_the_rate_rises_in_a_line_then_falls_along_a_cosine_to_zero():
    rates = [lr_at(v, total_visits=1000, warmup=0.1, lr=0.4) for v in range(1001)]
    assert rates[0] == 0
    assert rates[50] == pytest.approx(0.2)
    assert rates[100] == 0.4 == max(rates)
    assert rates[550] == pytest.approx(0.2)  # half way down
    assert rates[1000] == 0
    assert rates[:101] == sorted(rates[:101])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_without_warm_up_the_first_batch_has_the_full_rate():
    assert lr_at(0, total_visits=10, warmup=0.0, lr=0.3) == 0.3


def test_past_the_end_the_rate_stays_zero():
    assert lr_at(11, total_visits=10, warmup=0.5, lr=0.3) == 0


@given(st.integers(0, 10**9), st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_rate_is_between_zero_and_lr(visits: int, total: int, warmup: float):
    rate = lr_at(visits, total_visits=total, warmup=warmup, lr=0.05)
    assert 0 <= rate <= 0.05 * (1 + 1e-12)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_a_warm_up_outside_its_range_is_refused(warmup: float):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\)"):
        lr_at(0, total_visits=10, warmup=warmup, lr=0.1)


def test_no_visits_at_all_are_refused():
    with pytest.raises(ConfigError, match="total_visits=0 must be 1 or more"):
        lr_at(0, total_visits=0, warmup=0.0, lr=0.1)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_the_optimizer_takes_nesterovs_step(momentum: float, nesterov: bool):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(
        model, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.01
    )
    weight, velocity = model.weight.detach().clone(), torch.zeros(2, 3)
    for step in range(4):
        gradient = torch.full((2, 3), float(step + 1))
        model.weight.grad, model.bias.grad = gradient.clone(), torch.zeros(2)
        optimizer.step()
        decayed = gradient + 0.01 * weight
        velocity = momentum * velocity + decayed
        weight = weight - 0.1 * (decayed + momentum * velocity if nesterov else velocity)
    torch.testing.assert_close(model.weight.detach(), weight)  # a fused kernel may round once less


def test_a_parameter_may_get_its_first_gradient_late():
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    model.weight.grad = torch.ones(2, 3)
    optimizer.step()
    bias = model.bias.detach().clone()
    model.bias.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(model.bias.detach(), bias - 0.1 * 1.9)  # float32 rounding


def test_an_optimizer_goes_on_from_its_state_bit_for_bit():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    optimizer = make_optimizer(model, **options)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: float) -> None:
        optimizer.zero_grad()
        model(torch.full((4, 3), x)).square().sum().backward()
        optimizer.step()

    step(model, optimizer, 0.1)
    twin = copy.deepcopy(model)
    resumed = make_optimizer(twin, **options)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 0.2)
    step(twin, resumed, 0.2)
    assert torch.equal(model.weight, twin.weight)


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)
    assert optimizer.param_groups[0]["params"] == list(model[1].parameters())
    with pytest.raises(ModelError, match="no parameter with requires_grad=True; unfreeze"):
        make_optimizer(
            model.requires_grad_(False), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0
        )


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ConfigError, match=r"momentum=0.0; set training.momentum=0.9 or training.n"):
        make_optimizer(nn.Linear(2, 2), lr=0.1, momentum=0.0, nesterov=True, weight_decay=0.0)


@given(num_rows=st.integers(1, 500), batch_size=st.integers(1, 60), ranks=st.integers(1, 8))
def test_f37_batches_cover_each_row_once_and_starve_no_rank(num_rows, batch_size, ranks):
    if min(num_rows, batch_size) < ranks:
        return
    bounds = batch_bounds(num_rows, batch_size, ranks)
    assert [row for start, end in bounds for row in range(start, end)] == list(range(num_rows))
    sizes = [end - start for start, end in bounds]
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] < batch_size + 2 * ranks
    if min(num_rows, batch_size) >= 2 * ranks:
        assert (
            min(len(range(start, end)[r::ranks]) for start, end in bounds for r in range(ranks))
            >= 2
        )


def test_f37_a_short_last_batch_joins_the_one_before_only_when_it_must():
    assert batch_bounds(10, 4, 1) == [(0, 4), (4, 8), (8, 10)]
    assert batch_bounds(9, 4, 1) == [(0, 4), (4, 9)]
    assert batch_bounds(11, 4, 2) == [(0, 4), (4, 11)]
    assert batch_bounds(8, 4, 2) == [(0, 4), (4, 8)]
    assert batch_bounds(3, 128, 2) == [(0, 3)]
    assert batch_bounds(3, 1, 1) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(("num_rows", "batch_size", "ranks"), [(1, 8, 2), (8, 1, 2), (0, 8, 1)])
def test_f37_a_rank_without_a_row_is_refused(num_rows: int, batch_size: int, ranks: int):
    with pytest.raises(ConfigError) as error:
        batch_bounds(num_rows, batch_size, ranks)
    assert f"{num_rows} rows in batches of {batch_size}" in str(error.value)
    assert "lower resources.workers" in str(error.value)


def test_an_epochs_order_is_its_keys_and_holds_each_id_once():
    ids_K = torch.arange(3, 3000, 7)
    first = epoch_order(ids_K, derive_key(0, "order", 1))
    assert torch.equal(first, epoch_order(ids_K.flip(0), derive_key(0, "order", 1)))
    assert not torch.equal(first, epoch_order(ids_K, derive_key(0, "order", 2)))
    assert torch.equal(first.sort().values, ids_K)
    assert first.dtype == torch.int64
