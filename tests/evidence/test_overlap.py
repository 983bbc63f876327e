"""Overlap of chosen ids, and what chance would give."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.errors import ConfigError
from raysubset.evidence.overlap import always, jaccard, mean_overlap, never, overlap_by_chance

IDS = st.lists(st.integers(0, 30), unique=True, min_size=1)
BY_SEED = st.dictionaries(st.integers(0, 9), IDS, min_size=2, max_size=5)


@given(a=IDS, b=IDS)
def test_jaccard_is_the_share_of_either_that_both_have(a: list[int], b: list[int]):
    expected = len(set(a) & set(b)) / len(set(a) | set(b))
    assert jaccard(a, b) == jaccard(np.array(b), a[::-1]) == expected
    assert jaccard(a, a) == 1.0


@given(ids_by_seed=BY_SEED)
def test_the_mean_is_over_all_pairs(ids_by_seed: dict[int, list[int]]):
    shares = [jaccard(a, b) for a, b in combinations(ids_by_seed.values(), 2)]
    overlap = mean_overlap(ids_by_seed)
    assert overlap.mean == pytest.approx(np.mean(shares))
    assert (overlap.low, overlap.high) == (min(shares), max(shares))
    assert overlap.num_pairs == len(shares)
    assert mean_overlap(dict(reversed(ids_by_seed.items()))) == overlap


@given(ids_by_seed=BY_SEED)
def test_always_and_never_are_the_ids_of_all_seeds_and_of_none(
    ids_by_seed: dict[int, list[int]],
):
    sets = [set(ids) for ids in ids_by_seed.values()]
    pool = range(40)
    assert always(ids_by_seed).tolist() == sorted(set.intersection(*sets))
    assert never(ids_by_seed, pool).tolist() == sorted(set(pool) - set.union(*sets))


@pytest.mark.parametrize(("a", "b", "pool"), [(1, 1, 3), (2, 3, 5), (4, 4, 6), (0, 2, 4)])
def test_chance_is_the_mean_over_every_subset_there_is(a: int, b: int, pool: int):
    fixed = list(range(a))
    shares = [jaccard(fixed, other) for other in combinations(range(pool), b)]
    assert overlap_by_chance(a, b, pool) == pytest.approx(np.mean(shares))


@given(a=st.integers(1, 200), b=st.integers(1, 200), more=st.integers(0, 500))
def test_chance_is_a_share_and_both_sides_are_alike(a: int, b: int, more: int):
    pool = max(a, b) + more
    chance = overlap_by_chance(a, b, pool)
    assert 0 <= chance <= 1 + 1e-12
    assert chance == pytest.approx(overlap_by_chance(b, a, pool))
    assert overlap_by_chance(pool, pool, pool) == pytest.approx(1.0)


def test_random_subsets_overlap_as_by_chance():
    rng = np.random.default_rng(0)
    drawn = {seed: rng.permutation(1000)[:300] for seed in range(20)}
    chance = overlap_by_chance(300, 300, 1000)
    assert mean_overlap(drawn).mean == pytest.approx(chance, abs=0.01)


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5])
def test_in_a_large_pool_chance_is_f_over_2_minus_f(fraction: float):
    size = int(fraction * 45_000)
    assert overlap_by_chance(size, size, 45_000) == pytest.approx(
        fraction / (2 - fraction), rel=2e-3
    )


def test_what_has_no_overlap_is_refused():
    with pytest.raises(ConfigError, match="both subsets are empty"):
        jaccard([], [])
    assert jaccard([], [1]) == 0.0
    with pytest.raises(ConfigError, match="run at least 2 seeds"):
        mean_overlap({0: [1, 2]})
    with pytest.raises(ConfigError, match="no seed has chosen"):
        always({})
    with pytest.raises(ConfigError, match="no seed has chosen"):
        never({}, [1])


@pytest.mark.parametrize(("a", "b", "pool"), [(5, 2, 4), (-1, 2, 4), (0, 0, 4)])
def test_sizes_that_a_pool_cannot_give_are_refused(a: int, b: int, pool: int):
    with pytest.raises(ConfigError, match="cannot be drawn"):
        overlap_by_chance(a, b, pool)
