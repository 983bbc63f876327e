"""Randomness is a key, hashed with an id."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from raysubset.core.keys import derive_key, hash_ids, permute, uniform
from tests import oracles

INT_64 = st.integers(-(2**63), 2**63 - 1)


@given(numbers=st.lists(INT_64, min_size=1, max_size=20), key=st.integers(0, 2**63 - 1))
def test_the_hash_is_splitmix64(numbers, key):
    hashed = hash_ids(torch.tensor(numbers), key).tolist()
    assert hashed == [oracles.splitmix64(i, key) for i in numbers]


def test_the_hash_reproduces_the_published_first_outputs():
    # splitmix64 seeded with 0 adds its increment before each output: output i hashes i + 1.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    hashed = hash_ids(torch.tensor([1, 2, 3]), 0).tolist()
    assert [h % 2**64 for h in hashed] == published


@pytest.mark.parametrize("key", [0, 1, derive_key(0, "select"), 2**63 - 1])
def test_numbers_of_consecutive_ids_are_uniform_and_uncorrelated(key):
    number_N = uniform(torch.arange(100_000), key).numpy()
    # Fixed input, so no flake; below 1 in 1,000 the hash itself would be the suspect.
    assert stats.kstest(number_N, "uniform").pvalue > 1e-3
    for lag in (1, 2, 7):
        # A correlation of n independent pairs has standard deviation 1 / sqrt(n); 4 of them.
        assert abs(np.corrcoef(number_N[:-lag], number_N[lag:])[0, 1]) < 4 / np.sqrt(100_000)


def test_numbers_of_one_id_are_uniform_over_keys():
    keys = [derive_key(0, "round", i) for i in range(20_000)]
    number_R = [float(uniform(torch.tensor([12]), key)) for key in keys]
    assert stats.kstest(number_R, "uniform").pvalue > 1e-3


def test_numbers_lie_below_one():
    # The largest 53-bit fraction: rounding to float64 may not reach 1.
    assert float(uniform(torch.arange(1_000_000), 5).max()) < 1.0
    assert float(uniform(torch.arange(1_000_000), 5).min()) >= 0.0


@given(ids=st.lists(INT_64, unique=True, max_size=30), key=INT_64, data=st.data())
def test_a_permutation_does_not_depend_on_the_order_given(ids, key, data):
    other = data.draw(st.permutations(ids))
    first = permute(torch.tensor(ids, dtype=torch.int64), key)
    assert torch.equal(first, permute(torch.tensor(other, dtype=torch.int64), key))
    assert sorted(first.tolist()) == sorted(ids)


def test_every_order_of_four_is_equally_likely():
    keys = [derive_key(3, i) for i in range(4_800)]
    seen = [tuple(permute(torch.arange(4), key).tolist()) for key in keys]
    _, count = np.unique(np.array(seen), axis=0, return_counts=True)
    assert len(count) == 24
    assert stats.chisquare(count).pvalue > 1e-3


def test_keys_are_the_same_on_every_machine_and_version():
    # Two values written down once: a change of them changes every random choice ever made.
    assert derive_key(0, "select") == 3513961828248191150
    assert derive_key(7, "glister", 3) == 7141859675922170110
    assert len({derive_key(0, "a"), derive_key(1, "a"), derive_key(0, "b"), derive_key(0)}) == 4


def test_keys_fit_into_int64():
    assert all(0 <= derive_key(i, "x") < 2**63 for i in range(1000))
