"""Laws that hold for every setting of GLISTER."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import raysubset as rs
from raysubset.core.quotas import class_quotas
from raysubset.errors import BudgetError, ConfigError
from tests.core.problems import (
    SEEDS,
    counts,
    factors_of,
    lookahead_of,
    problem,
    sharded,
    whole,
)
from tests.strategies.spies import SpyGroundSet

PICKS = (rs.Exact(), rs.Block(4), rs.Blocks(3), rs.Stochastic(0.2))
BALANCES = ("none", "pool", "equal", "validation")
REGULARIZERS = (None, rs.FacilityLocation(0.1), rs.Diversity(0.1), rs.RandomFill(0.4))
K = 9


@pytest.mark.parametrize("picks", PICKS, ids=repr)
@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_every_combination_meets_the_budget_and_the_quotas_without_duplicates(
    picks, balance, regularizer
):
    p = problem(7, n=22, v=8, c=3, h=3, dtype=np.float32)
    pool, lookahead = whole(p), lookahead_of(p)
    values = ((1.0, 1.7), (False, True), ("last_layer", "bias"), ("mean", "sum"))
    for candidates, normalize, gradient, step in itertools.product(*values):
        glister = rs.Glister(
            picks=picks,
            balance=balance,
            regularizer=regularizer,
            candidates=candidates,
            normalize=normalize,
            gradient=gradient,
            step=step,
            step_size=0.5,
        )
        chosen = glister.select(pool, lookahead, K, key=3)
        assert len(chosen.ids) == len(set(chosen.ids.tolist())) == K, glister
        assert set(chosen.ids.tolist()) <= set(p.ids_N.tolist())
        assert np.isfinite(chosen.gains).all()
        assert chosen.weights.tolist() == [1.0] * K
        if candidates == 1.0 and balance != "none":
            quota_C = class_quotas(balance, K, *counts(p))
            assert np.bincount(chosen.labels, minlength=3).tolist() == quota_C, glister


@settings(max_examples=25)
@given(
    seed=SEEDS,
    shards=st.integers(1, 7),
    picks=st.sampled_from(PICKS),
    balance=st.sampled_from(BALANCES),
    regularizer=st.sampled_from(REGULARIZERS),
    gradient=st.sampled_from(["last_layer", "bias"]),
    candidates=st.sampled_from([1.0, 1.5]),
)
def test_any_number_of_shards_and_any_order_of_rows_give_the_same_ids_in_the_same_order(
    seed, shards, picks, balance, regularizer, gradient, candidates
):
    p = problem(seed, n=20)
    glister = rs.Glister(
        picks=picks,
        balance=balance,
        regularizer=regularizer,
        gradient=gradient,
        candidates=candidates,
    )
    one = glister.select(whole(p), lookahead_of(p), K, key=5)
    many = glister.select(sharded(p, shards, seed), lookahead_of(p), K, key=5)
    np.testing.assert_array_equal(many.ids, one.ids)
    np.testing.assert_allclose(many.gains, one.gains, rtol=1e-6)
    np.testing.assert_array_equal(many.labels, one.labels)


@pytest.mark.parametrize("shards", range(1, 8))
@pytest.mark.parametrize("picks", [rs.Exact(), rs.Block(50)], ids=repr)
def test_in_fp32_shards_differ_at_most_where_gains_are_equal_to_a_millionth(shards, picks):
    p = problem(8, n=3000, v=50, c=10, h=64, dtype=np.float32)
    glister = rs.Glister(picks=picks)
    one = glister.select(whole(p), lookahead_of(p), 200)
    many = glister.select(sharded(p, shards), lookahead_of(p), 200)
    differ = one.ids != many.ids
    # fp32 bits depend on a row's place in a product: a swap needs gains as near as that.
    np.testing.assert_allclose(one.gains[differ], many.gains[differ], rtol=1e-6)
    assert len(set(one.ids.tolist()) ^ set(many.ids.tolist())) <= 2


def exact_factors(num_rows: int, copies: int) -> rs.GradientFactors:
    """Rows of small dyadic numbers, each several times: their gains are exact, so are the ties."""
    rng = np.random.default_rng(0)
    residual = torch.from_numpy(rng.integers(-4, 5, (num_rows, 4)) / 4.0).repeat(copies, 1)
    embedding = torch.from_numpy(rng.integers(-3, 4, (num_rows, 3)) * 1.0).repeat(copies, 1)
    return rs.GradientFactors(
        ids_N=torch.arange(num_rows * copies),
        label_N=torch.zeros(num_rows * copies, dtype=torch.int64),
        residual_NC=residual,
        embedding_NH=embedding,
    )


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_exact_ties_go_to_the_lower_id_wherever_the_copies_lie(shards):
    factors = exact_factors(6, copies=4)
    # Zero logits of 4 classes over 4 rows: softmax, residuals and direction are dyadic as well.
    lookahead = rs.Lookahead.from_embeddings(
        [[1, 0, 2], [0, 1, 1], [3, 1, 0], [1, 1, 1]], [0, 1, 1, 3], np.zeros((4, 3)), np.zeros(4)
    )
    order = torch.from_numpy(np.random.default_rng(shards).permutation(24))
    parts = [rs.LocalGroundSet(factors.take(part)) for part in order.tensor_split(shards)]
    glister = rs.Glister(picks=rs.Block(24), balance="none", step_size=1.0)
    chosen = glister.select(rs.ShardedGroundSet(parts), lookahead, 20)
    ranked = sorted(zip(-chosen.gains, chosen.ids.tolist(), strict=True))
    assert [i for _, i in ranked] == chosen.ids.tolist()
    first = rs.Glister(balance="none", step_size=1.0).select(
        rs.ShardedGroundSet(parts), lookahead, 1
    )
    assert first.ids.tolist() == chosen.ids[:1].tolist()
    assert first.ids[0] < 6


@given(seed=SEEDS, picks=st.sampled_from(PICKS), size=st.sampled_from([0.01, 0.3, 2.0]))
def test_a_mean_step_is_a_summed_step_of_one_kth(seed, picks, size):
    p = problem(seed)
    mean = rs.Glister(step="mean", step_size=size, picks=picks)
    summed = rs.Glister(step="sum", step_size=size / K, picks=picks)
    a = mean.select(whole(p), lookahead_of(p), K)
    b = summed.select(whole(p), lookahead_of(p), K)
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.gains, b.gains)


@pytest.mark.parametrize("picks", PICKS, ids=repr)
def test_the_whole_budget_returns_every_id_and_asks_no_score(picks):
    p = problem(9)
    spy = SpyGroundSet(whole(p))
    chosen = rs.Glister(picks=picks).select(spy, lookahead_of(p), 24)
    assert chosen.ids.tolist() == sorted(p.ids_N.tolist())
    assert spy.asked == []
    assert spy.sums == 0
    assert chosen.weights.tolist() == [1.0] * 24


@pytest.mark.parametrize("n", [1, 2])
def test_the_smallest_pools_work(n):
    p = problem(10, n=n)
    for picks, budget in itertools.product(PICKS, range(1, n + 1)):
        assert len(rs.Glister(picks=picks).select(whole(p), lookahead_of(p), budget).ids) == budget


def test_a_block_is_taken_under_one_direction_and_the_next_looks_again():
    p = problem(11)
    spy = SpyGroundSet(whole(p))
    chosen = rs.Glister(picks=rs.Block(4)).select(spy, lookahead_of(p), K)
    blocks = spy.asked[:3]
    assert [asked.k for asked in blocks] == [4, 4, 1]
    assert [i for asked in blocks for i in asked.ids] == chosen.ids.tolist()
    first, second, third = (asked.score.direction for asked in blocks)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_a_class_that_validation_or_the_pool_lacks_breaks_nothing():
    p = problem(12, n=30, c=4)
    for missing in range(4):
        pool = factors_of(p)
        pool = rs.LocalGroundSet(pool.take(torch.from_numpy(p.label_N != missing)))
        rows = p.label_V != (missing + 1) % 4
        look = rs.Lookahead.from_embeddings(
            p.embedding_VH[rows], p.label_V[rows], p.weight_CH, p.bias_C
        )
        for balance in BALANCES:
            chosen = rs.Glister(balance=balance).select(pool, look, K)
            assert len(set(chosen.ids.tolist())) == K
            assert missing not in chosen.labels
            if balance != "none":
                assert len(set(chosen.labels.tolist())) == 3


@pytest.mark.parametrize("make", [torch.from_numpy, np.asarray, np.ndarray.tolist])
def test_the_form_of_the_inputs_does_not_change_the_ids(make):
    p = problem(13)
    expected = rs.Glister().select(whole(p), lookahead_of(p), K)
    head = make(p.weight_CH), make(p.bias_C)
    factors = rs.GradientFactors.from_embeddings(
        make(p.embedding_NH), make(p.label_N), *head, ids=make(p.ids_N)
    )
    look = rs.Lookahead.from_embeddings(make(p.embedding_VH), make(p.label_V), *head)
    chosen = rs.Glister().select(rs.LocalGroundSet(factors), look, K)
    np.testing.assert_array_equal(chosen.ids, expected.ids)
    np.testing.assert_array_equal(chosen.gains, expected.gains)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_16_bit_embeddings_choose_as_the_same_numbers_in_fp32(half, regularizer):
    p = problem(14, dtype=np.float32)
    head = p.weight_CH, p.bias_C
    pool, validation = torch.from_numpy(p.embedding_NH), torch.from_numpy(p.embedding_VH)
    chosen = {}
    for wide in (False, True):
        cast = (lambda x: x.to(half).float()) if wide else (lambda x: x.to(half))
        factors = rs.GradientFactors.from_embeddings(cast(pool), p.label_N, *head)
        look = rs.Lookahead.from_embeddings(cast(validation), p.label_V, *head)
        glister = rs.Glister(regularizer=regularizer)
        chosen[wide] = glister.select(rs.LocalGroundSet(factors), look, K)
    np.testing.assert_array_equal(chosen[False].ids, chosen[True].ids)
    np.testing.assert_array_equal(chosen[False].gains, chosen[True].gains)


def test_pool_and_validation_may_be_of_different_types():
    p, narrow = problem(15), problem(15, dtype=np.float32)
    a = rs.Glister().select(whole(narrow), lookahead_of(p), K)
    b = rs.Glister().select(whole(p), lookahead_of(narrow), K)
    assert len(a.ids) == len(b.ids) == K


def tensors_of(factors: object) -> list[torch.Tensor]:
    return [value for value in vars(factors).values() if isinstance(value, torch.Tensor)]


def test_selecting_twice_gives_the_same_and_changes_nothing():
    p = problem(16)
    pool, lookahead = whole(p), lookahead_of(p)
    kept = [t.clone() for t in vars(pool.factors).values() if isinstance(t, torch.Tensor)]
    logits_VC = lookahead.logits_VC.clone()
    first, second = (rs.Glister().select(pool, lookahead, K, key=1) for _ in range(2))
    np.testing.assert_array_equal(first.ids, second.ids)
    values = tensors_of(pool.factors)[: len(kept)]
    assert all(torch.equal(a, b) for a, b in zip(kept, values, strict=True))
    assert torch.equal(lookahead.logits_VC, logits_VC)


@pytest.mark.parametrize("budget", [0, -3, 25, float("nan"), 2.5])
def test_budgets_that_the_pool_cannot_meet_are_refused(budget):
    p = problem(17)
    for strategy in (rs.Glister(), rs.Random(), rs.AdaptiveRandom()):
        with pytest.raises(BudgetError):
            strategy.select(whole(p), lookahead_of(p), budget)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"gradient": "full"}, "'last_layer' or 'bias'"),
        ({"step": "max"}, "'mean' or 'sum'"),
        ({"step_size": 0}, "above 0, or 'auto'"),
        ({"step_size": float("nan")}, "above 0, or 'auto'"),
        ({"step_size": float("inf")}, "above 0, or 'auto'"),
        ({"step_size": "fast"}, "above 0, or 'auto'"),
        ({"candidates": 0.5}, "1 \\(all\\) or more"),
        ({"candidates": float("nan")}, "1 \\(all\\) or more"),
        ({"candidates": float("inf")}, "1 \\(all\\) or more"),
    ],
)
def test_options_that_mean_nothing_are_refused_with_the_choice(options, remedy):
    with pytest.raises(ConfigError, match=remedy):
        rs.Glister(**options)


def test_a_missing_lookahead_is_refused_with_how_to_make_one():
    with pytest.raises(ConfigError, match=r"Lookahead\.from_embeddings"):
        rs.Glister().select(whole(problem(18)), None, 3)


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
def test_a_lookahead_that_overflows_is_refused_instead_of_choosing_too_few(regularizer):
    p = problem(19, dtype=np.float32)
    glister = rs.Glister(step="sum", step_size=1e38, regularizer=regularizer)
    with pytest.raises(ConfigError, match="lower step_size"):
        glister.select(whole(p), lookahead_of(p), K)


@pytest.mark.parametrize("picks", PICKS, ids=repr)
def test_strategies_are_values_that_travel(picks):
    glister = rs.Glister(picks=picks, regularizer=rs.Diversity(0.5), step_size=0.05)
    assert pickle.loads(pickle.dumps(glister)) == glister
    assert hash(glister) == hash(pickle.loads(pickle.dumps(glister)))


def test_what_is_taken_is_never_asked_for_again():
    p = problem(20)
    spy = SpyGroundSet(whole(p))
    chosen = rs.Glister().select(spy, lookahead_of(p), K)
    greedy = [asked for asked in spy.asked if asked.k == 1][:K]
    for rank, asked in enumerate(greedy):
        assert asked.taken.ids_K.tolist() == chosen.ids[:rank].tolist()
