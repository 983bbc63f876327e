"""Which rank this is: as given, else torch.distributed's, never a guess."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Generator

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import raysubset as rs
from raysubset.errors import ConfigError

Join = Callable[[int, int], None]
IDS = list(range(11))


@pytest.fixture
def join() -> Generator[Join]:
    """Make this process a rank of several; the others are only said to be there."""

    def join_(rank: int, world_size: int) -> None:
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)

    yield join_
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_torch_distributed_is_asked_when_an_epoch_begins(join: Join, rank: int):
    sampler = rs.SubsetSampler(IDS)  # before there is a group
    assert len(sampler) == 11
    join(rank, 3)
    assert (sampler.rank, sampler.num_replicas, len(sampler)) == (rank, 3, 3)
    assert list(sampler) == list(rs.SubsetSampler(IDS, rank=rank, world_size=3))


def test_arguments_win_over_torch_distributed(join: Join):
    join(1, 3)
    assert len(rs.SubsetSampler(IDS, world_size=1)) == 11
    assert len(rs.SubsetSampler(IDS, rank=0, world_size=2, remainder="keep")) == 6


def test_ranks_that_only_the_environment_knows_of_are_no_guess(join: Join, monkeypatch):
    sampler = rs.SubsetSampler(IDS)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for ask in (len, iter):
        with pytest.raises(ConfigError, match=r"WORLD_SIZE=2 .* call init_process_group\(\) first"):
            ask(sampler)
    assert repr(sampler) and sampler.state_dict()["position"] == 0
    assert len(rs.SubsetSampler(IDS, world_size=1)) == 11
    join(1, 2)
    assert len(sampler) == 5
    monkeypatch.setenv("WORLD_SIZE", "1")
    dist.destroy_process_group()
    assert len(sampler) == 11


def test_where_accelerate_is_at_work_who_shards_must_be_said(join: Join, monkeypatch):
    state, at_work = types.ModuleType("accelerate.state"), [True]
    state.__dict__["is_initialized"] = lambda: at_work[0]
    monkeypatch.setitem(sys.modules, "accelerate.state", state)
    sampler = rs.SubsetSampler(IDS)
    assert len(sampler) == 11  # one process: nobody shards
    join(0, 2)
    with pytest.raises(ConfigError, match=r"Accelerate is at work.*world_size=1"):
        iter(sampler)
    assert len(rs.SubsetSampler(IDS, world_size=1)) == 11
    assert len(rs.SubsetSampler(IDS, rank=0, world_size=2)) == 5
    at_work[0] = False
    assert len(sampler) == 5
