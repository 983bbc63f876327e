"""A frozen backbone: everything before the head stays as it is, so an embedding never changes.

Shape letters: B batch, H embedding width.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head, linear_of


def freeze(model: nn.Module, head: Head) -> None:
    """Take the gradient from every parameter but the head's.

    Raises:
        ModelError: the head shares a parameter with another layer, or is frozen itself.
    """
    own = {id(parameter) for parameter in linear_of(model, head).parameters()}
    for name, parameter in _outside(model, head):
        if id(parameter) in own:
            raise ModelError(
                f"model.frozen=true, and the head {head.name!r} shares its weight with {name}, "
                "which would move with it; give the head a weight of its own"
            )
        parameter.requires_grad_(False)


def hold_still(model: nn.Module, head: Head) -> None:
    """Put everything but the head into evaluation mode: no statistics move, nothing is dropped."""
    linear = linear_of(model, head)
    for module in model.modules():
        if module is not linear:
            module.training = False  # not eval(): that would reach the head too


def is_frozen(model: nn.Module, head: Head) -> bool:
    """Return whether there are parameters before the head, and none of them can be trained."""
    backbone = [parameter for _, parameter in _outside(model, head)]
    return bool(backbone) and not any(parameter.requires_grad for parameter in backbone)


def is_steady(model: nn.Module, head: Head, sample_B: Tensor) -> bool:
    """Return whether the model in evaluation mode gives the same embeddings twice.

    What draws numbers or keeps count there does not. All random state is left as it was.
    """
    devices = [sample_B.device] if sample_B.device.type == "cuda" else []
    before = versions(model, head)
    with torch.no_grad(), torch.random.fork_rng(devices), FullHead(model.eval(), head) as full:
        embeddings: list[Tensor] = []
        for _ in range(2):
            model(sample_B)
            embeddings.append(full.embedding_BH)
    return torch.equal(*embeddings) and versions(model, head) == before


def versions(model: nn.Module, head: Head) -> tuple[tuple[int, int], ...]:
    """Return what changes with every change of the backbone in place: cheap, for this process."""
    return tuple((tensor.data_ptr(), tensor._version) for _, tensor in _state(model, head))


def backbone_tensors(model: nn.Module, head: Head) -> tuple[Tensor, ...]:
    """Return what `versions` looks at: while it is held, no other tensor lies at its address."""
    return tuple(tensor for _, tensor in _state(model, head))


def backbone_digest(model: nn.Module, head: Head) -> str:
    """Return the SHA-256 (hex) of all parameters and buffers but the head's, with their names."""
    digest = hashlib.sha256()
    for name, tensor in _state(model, head):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        own = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(own.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _state(model: nn.Module, head: Head) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers outside the head, those that are in no checkpoint too."""
    return itertools.chain(_outside(model, head), model.named_buffers(remove_duplicate=False))


def _outside(model: nn.Module, head: Head) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters outside the head; one that it shares is outside too."""
    own = f"{head.name}." if head.name else ""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not name.startswith(own):
            yield name, parameter
