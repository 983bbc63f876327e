"""Where GLISTER looks at a sample: candidates, stochastic picks, random fill."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import raysubset as rs
from raysubset.core.quotas import class_quotas
from raysubset.core.scores import Alignment
from raysubset.errors import ConfigError
from tests.core.problems import SEEDS, counts, lookahead_of, problem, whole
from tests.strategies.spies import SpyGroundSet

N, K = 60, 6


def sample_of(
    key: int, start: int, multiple: float = 2.5, **options
) -> tuple[list[int], list[int]]:
    """The ids that GLISTER drew as candidates, and the ids that it chose."""
    p = problem(1, n=N)
    spy = SpyGroundSet(whole(p))
    glister = rs.Glister(candidates=2.5, **options)
    chosen = glister.select(spy, lookahead_of(p), K, key=key, epochs=range(start, start + 5))
    (draw,) = spy.draws
    return draw.ids, chosen.ids.tolist()


@pytest.mark.parametrize("balance", ["none", "equal", "validation", "pool"])
def test_the_chosen_lie_within_a_sample_of_m_times_k(balance):
    sample, chosen = sample_of(key=0, start=0, balance=balance)
    assert len(sample) == len(set(sample)) == 15
    assert set(chosen) < set(sample)
    assert len(set(chosen)) == K


def test_the_sample_is_fresh_in_every_round_and_the_same_when_a_round_is_repeated():
    rounds = [set(sample_of(key=0, start=start)[0]) for start in range(0, 50, 5)]
    assert len({frozenset(sample) for sample in rounds}) == 10
    assert sample_of(key=0, start=5)[0] != sample_of(key=1, start=5)[0]
    assert sample_of(key=0, start=5) == sample_of(key=0, start=5)


def test_every_id_is_as_likely_a_candidate_as_any_other():
    drawn = [i for key in range(300) for i in sample_of(key, 0)[0]]
    _, times = np.unique(drawn, return_counts=True)
    assert len(times) == N
    assert stats.chisquare(times).pvalue > 1e-3


def test_candidates_count_by_decimals():
    # 1.15 * 100 is 114.99999999999999 in binary.
    p = problem(2, n=200)
    spy = SpyGroundSet(whole(p))
    rs.Glister(candidates=1.15, picks=rs.Blocks(2)).select(spy, lookahead_of(p), 100)
    assert len(spy.draws[0].ids) == 115


@pytest.mark.parametrize("multiple", [1.0, 10.0, 50.0])
def test_without_a_smaller_sample_all_are_candidates(multiple):
    p = problem(3, n=N)
    spy = SpyGroundSet(whole(p))
    chosen = rs.Glister(candidates=multiple).select(spy, lookahead_of(p), K)
    assert spy.draws == []
    np.testing.assert_array_equal(chosen.ids, rs.Glister().select(whole(p), lookahead_of(p), K).ids)


@settings(max_examples=20)
@given(
    seed=SEEDS,
    epsilon=st.sampled_from([0.01, 0.1, 0.5, 0.9]),
    balance=st.sampled_from(["none", "equal", "validation"]),
    regularizer=st.sampled_from([None, rs.FacilityLocation(0.1), rs.Diversity(0.1)]),
)
def test_each_stochastic_pick_comes_from_a_sample_of_all_open_ids(
    seed, epsilon, balance, regularizer
):
    p = problem(seed, n=N)
    spy = SpyGroundSet(whole(p))
    picks = rs.Stochastic(epsilon)
    glister = rs.Glister(picks=picks, balance=balance, regularizer=regularizer, step_size=1.0)
    chosen = glister.select(spy, lookahead_of(p), K, key=7)
    label = dict(zip(p.ids_N.tolist(), p.label_N.tolist(), strict=True))
    quota_C = class_quotas(balance, K, *counts(p)) or [N] * 3
    size = math.ceil(N / K * math.log(1 / epsilon))
    assert len(spy.draws) == K
    for rank, draw in enumerate(spy.draws):
        before = chosen.ids[:rank].tolist()
        room = [quota_C[c] - [label[i] for i in before].count(c) for c in range(3)]
        legal = {i for i in label if i not in before and room[label[i]] > 0}
        assert set(draw.ids) <= legal
        assert len(set(draw.ids)) == min(size, len(legal))
        assert chosen.ids[rank] in draw.ids


def test_every_stochastic_pick_draws_a_fresh_sample():
    p = problem(9, n=200)
    spy = SpyGroundSet(whole(p))
    rs.Glister(picks=rs.Stochastic(0.5), balance="none").select(spy, lookahead_of(p), 20)
    # 7 of 200: two fresh samples share 0.25 ids on average, one sample carried on shares 6.
    shared = [len(set(a.ids) & set(b.ids)) for a, b in pairwise(spy.draws)]
    assert len(spy.draws[0].ids) == 7
    assert sum(shared) / len(shared) < 1


def test_a_stochastic_pick_has_the_largest_gain_of_its_sample():
    p = problem(4, n=N)
    spy = SpyGroundSet(whole(p))
    chosen = rs.Glister(picks=rs.Stochastic(0.3), step_size=1.0, balance="none").select(
        spy, lookahead_of(p), K
    )
    look = lookahead_of(p)
    first = spy.draws[0].best.factors
    gain = Alignment(look.direction(look.logits_VC))(first)
    assert chosen.ids[0] == int(first.ids_N[gain.argmax()])


def test_stochastic_picks_are_reproduced_by_their_key():
    p = problem(5, n=N)
    glister = rs.Glister(picks=rs.Stochastic(0.5))

    def ids(key: int, start: int = 0) -> tuple[int, ...]:
        epochs = range(start, start + 1)
        return tuple(glister.select(whole(p), lookahead_of(p), K, key, epochs).ids.tolist())

    assert ids(0) == ids(0)
    assert len({ids(key) for key in range(10)}) > 1
    assert len({ids(0, start) for start in range(10)}) > 1


def test_a_sample_of_all_is_exact_greedy():
    p = problem(6, n=N)
    a = rs.Glister(picks=rs.Stochastic(1e-30)).select(whole(p), lookahead_of(p), K)
    b = rs.Glister(picks=rs.Exact()).select(whole(p), lookahead_of(p), K)
    np.testing.assert_array_equal(a.ids, b.ids)


@pytest.mark.parametrize("balance", ["none", "equal", "pool", "validation"])
@pytest.mark.parametrize(("share", "random"), [(0.0, 0), (0.29, 29), (0.5, 50), (1.0, 100)])
def test_random_fill_is_greedy_first_and_then_uniform(balance, share, random):
    p = problem(7, n=130)

    def select(regularizer, key: int = 0) -> rs.Selection:
        glister = rs.Glister(balance=balance, regularizer=regularizer, step_size=0.5)
        return glister.select(whole(p), lookahead_of(p), 100, key=key)

    plain, filled = select(None), select(rs.RandomFill(share))
    greedy = 100 - random
    np.testing.assert_array_equal(filled.ids[:greedy], plain.ids[:greedy])
    assert len(set(filled.ids.tolist())) == 100
    keys = [select(rs.RandomFill(share), key) for key in range(4)]
    assert len({tuple(chosen.ids[:greedy]) for chosen in keys}) == 1
    if random:
        assert len({int(chosen.ids[greedy]) for chosen in keys}) > 1
    if balance != "none":
        assert sorted(filled.labels.tolist()) == sorted(plain.labels.tolist())


def test_every_id_that_greedy_leaves_is_as_likely_to_fill():
    p = problem(8, n=20)
    glister = rs.Glister(regularizer=rs.RandomFill(0.5), balance="none", step_size=0.5)
    runs = [glister.select(whole(p), lookahead_of(p), 10, key=key).ids[5:] for key in range(400)]
    _, times = np.unique(np.concatenate(runs), return_counts=True)
    assert len(times) == 15
    assert stats.chisquare(times).pvalue > 1e-3


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\]"):
        rs.RandomFill(share)


@pytest.mark.parametrize("kind", [rs.FacilityLocation, rs.Diversity])
@pytest.mark.parametrize("lam", [-1e-9, float("nan"), float("inf")])
def test_a_weight_that_is_negative_or_not_finite_is_refused(kind, lam):
    with pytest.raises(ConfigError, match=kind.__name__):
        kind(lam)
