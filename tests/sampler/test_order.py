"""Which rows are drawn, in which order and by which rank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import raysubset as rs
from raysubset.core.keys import derive_key, permute
from raysubset.errors import ConfigError
from raysubset.sampler import SubsetSampler

IDS = st.lists(st.integers(0, 10**12), min_size=1, max_size=40, unique=True)
WORLDS = st.integers(1, 7)


def ranks(ids: list[int], world_size: int, epoch: int, **options) -> list[list[int]]:
    """What each rank draws."""
    drawn: list[list[int]] = []
    for rank in range(world_size):
        sampler = SubsetSampler(ids, rank=rank, world_size=world_size, **options)
        sampler.set_epoch(epoch)
        drawn.append(list(sampler))
        assert len(sampler) == sampler.num_samples == len(drawn[-1])
    return drawn


@given(IDS, st.integers(), st.integers(0, 10**6), st.randoms())
def test_the_order_is_a_function_of_seed_epoch_and_ids_alone(ids, seed, epoch, random):
    sampler = SubsetSampler(ids, seed=seed)
    sampler.set_epoch(epoch)
    expected = permute(torch.tensor(sorted(ids)), derive_key(seed, "sampler", epoch)).tolist()
    assert list(sampler) == expected
    random.shuffle(ids)
    other = SubsetSampler(ids, seed=seed)
    for before in (5, 3, epoch):  # whatever was drawn before
        other.set_epoch(before)
        list(other)
    assert list(other) == expected


def test_no_global_random_state_is_read_or_changed():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  # whether it stays as it is
    first, torch_state, numpy_state = (
        list(SubsetSampler(range(50))),
        torch.get_rng_state(),
        np.random.get_state()[1],  # noqa: NPY002
    )
    torch.manual_seed(1)
    assert torch.equal(torch_state, torch.get_rng_state())
    torch.manual_seed(2)
    assert list(SubsetSampler(range(50))) == first
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = set[tuple[int, ...]]()
    for seed in range(5):
        sampler = SubsetSampler(range(50), seed=seed)
        for epoch in range(5):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 25


def test_without_set_epoch_passes_are_alike_as_pytorchs_are():
    sampler = SubsetSampler(range(20))
    assert list(sampler) == list(sampler)


@given(IDS, WORLDS, st.integers(0, 99))
def test_ranks_that_keep_the_remainder_draw_each_id_once(ids, world_size, epoch):
    drawn = ranks(ids, world_size, epoch, remainder="keep")
    assert sorted(row for rank in drawn for row in rank) == sorted(ids)
    lengths = [len(rank) for rank in drawn]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@given(IDS, WORLDS, st.integers(0, 99))
def test_ranks_that_drop_the_remainder_have_as_many_each_and_repeat_none(ids, world_size, epoch):
    drawn = ranks(ids, world_size, epoch)
    together = [row for rank in drawn for row in rank]
    assert len(set(together)) == len(together) == len(ids) - len(ids) % world_size
    assert len({len(rank) for rank in drawn}) == 1
    assert set(together) <= set(ids)


def test_what_is_dropped_differs_by_epoch_so_that_every_id_is_visited():
    visited = set[int]()
    for epoch in range(40):
        visited.update(row for rank in ranks(list(range(10)), 4, epoch) for row in rank)
    assert visited == set(range(10))


@given(IDS, WORLDS, st.integers(0, 40))
def test_after_n_rows_each_the_ranks_drew_what_one_process_draws_first(ids, world_size, count):
    (alone,) = ranks(ids, 1, 0, remainder="keep")
    drawn = ranks(ids, world_size, 0, remainder="keep")
    count = min(count, len(drawn[-1]))
    together = [row for rank in drawn for row in rank[:count]]
    assert sorted(together) == sorted(alone[: count * world_size])


@given(IDS, st.integers(0, 5))
def test_without_shuffle_the_order_is_that_of_choice(ids, epoch):
    sampler = SubsetSampler(ids, shuffle=False)
    sampler.set_epoch(epoch)
    assert list(sampler) == ids == sampler.ids.tolist() == sampler.positions.tolist()


def selection_of(slices: list[list[int]], weights: np.ndarray) -> rs.Selection:
    ids = np.array(slices, dtype=np.int64).ravel()
    return rs.Selection(
        ids=ids,
        gains=np.zeros(len(ids), dtype=np.float32),
        weights=weights,
        labels=np.zeros(len(ids), dtype=np.int64),
        num_pool=30,
        num_classes=1,
        fraction=len(slices[0]) / 30,
        epochs=len(slices),
    )


@given(st.data())
def test_each_epoch_draws_its_own_slice_with_its_own_weights(data):
    epochs, k = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    slices = [data.draw(st.permutations(range(30)))[:k] for _ in range(epochs)]
    weights = np.arange(epochs * k, dtype=np.float32) + 0.5
    sampler = rs.SubsetSampler(selection_of(slices, weights))
    for epoch in data.draw(st.lists(st.integers(0, 9), min_size=1)):
        sampler.set_epoch(epoch)
        at = epoch % epochs
        own = dict(zip(slices[at], weights[k * at : k * at + k].tolist(), strict=True))
        drawn = list(sampler)
        assert sorted(drawn) == sorted(own)
        assert sampler.weights_of(drawn).tolist() == [own[row] for row in drawn]
        assert dict(zip(sampler.ids.tolist(), sampler.weights.tolist(), strict=True)) == own


def test_weights_are_one_where_nothing_weighs_and_strange_rows_are_refused():
    sampler = SubsetSampler([7, 2, 9])
    found = sampler.weights_of(torch.tensor([9, 9, 2]))
    assert found.dtype == torch.float32 and found.tolist() == [1, 1, 1]
    for strange in (0, 3, 10):
        with pytest.raises(ConfigError, match=f"row {strange} is not drawn in epoch 0"):
            sampler.weights_of([2, strange])
