"""GLISTER against greedy by its definition: expanded gradients, loops, float64."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raysubset as rs
from raysubset.core.lookahead import STEP_GRID
from tests import oracles
from tests.core.problems import SEEDS, counts, lookahead_of, problem, whole

K = 7
PICKS = {
    rs.Exact(): [1] * 7,
    rs.Block(3): [3, 3, 1],
    rs.Block(7): [7],
    rs.Block(50): [7],
    rs.Blocks(3): [3, 2, 2],
    rs.Blocks(50): [1] * 7,
}


def quotas_of(p: oracles.Problem, balance: str, budget: int) -> list[int] | None:
    pool_C, validation_C = counts(p)
    share_C = {"validation": validation_C, "pool": pool_C, "equal": [1] * p.num_classes}
    if balance == "none":
        return None
    return oracles.quotas_by_search(budget, share_C[balance], pool_C)


def assert_same(chosen: rs.Selection, ids: list[int], gains: list[float]) -> None:
    assert chosen.ids.tolist() == ids
    # Gains are kept as float32: half a unit in the last place is 6e-8.
    np.testing.assert_allclose(chosen.gains, gains, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("picks", PICKS, ids=repr)
@pytest.mark.parametrize("gradient", ["last_layer", "bias"])
@settings(max_examples=4)
@given(
    seed=SEEDS,
    balance=st.sampled_from(["none", "pool", "equal", "validation"]),
    normalize=st.booleans(),
)
def test_picks_are_those_of_greedy_by_definition(picks, gradient, seed, balance, normalize):
    p = problem(seed, n=18, v=6, c=3, h=3)
    plan = oracles.Plan(
        sizes=PICKS[picks],
        step=1.5 / K,
        gradient=gradient,
        normalize=normalize,
        quota_C=quotas_of(p, balance, K),
    )
    glister = rs.Glister(
        gradient=gradient, step_size=1.5, picks=picks, balance=balance, normalize=normalize
    )
    assert_same(glister.select(whole(p), lookahead_of(p), K), *oracles.greedy(p, plan))


@settings(max_examples=10)
@given(seed=SEEDS, budget=st.integers(1, 11), step=st.sampled_from([0.02, 0.5, 4.0]))
def test_summed_steps_are_those_of_greedy_by_definition(seed, budget, step):
    p = problem(seed, n=12, v=6, c=3, h=3)
    plan = oracles.Plan(sizes=[1] * budget, step=step)
    glister = rs.Glister(step="sum", step_size=step, balance="none")
    assert_same(glister.select(whole(p), lookahead_of(p), budget), *oracles.greedy(p, plan))


@settings(max_examples=15)
@given(seed=SEEDS)
def test_one_exact_pick_is_the_best_of_all_single_examples_to_first_order(seed):
    p = problem(seed, n=9)
    step = 1e-6  # so small that the first order decides
    losses = oracles.losses_of_subsets(p, 1, step)
    (row,) = min(losses, key=lambda rows: losses[rows])
    chosen = rs.Glister(step_size=step, balance="none").select(whole(p), lookahead_of(p), 1)
    assert chosen.ids.tolist() == [p.ids_N[row]]


@settings(max_examples=10)
@given(seed=SEEDS)
def test_with_a_small_step_greedy_finds_the_best_subset_and_says_so(seed):
    p, step = problem(seed, n=8, v=5, c=2, h=2), 1e-5
    chosen = rs.Glister(step="sum", step_size=step, balance="none").select(
        whole(p), lookahead_of(p), 3
    )
    losses = oracles.losses_of_subsets(p, 3, step)
    best = min(losses, key=lambda rows: losses[rows])
    assert set(chosen.ids.tolist()) == set(p.ids_N[list(best)].tolist())
    assert chosen.facts["share_of_optimum"] == 1.0


@pytest.mark.parametrize("gradient", ["last_layer", "bias"])
@settings(max_examples=6)
@given(seed=SEEDS)
def test_the_facts_are_the_modelled_losses_and_the_auto_step(gradient, seed):
    p = problem(seed, n=14, v=6, c=3, h=3)
    chosen = rs.Glister(gradient=gradient).select(whole(p), lookahead_of(p), K)
    g_N = oracles.expanded(p, gradient)
    losses = [oracles.validation_loss(p, step * g_N.mean(0)) for step in STEP_GRID]
    step = STEP_GRID[losses.index(min(losses))] / K
    assert chosen.facts["step_per_pick"] == pytest.approx(step, rel=1e-12)
    rows = [p.row_of()[i] for i in chosen.ids.tolist()]
    after = oracles.validation_loss(p, step * g_N[rows].sum(0))
    before = oracles.validation_loss(p, np.zeros_like(g_N[0]))
    assert chosen.facts["modelled_loss_before"] == pytest.approx(before, rel=1e-9)
    assert chosen.facts["modelled_loss_after"] == pytest.approx(after, rel=1e-9)
    assert chosen.facts["share_of_optimum"] <= 1.0


@pytest.mark.parametrize("picks", [rs.Exact(), rs.Block(3)], ids=repr)
@pytest.mark.parametrize("kind", [rs.FacilityLocation, rs.Diversity])
@settings(max_examples=5)
@given(
    seed=SEEDS,
    lam=st.sampled_from([0.0, 0.01, 1.0, 100.0]),
    gradient=st.sampled_from(["last_layer", "bias"]),
    balance=st.sampled_from(["none", "equal"]),
)
def test_regularized_picks_are_those_of_the_definition(picks, kind, seed, lam, gradient, balance):
    p = problem(seed, n=13, v=6, c=3, h=3)
    name = {rs.FacilityLocation: "facility_location", rs.Diversity: "diversity"}[kind]
    plan = oracles.Plan(
        sizes=PICKS[picks],
        step=1.5 / K,
        gradient=gradient,
        quota_C=quotas_of(p, balance, K),
        regularizer=name,
        lam=lam,
    )
    glister = rs.Glister(
        gradient=gradient, step_size=1.5, picks=picks, balance=balance, regularizer=kind(lam)
    )
    ids, gains = oracles.greedy(p, plan)
    chosen = glister.select(whole(p), lookahead_of(p), K)
    assert chosen.ids.tolist() == ids
    # Distances are differences of squares: a few more roundings than the definition.
    np.testing.assert_allclose(chosen.gains, gains, rtol=1e-6, atol=1e-8)


def test_the_first_pick_of_facility_location_alone_is_the_medoid():
    p = problem(11, n=15)
    glister = rs.Glister(regularizer=rs.FacilityLocation(1e9), balance="none")
    chosen = glister.select(whole(p), lookahead_of(p), 1)
    g_N = oracles.expanded(p)
    away = [sum(oracles.squared_distance(g_N, i, j) for j in range(15)) for i in range(15)]
    assert chosen.ids.tolist() == [p.ids_N[int(np.argmin(away))]]


def test_diversity_takes_no_copy_while_something_else_is_left():
    p = problem(12, n=8)
    # Residuals of a zero head and long embeddings: gradients far apart, but for the copies.
    copies = replace(
        p,
        embedding_NH=np.tile(10 * p.embedding_NH, (3, 1)),
        label_N=np.tile(p.label_N, 3),
        ids_N=np.arange(24),
        weight_CH=np.zeros_like(p.weight_CH),
        bias_C=np.zeros_like(p.bias_C),
    )
    glister = rs.Glister(regularizer=rs.Diversity(1e6), balance="none")
    chosen = glister.select(whole(copies), lookahead_of(copies), 8)
    assert sorted(i % 8 for i in chosen.ids.tolist()) == list(range(8))


@settings(max_examples=10)
@given(seed=SEEDS)
def test_normalized_blocks_rank_as_the_cosine_does(seed):
    p = problem(seed, n=10)
    glister = rs.Glister(normalize=True, picks=rs.Block(9), balance="none")
    g_N = oracles.expanded(p).reshape(10, -1)
    d = oracles.direction(p, np.zeros((3, 5))).ravel()
    cosine = g_N @ d / np.linalg.norm(g_N, axis=1) / np.linalg.norm(d)
    chosen = glister.select(whole(p), lookahead_of(p), 9)
    assert chosen.ids.tolist() == p.ids_N[np.argsort(-cosine)[:9]].tolist()
