"""Factors against expanded gradients, autograd and per-sample gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn.functional import cross_entropy

from raysubset.core import factors as factors_module
from raysubset.core.factors import GradientFactors
from tests import oracles
from tests.core.problems import factors_of, problem, problems

# float64 throughout: sums of a few dozen terms of order 1 agree to some 1e-15.
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def expand(factors: GradientFactors) -> torch.Tensor:
    ones = torch.ones(factors.num_examples, 1, dtype=factors.residual_NC.dtype)
    rows = torch.cat([factors.wide().embedding_NH, ones], dim=1)
    return torch.einsum("nc,nh->nch", factors.residual_NC, rows)


@given(p=problems())
def test_factors_expand_to_the_gradients_of_the_definition(p):
    np.testing.assert_allclose(expand(factors_of(p)).numpy(), oracles.expanded(p), **EXACT)


def test_factors_are_the_per_sample_gradients_of_the_head():
    p = problem(1, n=20, c=5, h=6)
    head = torch.nn.Linear(6, 5, dtype=torch.float64)
    weights = {"weight": torch.from_numpy(p.weight_CH), "bias": torch.from_numpy(p.bias_C)}

    def loss(weights, h_H, label):
        z_C = torch.func.functional_call(head, weights, h_H)
        return cross_entropy(z_C, label)

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    rows = torch.from_numpy(p.embedding_NH), torch.from_numpy(p.label_N)
    grads = per_sample(weights, *rows)
    expected = torch.cat([grads["weight"], grads["bias"][:, :, None]], dim=2)
    torch.testing.assert_close(expand(factors_of(p)), expected, **EXACT)


@given(p=problems())
def test_norms_are_those_of_expanded_gradients(p):
    expected = np.linalg.norm(oracles.expanded(p).reshape(len(p.label_N), -1), axis=1)
    np.testing.assert_allclose(factors_of(p).norm_N.numpy(), expected, **EXACT)


@given(p=problems())
def test_the_gradient_sum_is_the_sum_of_expanded_gradients(p):
    expected = oracles.expanded(p).sum(0)
    np.testing.assert_allclose(factors_of(p).gradient_sum().numpy(), expected, **EXACT)


@given(p=problems())
def test_bias_factors_are_the_bias_column_alone(p):
    bias = factors_of(p).bias_only()
    g_NC = oracles.expanded(p)[:, :, -1]
    assert bias.gradient_sum().shape == (p.num_classes, 1)
    np.testing.assert_allclose(bias.gradient_sum()[:, 0].numpy(), g_NC.sum(0), **EXACT)
    np.testing.assert_allclose(bias.norm_N.numpy(), np.linalg.norm(g_NC, axis=1), **EXACT)


@pytest.mark.parametrize("tile_rows", [1, 3, 7, 1000])
def test_tiles_change_no_sum(tile_rows, monkeypatch):
    factors = factors_of(problem(2, n=20))
    expected_sum, expected_norm = factors.gradient_sum(), factors.norm_N
    monkeypatch.setattr(factors_module, "TILE_ROWS", tile_rows)
    again = factors.take(slice(None))
    assert sum(tile.num_examples for tile in again.tiles()) == 20
    torch.testing.assert_close(again.gradient_sum(), expected_sum, **EXACT)
    torch.testing.assert_close(again.norm_N, expected_norm, **EXACT)


def test_rows_taken_keep_their_order_and_concat_puts_them_back():
    factors = factors_of(problem(3, n=10))
    parts = [factors.take(torch.tensor([2, 0, 1])), factors.take(slice(3, 10))]
    again = GradientFactors.concat(parts)
    order = [2, 0, 1, *range(3, 10)]
    assert again.ids_N.tolist() == factors.ids_N[order].tolist()
    torch.testing.assert_close(again.residual_NC, factors.residual_NC[order], rtol=0, atol=0)


def test_ids_default_to_row_numbers():
    p = problem(4, n=5)
    made = GradientFactors.from_embeddings(p.embedding_NH, p.label_N, p.weight_CH, p.bias_C)
    assert made.ids_N.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_16_bit_embeddings_stay_so_and_products_are_taken_in_fp32(half):
    p = problem(5, dtype=np.float32)
    embedding = torch.from_numpy(p.embedding_NH).to(half)
    args = p.label_N, p.weight_CH, p.bias_C
    narrow = GradientFactors.from_embeddings(embedding, *args)
    wide = GradientFactors.from_embeddings(embedding.float(), *args)
    assert narrow.embedding_NH.dtype == half
    assert narrow.residual_NC.dtype == torch.float32
    # The same numbers in the same type: the bits are equal, not close.
    assert torch.equal(narrow.residual_NC, wide.residual_NC)
    assert torch.equal(narrow.gradient_sum(), wide.gradient_sum())
    assert torch.equal(narrow.norm_N, wide.norm_N)


def test_a_16_bit_head_still_gives_fp32_residuals():
    p = problem(5, dtype=np.float16)
    assert factors_of(p).residual_NC.dtype == torch.float32


def test_float64_stays_float64():
    factors = factors_of(problem(6))
    assert factors.residual_NC.dtype == torch.float64
    assert factors.embedding_NH.dtype == torch.float64
    assert factors.gradient_sum().dtype == torch.float64


def test_confident_logits_do_not_overflow():
    weight_CH, bias_C = np.array([[1e4], [-1e4]]), np.zeros(2)
    factors = GradientFactors.from_embeddings([[1.0], [-1.0]], [0, 0], weight_CH, bias_C)
    expected = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(factors.residual_NC, expected, **EXACT)


def test_factors_from_labels_know_ids_and_classes_only():
    factors = GradientFactors.from_labels([1, 0, 2], 4, ids=[30, 10, 20])
    assert factors.num_examples == 3
    assert factors.num_classes == 4
    assert factors.ids_N.tolist() == [30, 10, 20]
    assert factors.label_N.tolist() == [1, 0, 2]


def test_a_head_that_requires_gradients_leaves_no_graph_behind():
    p = problem(7)
    weight = torch.from_numpy(p.weight_CH).requires_grad_()
    made = GradientFactors.from_embeddings(p.embedding_NH, p.label_N, weight, p.bias_C)
    assert not made.residual_NC.requires_grad
