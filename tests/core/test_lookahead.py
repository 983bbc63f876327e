"""The look-ahead against a head that really moves, autograd and finite differences."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn.functional import cross_entropy

from raysubset.core.lookahead import STEP_GRID, Lookahead
from raysubset.core.scores import Alignment
from tests import oracles
from tests.core.problems import counts, factors_of, lookahead_of, problem, problems

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def linear_head(p: oracles.Problem) -> torch.nn.Linear:
    head = torch.nn.Linear(p.embedding_NH.shape[1], p.num_classes, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(p.weight_CH))
        head.bias.copy_(torch.from_numpy(p.bias_C))
    return head


def loss_of(p: oracles.Problem, head: torch.nn.Linear) -> torch.Tensor:
    return cross_entropy(head(torch.from_numpy(p.embedding_VH)), torch.from_numpy(p.label_V))


def test_lookahead_logits_are_those_of_the_head_that_sgd_really_moved():
    p, step, rows = problem(0, n=20, c=4, h=5), 0.3, [2, 3, 5, 7, 11]
    head = linear_head(p)
    picked = torch.from_numpy(p.embedding_NH[rows]), torch.from_numpy(p.label_N[rows])
    optimizer = torch.optim.SGD(head.parameters(), lr=step)
    cross_entropy(head(picked[0]), picked[1], reduction="sum").backward()
    optimizer.step()
    moved = head(torch.from_numpy(p.embedding_VH)).detach()

    gradient_sum = factors_of(p).take(torch.tensor(rows)).gradient_sum()
    logits_VC = lookahead_of(p).moved_logits(gradient_sum, step)
    torch.testing.assert_close(logits_VC, moved, **EXACT)
    assert lookahead_of(p).loss(logits_VC) == pytest.approx(loss_of(p, head).item(), 1e-12)


def test_the_direction_is_the_autograd_gradient_of_the_mean_validation_loss():
    p = problem(1, v=12, c=5, h=6)
    head = linear_head(p)
    loss_of(p, head).backward()
    expected = torch.cat([head.weight.grad, head.bias.grad[:, None]], dim=1)
    lookahead = lookahead_of(p)
    torch.testing.assert_close(lookahead.direction(lookahead.logits_VC), expected, **EXACT)


@given(p=problems(max_n=8))
def test_directions_at_a_moved_head_are_those_of_expanded_gradients(p):
    lookahead, move = lookahead_of(p), 0.7 * factors_of(p).gradient_sum()
    found = lookahead.direction(lookahead.moved_logits(move, 1.0))
    np.testing.assert_allclose(found.numpy(), oracles.direction(p, move.numpy()), **EXACT)


@given(p=problems(max_n=8))
def test_a_bias_lookahead_moves_the_bias_alone(p):
    move = oracles.expanded(p, "bias").sum(0)
    lookahead = lookahead_of(p).bias_only()
    logits_VC = lookahead.moved_logits(factors_of(p).bias_only().gradient_sum(), 0.5)
    assert lookahead.loss(logits_VC) == pytest.approx(oracles.validation_loss(p, 0.5 * move), 1e-12)
    expected = oracles.direction(p, 0.5 * move, "bias")[:, -1:]
    np.testing.assert_allclose(lookahead.direction(logits_VC).numpy(), expected, **EXACT)


@given(p=problems())
def test_factored_gains_are_expanded_inner_products(p):
    lookahead = lookahead_of(p)
    d = lookahead.direction(lookahead.logits_VC)
    expected = (oracles.expanded(p) * d.numpy()).sum((1, 2))
    np.testing.assert_allclose(Alignment(d)(factors_of(p)).numpy(), expected, **EXACT)


@pytest.mark.parametrize("gradient", ["last_layer", "bias"])
def test_gains_are_finite_differences_of_the_validation_loss_along_each_gradient(gradient):
    p = problem(3, n=10, v=8, c=3, h=4)
    g_N = oracles.expanded(p, gradient)
    here = 0.2 * g_N[:3].sum(0)
    factors, lookahead = factors_of(p), lookahead_of(p)
    if gradient == "bias":
        factors, lookahead = factors.bias_only(), lookahead.bias_only()
    logits_VC = lookahead.moved_logits(factors.take(slice(0, 3)).gradient_sum(), 0.2)
    gain_N = Alignment(lookahead.direction(logits_VC))(factors)
    # Central differences: error ~ eps^2 (1e-10) + rounding / eps (1e-11).
    eps = 1e-5
    drop_N = [
        (oracles.validation_loss(p, here - eps * g) - oracles.validation_loss(p, here + eps * g))
        / (2 * eps)
        for g in g_N
    ]
    np.testing.assert_allclose(gain_N.numpy(), drop_N, rtol=1e-6, atol=1e-8)


@given(p=problems(max_n=10))
def test_the_auto_step_has_the_smallest_loss_of_the_grid(p):
    mean = factors_of(p).gradient_sum() / len(p.label_N)
    losses = [oracles.validation_loss(p, step * mean.numpy()) for step in STEP_GRID]
    chosen = lookahead_of(p).best_step(mean)
    # Where the loss has underflowed to equal numbers, any of them is the smallest.
    assert losses[STEP_GRID.index(chosen)] == pytest.approx(min(losses), rel=1e-9, abs=1e-12)


def test_the_grid_is_geometric_and_reaches_from_careful_to_bold():
    ratios = {round(b / a, 12) for a, b in pairwise(STEP_GRID)}
    assert ratios == {2.0}
    assert STEP_GRID[0] <= 1e-3
    assert STEP_GRID[-1] >= 100


def test_equal_losses_take_the_smaller_step():
    p = problem(4)
    nothing = torch.zeros(p.num_classes, p.weight_CH.shape[1] + 1, dtype=torch.float64)
    assert lookahead_of(p).best_step(nothing) == STEP_GRID[0]


def test_class_counts_are_those_of_the_labels():
    p = problem(5, v=9, c=4)
    assert lookahead_of(p).class_count_C == counts(p)[1]
    assert Lookahead.from_labels([2, 2, 0], 4).class_count_C == [1, 0, 2, 0]


def test_looking_ahead_leaves_the_present_logits_as_they_are():
    p = problem(6)
    lookahead = lookahead_of(p)
    before = lookahead.logits_VC.clone()
    lookahead.direction(lookahead.moved_logits(factors_of(p).gradient_sum(), 1.0))
    assert torch.equal(lookahead.logits_VC, before)
