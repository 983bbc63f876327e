"""A loader's batches, counted when they are given to the loop: worker processes run ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from raysubset.errors import ConfigError
from raysubset.sampler.walk import Walk


def counted(
    sampler: object, walk: Callable[[], Walk | None], loader: DataLoader[Any]
) -> Iterator[Any]:
    """Return a loader's batches; each counts as consumed when it is given out.

    Args:
        sampler: what the loader has to draw from.
        walk: gives the pass that the loader draws from, once it does.
        loader: a DataLoader with a batch size, or with none for single examples.

    Raises:
        ConfigError: it draws from another sampler, or its batches have no known size.
    """
    if loader.batch_size is None and loader.batch_sampler is not None:
        raise ConfigError(
            "counted(loader): a loader with a batch_sampler of its own does not say how many "
            "examples a batch has; give the DataLoader sampler= and batch_size=, or use "
            "torchdata's StatefulDataLoader."
        )
    if loader.sampler is not sampler:
        raise ConfigError(
            f"counted(loader): the loader draws from {type(loader.sampler).__name__}, not from "
            "this sampler; give it sampler= when it is made. (Accelerate and the Hugging Face "
            "Trainer skip to where they were by themselves.)"
        )
    return _counting(walk, loader, loader.batch_size or 1)


def _counting(
    walk: Callable[[], Walk | None], loader: DataLoader[Any], batch_size: int
) -> Iterator[Any]:
    own: Walk | None = None
    for number, batch in enumerate(loader, start=1):
        if own is None:
            own = walk()
            assert own is not None, "a loader that gave a batch has begun to draw"
        own.count(number * batch_size)
        yield batch
    if own is not None:
        own.count(None)  # what a loader with drop_last left over belongs to no batch
