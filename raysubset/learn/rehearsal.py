"""A step of training on two rows before any work: what fails only then is refused now."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from raysubset.errors import ModelError

_ODD_STATE = (
    "checkpoints hold plain tensors: register buffers with their own memory "
    "(.clone() after .expand()), and keep get_extra_state() out of the model"
)


def rehearse(
    model: nn.Module,
    sample: Tensor,
    *,
    num_classes: int,
    to_train: Callable[[nn.Module], object] = nn.Module.train,
) -> None:
    """Take a step in training mode on a copy; the model and all random state stay as they were.

    Args:
        model: on the CPU, checked in evaluation mode by `find_head`.
        sample: (B, ...) normalised examples.
        num_classes: C.
        to_train: puts a model into training mode.

    Raises:
        ModelError: the model cannot be copied, trained or put into a checkpoint.
    """
    twin = _copied(model)
    to_train(twin)
    with torch.random.fork_rng(devices=[]):
        try:
            logits: object = twin(sample)
        except ModelError:  # ours, about what the model returns
            raise
        except Exception as error:  # a person's forward may fail in any way
            raise ModelError(
                f"the model works in evaluation mode but fails in training mode on a batch of "
                f"shape {tuple(sample.shape)} with {type(error).__name__}: {error}; repair its "
                "forward for self.training"
            ) from error
        target = torch.arange(len(sample)) % num_classes
        loss = nn.functional.cross_entropy(_logits(logits, sample, num_classes), target)
        try:
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
        except RuntimeError as error:
            raise ModelError(
                f"no gradient flows back through the model ({error}); look for detach(), "
                "no_grad() or in-place changes in its forward"
            ) from error
    _refuse_odd_state(twin)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a person's attributes raise
        raise ModelError(
            f"the model cannot be copied ({type(error).__name__}: {error}), so no other process "
            "could hold it; keep tensors that need a gradient, locks and open files out of it"
        ) from error


def _logits(output: object, sample: Tensor, num_classes: int) -> Tensor:
    expected = (len(sample), num_classes)
    if isinstance(output, Tensor) and tuple(output.shape) == expected:
        return output.float()
    got = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
    raise ModelError(
        f"in training mode the model returns {got or 'a ' + type(output).__name__}, not the "
        f"logits of shape {expected} as in evaluation mode; return the logits alone in both"
    )


def _refuse_odd_state(model: nn.Module) -> None:
    """Refuse a state that a checkpoint could not hold or give back."""
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise ModelError(f"the model's state holds {odd[0]!r}, which is no tensor; {_ODD_STATE}")
    try:
        model.load_state_dict({name: value.detach().clone() for name, value in state.items()})
    except RuntimeError as error:
        cause = " ".join(str(error).split())
        raise ModelError(
            f"the model does not load its own state ({cause}); {_ODD_STATE}"
        ) from error
