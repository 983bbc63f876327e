"""The certificate against every subset there is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.core.certificate import Certificate, certify
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, Taken
from raysubset.core.lookahead import Lookahead
from tests import oracles
from tests.core.problems import SEEDS, counts, factors_of, lookahead_of, problem, whole

N, K = 7, 3


def certified(p: oracles.Problem, rows: list[int], step: float, room_C=None) -> Certificate:
    chosen = LocalGroundSet(factors_of(p).take(torch.tensor(rows)))
    return certify(whole(p), lookahead_of(p), chosen, step, Taken.nothing(room_C))


@settings(max_examples=15)
@given(seed=SEEDS, step=st.sampled_from([0.01, 0.3, 3.0, 50.0]), balanced=st.booleans())
def test_the_bound_holds_for_every_subset_of_the_same_size(seed, step, balanced):
    p = problem(seed, n=N, v=5, c=2, h=2)
    room_C = [max(1, count - 1) if count else 0 for count in counts(p)[0]] if balanced else None
    losses = oracles.losses_of_subsets(p, K, step, room_C)
    before, best = oracles.validation_loss(p, np.zeros((2, 3))), min(losses.values())
    for rows, after in losses.items():
        proof = certified(p, list(rows), step, room_C)
        assert proof.loss_before == pytest.approx(before, rel=1e-9)
        assert proof.loss_after == pytest.approx(after, rel=1e-9)
        # Rounding of losses up to some hundred nats, in float64.
        assert proof.loss_bound <= best + 1e-9
        if before - after > 1e-6:
            assert proof.share <= (before - after) / (before - best) + 1e-6


@given(seed=SEEDS)
def test_with_a_tiny_step_the_top_gains_are_certified_optimal(seed):
    p = problem(seed, n=N)
    lookahead = lookahead_of(p)
    d = lookahead.direction(lookahead.logits_VC).numpy()
    gain_N = (oracles.expanded(p) * d).sum((1, 2))
    top = np.argsort(-gain_N)[:K].tolist()
    # The direction moves by ~1e-9: less than the gaps between the gains of seven random rows.
    proof = certified(p, top, 1e-9)
    assert proof.loss_bound == proof.loss_after
    assert proof.share == 1.0


def test_when_all_subsets_are_alike_any_of_them_is_certified_optimal():
    same = np.ones((6, 2))
    head = np.array([[0.5, 0.0], [0.0, 0.5]]), np.zeros(2)
    factors = GradientFactors.from_embeddings(same, [0] * 6, *head)
    lookahead = Lookahead.from_embeddings(np.ones((4, 2)), [0, 0, 0, 1], *head)
    for step in (0.1, 1000.0):
        chosen = LocalGroundSet(factors.take(slice(1, 4)))
        proof = certify(LocalGroundSet(factors), lookahead, chosen, step, Taken.nothing())
        assert proof.share == 1.0


def test_the_share_is_the_achieved_drop_over_the_possible_one():
    assert Certificate(loss_before=3.0, loss_after=2.0, loss_bound=1.0).share == 0.5


def test_an_overshoot_has_a_negative_share():
    assert Certificate(loss_before=1.0, loss_after=6.0, loss_bound=0.5).share == -10.0


def test_where_nothing_helps_only_the_least_harm_is_called_optimal():
    assert Certificate(loss_before=1.0, loss_after=2.0, loss_bound=2.0).share == 1.0
    assert Certificate(loss_before=1.0, loss_after=5.0, loss_bound=2.0).share == 0.0


def test_a_share_never_exceeds_one():
    assert Certificate(loss_before=1.0, loss_after=0.5, loss_bound=0.5 + 1e-9).share == 1.0
