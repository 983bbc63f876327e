"""Weights on the move: what a round ends with and the next one starts from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysubset.learn.checkpoint import CheckpointRef, read_weights

_ALIGNED = 64  # a cache line; any type may begin there


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """The state after a round.

    Attributes:
        round: the round that ended with it.
        tensors: the model's state by name, on the host.
        flat: the same, packed (see `pack`); both are None where the state stays with the crew.
        checkpoint: where the whole training state lies, once it is committed.
    """

    round: int
    tensors: dict[str, Tensor] | None = None
    flat: np.ndarray | None = None
    checkpoint: CheckpointRef | None = None

    def state(self) -> dict[str, Tensor]:
        """Return the model's state, from memory or from the checkpoint."""
        if self.tensors is not None:
            return self.tensors
        assert self.checkpoint is not None, "weights have tensors or a checkpoint"
        return read_weights(self.checkpoint)


def pack(tensors: Mapping[str, Tensor]) -> np.ndarray:
    """Return a model's state as one flat uint8 array, copied once from wherever it lies.

    In the order of the names, not of the dict: a state read from safetensors comes in another one
    every time. Every tensor begins at a multiple of `_ALIGNED` bytes, so that a view of it has its
    type.
    """
    places, size = _places(tensors)
    flat = np.zeros(size, dtype=np.uint8)
    for name, start in places:
        _view(flat, start, tensors[name]).copy_(tensors[name].detach())
    return flat


def unpack(flat: np.ndarray, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return views of the state packed in `flat`, with the names, shapes and types of `like`."""
    places, size = _places(like)
    assert size == len(flat), "the packed state has the model's size"
    with warnings.catch_warnings():
        # Arrays shared by Ray are read-only; nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        views = {name: _view(flat, start, like[name]) for name, start in places}
    return {name: views[name] for name in like}


def _places(tensors: Mapping[str, Tensor]) -> tuple[list[tuple[str, int]], int]:
    """Return (name, first byte) of each tensor, and the bytes of all."""
    places: list[tuple[str, int]] = []
    start = 0
    for name in sorted(tensors):
        places.append((name, start))
        size = tensors[name].numel() * tensors[name].element_size()
        start += -(-size // _ALIGNED) * _ALIGNED
    return places, start


def _view(flat: np.ndarray, start: int, like: Tensor) -> Tensor:
    """Return a tensor of its own storage in `flat`: torch saves no storage under two types."""
    if not like.numel():
        return torch.empty(like.shape, dtype=like.dtype)
    view = torch.frombuffer(flat, dtype=like.dtype, count=like.numel(), offset=start)
    return view.view(like.shape)
