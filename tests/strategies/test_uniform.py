"""Random, adaptive random and full: the laws of the controls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import raysubset as rs
from raysubset.core.quotas import class_quotas
from raysubset.errors import ConfigError
from tests.core.problems import SEEDS, counts, lookahead_of, problem, sharded, whole

BALANCES = ("none", "pool", "equal", "validation")
N, K = 24, 7


def slices(p, budget: int, epochs: range, balance: str = "none", key: int = 0) -> np.ndarray:
    strategy = rs.AdaptiveRandom(balance=balance)
    chosen = strategy.select(whole(p), lookahead_of(p), budget, key, epochs)
    assert len(chosen) == budget
    return np.array([chosen.of_epoch(i) for i in range(len(epochs))])


@given(n=st.integers(1, 20), data=st.data(), key=st.integers(0, 99))
def test_an_epoch_of_adaptive_random_visits_no_id_twice(n, data, key):
    budget, epochs = data.draw(st.integers(1, n)), data.draw(st.integers(1, 12))
    for ids in slices(problem(0, n=n), budget, range(epochs), key=key):
        assert len(set(ids.tolist())) == budget


@given(n=st.integers(1, 20), data=st.data(), key=st.integers(0, 99))
def test_after_any_epoch_visits_differ_by_at_most_one(n, data, key):
    # Stronger than "over any whole number of permutations", where they are then all equal.
    budget, p = data.draw(st.integers(1, n)), problem(0, n=n)
    times = dict.fromkeys(p.ids_N.tolist(), 0)
    for epoch, ids in enumerate(slices(p, budget, range(12), key=key), start=1):
        for i in ids.tolist():
            times[i] += 1
        assert max(times.values()) - min(times.values()) <= 1
        if epoch * budget % n == 0:
            assert set(times.values()) == {epoch * budget // n}


@given(
    start=st.integers(0, 30),
    length=st.integers(1, 10),
    budget=st.integers(1, N),
    balance=st.sampled_from(BALANCES),
)
def test_a_resumed_stretch_of_epochs_is_that_slice_of_the_whole_run(start, length, budget, balance):
    p = problem(1, n=N)
    run = slices(p, budget, range(start + length), balance)
    np.testing.assert_array_equal(
        slices(p, budget, range(start, start + length), balance), run[start:]
    )


@pytest.mark.parametrize("balance", ["pool", "equal", "validation"])
@given(seed=SEEDS, budget=st.integers(1, N))
def test_every_epoch_of_adaptive_random_meets_the_quotas(balance, seed, budget):
    p = problem(seed, n=N)
    label = dict(zip(p.ids_N.tolist(), p.label_N.tolist(), strict=True))
    quota_C = class_quotas(balance, budget, *counts(p))
    times = dict.fromkeys(label, 0)
    for ids in slices(p, budget, range(6), balance):
        assert np.bincount([label[i] for i in ids.tolist()], minlength=3).tolist() == quota_C
        assert len(set(ids.tolist())) == budget
        for i in ids.tolist():
            times[i] += 1
    for c, quota in enumerate(quota_C):
        visits = [times[i] for i in label if label[i] == c]
        assert not quota or max(visits) - min(visits) <= 1


def test_an_epoch_is_a_uniform_sample():
    p = problem(2, n=10)
    first = np.concatenate([slices(p, 3, range(4, 5), key=key)[0] for key in range(1_000)])
    _, times = np.unique(first, return_counts=True)
    assert len(times) == 10
    assert stats.chisquare(times).pvalue > 1e-3


def test_another_key_is_another_run():
    p = problem(3, n=N)
    assert not np.array_equal(slices(p, K, range(3), key=0), slices(p, K, range(3), key=1))


def test_the_whole_budget_visits_every_id_in_every_epoch_in_a_new_order():
    p = problem(4, n=N)
    for balance in BALANCES:
        run = slices(p, N, range(3), balance)
        assert all(sorted(ids.tolist()) == sorted(p.ids_N.tolist()) for ids in run)
        assert not np.array_equal(run[0], run[1])


@pytest.mark.parametrize("balance", BALANCES)
@given(seed=SEEDS, budget=st.integers(1, N), key=st.integers(0, 99))
def test_random_meets_budget_and_quotas_without_duplicates(balance, seed, budget, key):
    p = problem(seed, n=N)
    chosen = rs.Random(balance=balance).select(whole(p), lookahead_of(p), budget, key)
    assert len(set(chosen.ids.tolist())) == len(chosen) == budget
    quota_C = class_quotas(balance, budget, *counts(p))
    if quota_C is not None:
        assert np.bincount(chosen.labels, minlength=3).tolist() == quota_C


def test_random_is_fixed_for_the_run():
    p = problem(5, n=N)
    rounds = [
        rs.Random().select(whole(p), None, K, 3, range(start, start + 5)).ids.tolist()
        for start in (0, 5, 10)
    ]
    assert rounds[0] == rounds[1] == rounds[2]
    assert rs.Random().select(whole(p), None, K, 4).ids.tolist() != rounds[0]


@pytest.mark.parametrize("strategy", [rs.Random, rs.AdaptiveRandom])
@given(seed=SEEDS, shards=st.integers(1, 7), balance=st.sampled_from(BALANCES))
def test_neither_shards_nor_the_order_of_rows_change_a_draw(strategy, seed, shards, balance):
    p = problem(seed, n=N)
    one, many = (
        strategy(balance=balance).select(pool, lookahead_of(p), K, 1, range(2, 6))
        for pool in (whole(p), sharded(p, shards, seed))
    )
    np.testing.assert_array_equal(one.ids, many.ids)
    np.testing.assert_array_equal(one.labels, many.labels)


@pytest.mark.parametrize("strategy", [rs.Random(), rs.AdaptiveRandom(), rs.Full()])
def test_controls_need_no_factors_and_score_nothing(strategy):
    assert strategy.needs == frozenset()
    factors = rs.GradientFactors.from_labels([0, 1] * 10, 2)
    chosen = strategy.select(rs.LocalGroundSet(factors), None, 20)
    assert sorted(chosen.ids.tolist()) == list(range(20))
    assert np.isnan(chosen.gains).all()
    assert chosen.weights is None


@pytest.mark.parametrize("strategy", [rs.Random, rs.AdaptiveRandom])
def test_quotas_of_validation_need_its_labels_and_no_more(strategy):
    pool = rs.LocalGroundSet(rs.GradientFactors.from_labels([0, 1] * 10, 2))
    look = rs.Lookahead.from_labels([0, 0, 0, 1], 2)
    chosen = strategy(balance="validation").select(pool, look, 8)
    assert np.bincount(chosen.labels).tolist() == [6, 2]
    with pytest.raises(ConfigError, match="needs the validation labels"):
        strategy(balance="validation").select(pool, None, 8)


def test_full_is_every_id_in_order_whatever_the_budget():
    p = problem(6, n=N)
    for budget in (None, 1, N):
        chosen = rs.Full().select(sharded(p, 3), None, budget)
        assert chosen.ids.tolist() == sorted(p.ids_N.tolist())
        assert chosen.fraction == 1.0
