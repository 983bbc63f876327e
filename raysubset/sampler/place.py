"""Which share of an epoch is this process's: its rank among how many."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import torch.distributed as dist

from raysubset.errors import ConfigError


@dataclass(frozen=True)
class Place:
    """A rank among `world_size`."""

    rank: int
    world_size: int


def refuse_bad_place(rank: int | None, world_size: int | None) -> None:
    """Refuse arguments that name no place.

    Raises:
        ConfigError: one without the other (but world_size=1), or out of range.
    """
    if world_size is not None and world_size < 1:
        raise ConfigError(f"world_size={world_size} must be 1 or more.")
    if (rank is None) != (world_size is None) and not (rank is None and world_size == 1):
        raise ConfigError(
            f"rank={rank} and world_size={world_size}: give both, or neither to follow "
            "torch.distributed; world_size=1 alone is the whole subset."
        )
    if rank is not None and world_size is not None and not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank} must lie between 0 and world_size - 1 = {world_size - 1}.")


def find_place(rank: int | None, world_size: int | None) -> Place:
    """Return this process's place: as given, else torch.distributed's, else the only one.

    The environment's RANK and WORLD_SIZE are no answer: they outlive what set them. But where
    they tell of several processes that torch.distributed knows nothing of, each would train on
    the whole, so that is refused; and so is a guess about who shards where Accelerate is at work.

    Raises:
        ConfigError: it cannot be known; what to say instead.
    """
    if world_size is not None:
        return Place(rank or 0, world_size)
    if dist.is_available() and dist.is_initialized():
        if dist.get_world_size() > 1 and _accelerate_is_at_work():
            raise ConfigError(
                "Accelerate is at work: it shards what a loader draws by itself. Give "
                "world_size=1 where it prepares the loader (so does the Hugging Face Trainer), or "
                "rank= and world_size= where it does not."
            )
        return Place(dist.get_rank(), dist.get_world_size())
    told = os.environ.get("WORLD_SIZE", "1")
    if told.isdigit() and int(told) > 1:
        raise ConfigError(
            f"WORLD_SIZE={told} in the environment, but torch.distributed is not initialised, so "
            "each process would train on all ids; call init_process_group() first, or give rank= "
            "and world_size= (world_size=1 where this process trains alone)."
        )
    return Place(0, 1)


def _accelerate_is_at_work() -> bool:
    """Return whether an Accelerator was made; Accelerate is not imported for the question."""
    state = sys.modules.get("accelerate.state")
    return state is not None and state.is_initialized()
