"""Scores: pure functions from factors to gains."""

import numpy as np
import torch
from hypothesis import given
from scipy import stats

from raysubset.core.factors import GradientFactors
from raysubset.core.scores import Alignment, ErrorNorm, GradientNorm, RandomKey
from tests import oracles
from tests.core.problems import factors_of, lookahead_of, problem, problems

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def direction_of(p: oracles.Problem) -> torch.Tensor:
    lookahead = lookahead_of(p)
    return lookahead.direction(lookahead.logits_VC)


@given(p=problems())
def test_normalized_gains_rank_as_the_cosine_does(p):
    d, g_N = direction_of(p), oracles.expanded(p)
    flat = g_N.reshape(len(g_N), -1)
    cosine = flat @ d.numpy().ravel() / np.linalg.norm(flat, axis=1) / np.linalg.norm(d.numpy())
    gain_N = Alignment(d, normalize=True)(factors_of(p)).numpy()
    # |D| is one number for all rows: the same ranking, and the same numbers after division.
    np.testing.assert_allclose(gain_N / np.linalg.norm(d.numpy()), cosine, rtol=1e-8, atol=1e-10)


@given(p=problems())
def test_bias_alignment_reads_no_embedding(p):
    d, factors = direction_of(p)[:, -1:], factors_of(p)
    expected = oracles.expanded(p)[:, :, -1] @ d.numpy()[:, 0]
    blind = GradientFactors(
        ids_N=factors.ids_N,
        label_N=factors.label_N,
        residual_NC=factors.residual_NC,
        embedding_NH=torch.full_like(factors.embedding_NH, torch.nan),
    )
    np.testing.assert_allclose(Alignment(d)(blind).numpy(), expected, **EXACT)
    norms = np.linalg.norm(oracles.expanded(p)[:, :, -1], axis=1)
    np.testing.assert_allclose(
        Alignment(d, normalize=True)(blind).numpy(), expected / norms, rtol=1e-8, atol=1e-10
    )


def test_an_example_without_a_gradient_gains_nothing_instead_of_nan():
    weight_CH = np.array([[1e4], [-1e4]])
    factors = GradientFactors.from_embeddings([[1.0], [-1.0]], [0, 0], weight_CH, np.zeros(2))
    d = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    gain_N = Alignment(d, normalize=True)(factors)
    assert gain_N[0] == 0.0
    assert bool(torch.isfinite(gain_N).all())


@given(p=problems())
def test_norm_scores_are_the_norms(p):
    factors = factors_of(p)
    g_N = oracles.expanded(p)
    np.testing.assert_allclose(
        GradientNorm()(factors).numpy(), np.linalg.norm(g_N.reshape(len(g_N), -1), axis=1), **EXACT
    )
    np.testing.assert_allclose(
        ErrorNorm()(factors).numpy(), np.linalg.norm(g_N[:, :, -1], axis=1), **EXACT
    )


def test_a_direction_of_another_type_scores_in_the_factors_type():
    p = problem(0, dtype=np.float32)
    d = direction_of(p)
    gain_N = Alignment(d.double())(factors_of(p))
    assert gain_N.dtype == torch.float32
    assert torch.equal(gain_N, Alignment(d)(factors_of(p)))


def test_the_top_of_random_keys_is_a_uniform_sample():
    factors = GradientFactors.from_labels([0] * 10, 1)
    tops = [set(RandomKey(key)(factors).topk(3).indices.tolist()) for key in range(4_000)]
    times = [sum(i in top for top in tops) for i in range(10)]
    assert sum(times) == 12_000
    assert stats.chisquare(times).pvalue > 1e-3
