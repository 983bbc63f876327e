"""What a pass that was broken off leaves for the next."""

from __future__ import annotations

import copy
import io
import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset

from raysubset.errors import ConfigError
from raysubset.sampler import SubsetSampler

K = 37
IDS = [3 * i + 1 for i in range(K)]
ROWS = TensorDataset(torch.arange(3 * K))


def order_of(epoch: int) -> list[int]:
    sampler = SubsetSampler(IDS)
    sampler.set_epoch(epoch)
    return list(sampler)


def rows_of(batches) -> list[int]:
    return [row for (batch,) in batches for row in batch.tolist()]


def stored(state):
    """The state as a checkpoint of torch's, and as JSON, gives it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert loaded == state == json.loads(json.dumps(state))
    return loaded


@pytest.mark.parametrize("remainder", ["keep", "drop"])
@given(stretches=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 6)), max_size=6))
def test_any_numbers_of_ranks_in_turn_neither_repeat_nor_lose_an_example(remainder, stretches):
    state, consumed = None, list[int]()
    for world_size, count in [*stretches, (3, K)]:
        states = []
        for rank in range(world_size):
            sampler = SubsetSampler(IDS, rank=rank, world_size=world_size, remainder=remainder)
            if state is not None:
                sampler.load_state_dict(stored(state))
            sampler.set_epoch(0)
            walk = iter(sampler)
            consumed += [row for _, row in zip(range(count), walk, strict=False)]
            states.append(sampler.state_dict())
        assert remainder == "keep" or all(each == states[0] for each in states)
        state = states[0]  # the first rank has the most
    assert len(set(consumed)) == len(consumed)
    left_out = set(IDS) - set(consumed)
    # those that did not fill a row of the ranks by which the epoch was ended
    most = max(world_size for world_size, _ in [*stretches, (3, K)]) - 1
    assert len(left_out) <= (most if remainder == "drop" else 0)


def test_a_finished_pass_is_followed_by_a_whole_one():
    sampler = SubsetSampler(IDS)
    assert list(sampler) == list(sampler) == order_of(0)
    sampler.set_epoch(1)
    assert sampler.state_dict()["position"] == 0
    assert list(sampler) == order_of(1)
    assert sampler.state_dict()["position"] == K


@pytest.mark.parametrize("drawn", [0, 1, 20, K])
def test_a_loop_that_names_the_epoch_it_stopped_in_has_the_rest_of_it(drawn):
    first = SubsetSampler(IDS)
    first.set_epoch(4)
    walk = iter(first)
    for _ in range(drawn):
        next(walk)
    state = first.state_dict()
    list(walk)  # what comes after the state was saved changes nothing
    sampler = SubsetSampler(IDS)
    sampler.load_state_dict(state)
    assert sampler.epoch == 4 and sampler.state_dict() == state
    assert len(sampler) == K  # a loader's length is that of an epoch
    for epoch in (4, 5, 6):
        sampler.set_epoch(epoch)
        assert list(sampler) == order_of(epoch)[drawn if epoch == 4 else 0 :]


def test_a_resumed_pass_that_is_broken_off_begins_there_again():
    sampler = SubsetSampler(IDS)
    sampler.load_state_dict(sampler.state_dict() | {"position": 10})
    assert next(iter(sampler)) == next(iter(sampler)) == order_of(0)[10]
    walk = iter(sampler)
    next(walk)
    assert sampler.state_dict()["position"] == 11


def test_a_state_of_an_end_lets_the_next_pass_be_whole_where_no_epoch_is_named():
    sampler = SubsetSampler(IDS)
    list(sampler)
    other = SubsetSampler(IDS)
    other.load_state_dict(sampler.state_dict())
    assert list(other) == order_of(0)


def test_after_the_rest_of_an_epoch_comes_a_whole_one_also_where_none_is_named():
    sampler = SubsetSampler(IDS)
    sampler.load_state_dict(sampler.state_dict() | {"position": 10})
    assert list(sampler) == order_of(0)[10:]
    assert list(sampler) == order_of(0)


def test_a_copy_made_at_an_end_goes_on_as_the_original_does():
    sampler = SubsetSampler(IDS)
    sampler.set_epoch(0)
    list(sampler)
    assert list(copy.deepcopy(sampler)) == list(sampler) == order_of(0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_counted_batches_are_what_the_loop_had_whatever_is_prefetched(workers, drop_last):
    sampler = SubsetSampler(IDS)
    loader = DataLoader(
        ROWS, batch_size=4, sampler=sampler, num_workers=workers, drop_last=drop_last
    )
    had, states = list[int](), list()
    for (batch,) in sampler.counted(loader):
        had += batch.tolist()
        states.append(sampler.state_dict())
        assert states[-1]["position"] == len(had)
    assert had == order_of(0)[: K - K % 4 * drop_last]
    assert sampler.state_dict()["position"] == K
    for number in (1, 5, len(states)):
        other = SubsetSampler(IDS)
        other.load_state_dict(states[number - 1])
        other.set_epoch(0)
        rest = DataLoader(ROWS, batch_size=4, sampler=other, drop_last=drop_last)
        assert rows_of(other.counted(rest)) == had[number * 4 :]


def test_without_workers_a_plain_loader_is_never_ahead_of_the_loop():
    sampler, had = SubsetSampler(IDS), 0
    for (batch,) in DataLoader(ROWS, batch_size=4, sampler=sampler):
        had += len(batch)
        assert sampler.state_dict()["position"] == had


def test_single_examples_are_counted_too():
    sampler = SubsetSampler(IDS)
    loader = DataLoader(ROWS, batch_size=None, sampler=sampler)
    positions = [sampler.state_dict()["position"] for _ in sampler.counted(loader)]
    assert positions == list(range(1, K + 1))


def test_a_loader_that_cannot_be_counted_is_refused_before_it_draws():
    sampler = SubsetSampler(IDS)
    with pytest.raises(ConfigError, match="draws from RandomSampler, not from this sampler"):
        sampler.counted(DataLoader(ROWS, batch_size=4, sampler=RandomSampler(ROWS)))
    own = torch.utils.data.BatchSampler(sampler, 4, drop_last=False)
    with pytest.raises(ConfigError, match="batch_sampler of its own"):
        sampler.counted(DataLoader(ROWS, batch_sampler=own))
    short = TensorDataset(torch.arange(IDS[-1]))
    with pytest.raises(ConfigError, match=f"id {IDS[-1]} of the sequence of ids is no row"):
        sampler.counted(DataLoader(short, batch_size=4, sampler=sampler))
    assert sampler.state_dict() == SubsetSampler(IDS).state_dict()


@given(st.integers(0, 10), st.integers(1, 9))
def test_a_state_kept_for_each_batch_goes_on_after_that_batch(number, batch_size):
    """As torchdata's loader does it: states of sampler and iterator, of batches on their way."""
    sampler = SubsetSampler(IDS)
    walk, kept = iter(sampler), [(sampler.state_dict(), iter(sampler).state_dict())]
    walk, had = iter(sampler), list[list[int]]()
    for start in range(0, K, batch_size):
        had.append([next(walk) for _ in range(min(batch_size, K - start))])
        kept.append((sampler.state_dict(), walk.state_dict()))
    number = min(number, len(had))
    other = SubsetSampler(IDS)
    iter(other)
    other.load_state_dict(kept[number][0])
    again = iter(other)
    again.load_state_dict(kept[number][1])
    assert list(again) == [row for batch in had[number:] for row in batch]


@pytest.mark.parametrize("remainder", ["keep", "drop"])
@given(world_size=st.integers(1, 2 * K), start=st.integers(0, K), data=st.data())
def test_a_rank_that_drew_all_it_had_leaves_nothing_of_the_epoch(
    remainder, world_size, start, data
):
    rank = data.draw(st.integers(0, world_size - 1))
    sampler = SubsetSampler(IDS, rank=rank, world_size=world_size, remainder=remainder)
    sampler.load_state_dict(sampler.state_dict() | {"position": start})
    sampler.set_epoch(0)
    walk = iter(sampler)
    list(walk)
    assert sampler.state_dict()["position"] == walk.state_dict()["position"] == K


def test_a_pass_takes_up_the_epoch_of_a_state_too():
    sampler = SubsetSampler(IDS)
    sampler.set_epoch(2)
    walk = iter(SubsetSampler(IDS))
    walk.load_state_dict(sampler.state_dict() | {"position": 3})
    assert list(walk) == order_of(2)[3:]


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy"])
@pytest.mark.parametrize("drawn", [None, 0, 5, K])
def test_a_copy_stands_where_the_original_does_and_goes_its_own_way(how, drawn):
    make = {
        "pickle": lambda value: pickle.loads(pickle.dumps(value)),
        "deepcopy": copy.deepcopy,
        "copy": copy.copy,
    }[how]
    sampler = SubsetSampler(IDS, seed=3)
    sampler.set_epoch(2)
    walk = iter(sampler) if drawn is not None else None
    for _ in range(drawn or 0):
        assert walk is not None
        next(walk)
    other = make(sampler)
    assert other.state_dict() == sampler.state_dict()
    rest = list(walk) if walk is not None else list(sampler)
    assert list(other) == rest
    sampler.set_epoch(9)
    assert other.epoch == 2 and repr(other) != repr(sampler)
    other.set_epoch(9)
    assert list(other) == list(sampler)


def test_states_of_another_order_are_refused_by_what_differs():
    sampler = SubsetSampler(IDS, seed=1)
    state = sampler.state_dict()
    for other, told in (
        (SubsetSampler(IDS, seed=2), "seed 1, here 2"),
        (SubsetSampler(IDS[:-1], seed=1), "ids "),
        (SubsetSampler(IDS, seed=1, shuffle=False), "shuffle True, here False"),
    ):
        with pytest.raises(ConfigError, match=told):
            other.load_state_dict(state)
        with pytest.raises(ConfigError, match=told):
            iter(other).load_state_dict(state)
    for bad in ({}, {"yielded": 3}, {**state, "epoch": "1"}, {**state, "position": 0.5}):
        with pytest.raises(ConfigError, match="is no state of a SubsetSampler"):
            sampler.load_state_dict(bad)
    for bad in ({"position": K + 1}, {"position": -1}, {"epoch": -1}):
        with pytest.raises(ConfigError, match="there is no such place"):
            sampler.load_state_dict({**state, **bad})
    assert sampler.state_dict() == state


def test_epochs_count_from_zero():
    with pytest.raises(ConfigError, match=r"set_epoch\(-1\): epochs count from 0"):
        SubsetSampler(IDS).set_epoch(-1)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:'set_vital'")
def test_torchdatas_stateful_loader_goes_on_after_the_batch_it_gave(workers):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader_of(sampler):
        return stateful.StatefulDataLoader(ROWS, batch_size=4, sampler=sampler, num_workers=workers)

    for batches in (1, 4, 10, None):  # all are drawn after 6; None: the loop has ended too
        first, had = loader_of(SubsetSampler(IDS)), list[int]()
        for number, (batch,) in enumerate(first, start=1):
            had += batch.tolist()
            if number == batches:
                break
        sampler = SubsetSampler(IDS)
        second = loader_of(sampler)
        second.load_state_dict(first.state_dict())
        if batches is not None:
            sampler.set_epoch(0)
            assert had + rows_of(second) == order_of(0)
        sampler.set_epoch(1)
        assert rows_of(second) == order_of(1)


def test_it_is_what_loops_take_for_a_sampler_that_shards():
    from torch.utils.data import DistributedSampler

    sampler = SubsetSampler(IDS, rank=2, world_size=5)
    assert isinstance(sampler, DistributedSampler) and not isinstance(sampler, SequentialSampler)
    told = (sampler.rank, sampler.num_replicas, sampler.num_samples, sampler.total_size)
    assert told == (2, 5, 7, 35) and sampler.drop_last and len(sampler.dataset) == K
    kept = SubsetSampler(IDS, rank=1, world_size=5, remainder="keep")
    assert (kept.num_samples, kept.total_size, kept.drop_last) == (8, K, False)
