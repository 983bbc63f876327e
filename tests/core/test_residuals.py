"""Residuals of sigmoid cross-entropy and squared error: autograd's, and factors made of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from raysubset.core.factors import GradientFactors, logits_of, residual_of
from raysubset.core.lookahead import Lookahead
from raysubset.core.residuals import sigmoid_residual, squared_error_residual
from raysubset.core.scores import Alignment
from raysubset.errors import DataError, ModelError

Loss = Callable[[Tensor, Tensor], Tensor]


def sigmoid_loss(z: Tensor, y: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(z, y, reduction="sum")


def half_squared(z: Tensor, y: Tensor) -> Tensor:
    return mse_loss(z, y, reduction="sum") / 2


LOSSES = [(sigmoid_residual, sigmoid_loss), (squared_error_residual, half_squared)]


def problem(rows: int, outputs: int, seed: int) -> tuple[Tensor, Tensor, nn.Linear]:
    draw = torch.Generator().manual_seed(seed)
    embedding = torch.randn(rows, 5, generator=draw, dtype=torch.float64)
    target = torch.randint(0, 2, (rows, outputs), generator=draw).double()
    layer = nn.Linear(5, outputs, dtype=torch.float64)
    nn.init.normal_(layer.weight, generator=draw)
    nn.init.normal_(layer.bias, generator=draw)
    return embedding, target, layer


@pytest.mark.parametrize(("residual", "loss"), LOSSES)
@given(rows=st.integers(1, 6), outputs=st.integers(1, 4), seed=st.integers(0, 99))
def test_factors_of_residuals_are_autograds_gradients(
    residual: Loss, loss: Loss, rows: int, outputs: int, seed: int
):
    embedding, target, layer = problem(rows, outputs, seed)
    z = logits_of(embedding, layer.weight.detach(), layer.bias.detach())
    factors = GradientFactors.from_residuals(residual(z, target), embedding)
    direction = torch.randn(outputs, 6, dtype=torch.float64)
    gains = Alignment(direction)(factors)
    for row in range(rows):
        layer.zero_grad()
        loss(layer(embedding[row]), target[row]).backward()
        assert layer.weight.grad is not None and layer.bias.grad is not None
        wanted = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
        one = torch.cat([embedding[row], torch.ones(1)])
        torch.testing.assert_close(factors.residual_NC[row][:, None] * one, wanted)
        torch.testing.assert_close(factors.norm_N[row], wanted.norm())
        torch.testing.assert_close(gains[row], (wanted * direction).sum())


@given(st.lists(st.floats(-90, 90), min_size=1, max_size=9), st.integers(0, 2**9 - 1))
def test_one_logit_is_the_softmax_of_zero_and_it(values: list[float], bits: int):
    z = torch.tensor(values, dtype=torch.float64)
    label = torch.tensor([bits >> i & 1 for i in range(len(values))])
    softmax = residual_of(torch.stack([torch.zeros_like(z), z], 1), label)
    mine = sigmoid_residual(z, label.double())
    torch.testing.assert_close(mine[:, 0], softmax[:, 1])
    torch.testing.assert_close(-mine[:, 0], softmax[:, 0])


@pytest.mark.parametrize("residual", [sigmoid_residual, squared_error_residual])
def test_half_precision_is_widened_and_a_vector_is_one_output(residual: Loss):
    z, y = torch.tensor([0.5, -3.0]), torch.tensor([1.0, 0.0])
    assert residual(z, y).shape == (2, 1)
    half = residual(z.half(), y.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, residual(z, y))  # 0.5 and 3 are exact in 16 bits


@pytest.mark.parametrize(
    ("residual", "z", "y", "said"),
    [
        (sigmoid_residual, [0.0, 1.0], [0.0, 2.0], r"outside \[0, 1\] in 1 rows, first row 1"),
        (sigmoid_residual, [float("nan")], [0.0], r"outputs hold NaN or infinity in 1 rows"),
        (squared_error_residual, [1.0], [float("inf")], r"target_NC hold NaN or infinity"),
        (squared_error_residual, [1.0], [1.0, 2.0], r"shape \(1,\) and targets of shape \(2,\)"),
        (squared_error_residual, [[[1.0]]], [[[1.0]]], r"as \(examples, outputs\)"),
    ],
)
def test_bad_input_is_named(residual: Loss, z: list[float], y: list[float], said: str):
    with pytest.raises(DataError, match=said):
        residual(torch.tensor(z), torch.tensor(y))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"residual_NC": torch.ones(3, 2)}, "residual_NC has 3 rows and embedding_NH 2"),
        ({"residual_NC": torch.tensor([[1.0], [float("nan")]])}, r"NaN .* first rows \[1\]"),
        ({"label_N": [0, 5]}, "label_N holds 5 at row 1"),
        ({"ids": [4, 4]}, "ids holds 4 more than once"),
    ],
)
def test_residuals_that_do_not_fit_are_named(wrong: dict[str, object], said: str):
    fine = {"residual_NC": torch.ones(2, 2), "embedding_NH": torch.ones(2, 3)}
    GradientFactors.from_residuals(**fine)
    with pytest.raises(DataError, match=said):
        GradientFactors.from_residuals(**fine | wrong)


def test_the_look_ahead_of_one_row_is_refused():
    with pytest.raises(ModelError, match=r"softmax cross-entropy.*\(zeros, it\)"):
        Lookahead.from_embeddings(torch.ones(2, 3), [0, 0], torch.ones(1, 3), torch.ones(1))
