"""Weights on the move: what a round ends with and the next one starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysubset.learn.checkpoint import CheckpointRef, read_weights


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


def pack(tensors: dict[str, Tensor]) -> np.ndarray:
    """Return a model's state as one flat uint8 array, in the order of the names.

    Not in the order of the dict: a state read from safetensors comes in another one every time.
    """
    parts = [tensors[k].contiguous().reshape(-1).view(torch.uint8) for k in sorted(tensors)]
    return torch.cat(parts).numpy()


def unpack(flat: np.ndarray, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state packed in `flat`, with the names, shapes and types of `like`."""
    tensors: dict[str, Tensor] = {}
    start = 0
    for name, shape_of in sorted(like.items()):
        size = shape_of.numel() * shape_of.element_size()
        # A copy: Ray's arrays are read-only, and a view at an odd offset has no type.
        tensor = torch.empty(shape_of.shape, dtype=shape_of.dtype)
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = flat[start : start + size]
        tensors[name] = tensor
        start += size
    assert start == len(flat), "the packed state has the model's size"
    return tensors
