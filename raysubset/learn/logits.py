"""What a model returns, as logits: by a person's adapter, or where only one reading is possible.

It is a forward hook, not a wrapper: the names of layers and of the state stay the person's own, and
training (a DDP rank too), scoring and evaluation all see the same logits.
Shape letters: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.factories import Named

LOGITS = "logits"
"""The name under which Hugging Face's and torchvision's models return them."""
BY_OPTION = "name a function that takes it and returns them with --model.adapter module:function"
_NAMED_AT_MOST = 8


@dataclass(frozen=True, kw_only=True)
class AsLogits:
    """A forward hook that puts logits of shape (B, C) in place of what a model returns.

    Attributes:
        num_classes: C of the data.
        adapter: a person's function, output -> logits; None to look for them.
        name: the adapter's, for messages.
    """

    num_classes: int
    adapter: Callable[[Any], Any] | None = None
    name: str = ""

    def __call__(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the logits, or the very output where it is them.

        Raises:
            ModelError: no entry, or more than one, could be the logits; an adapter that fails; or
                one output per example where the data has not two classes.
        """
        name = f"model.adapter={self.name}"
        found = adapted(self.adapter, output, name) if self.adapter else found_logits(output)
        batch = len(args[0]) if args and isinstance(args[0], Tensor) else None
        if not isinstance(found, Tensor) or not _is_one_logit(found, batch):
            return found
        if self.num_classes != 2:
            raise ModelError(
                f"the model gives one output for each example, and the data has {self.num_classes} "
                "classes: one logit serves two classes, and regression (squared error) has no "
                f"classes to choose by; end the model with nn.Linear(width, {self.num_classes})"
            )
        return two_classes(found.reshape(-1, 1))


def adapted(adapter: Callable[[Any], Any], output: Any, name: str) -> Tensor:
    """Return what a person's function makes of a model's output.

    Args:
        adapter: output -> logits.
        output: what the model returned.
        name: of the adapter, in the words of an error.

    Raises:
        ModelError: it fails, or makes no tensor.
    """
    try:
        logits = adapter(output)
    except Exception as error:  # a person's function may fail in any way
        raise ModelError(
            f"{name} failed with {type(error).__name__}: {error}; it is called with what the model "
            f"returns, {described(output)}"
        ) from error
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"{name} made {described(logits)} of {described(output)}; it must return the logits, "
            "one tensor of shape (batch, classes)"
        )
    return logits


def answer_with_logits(model: nn.Module, *, num_classes: int, adapter: str | None = None) -> None:
    """Make a model return logits from now on, by `module:function` where one is named.

    Raises:
        ModelError: the adapter cannot be imported, or is no function.
    """
    function = None if adapter is None else _function(adapter)
    hook = AsLogits(num_classes=num_classes, adapter=function, name=adapter or "")
    model.register_forward_hook(hook)


def _function(name: str) -> Callable[[Any], Any]:
    """Return the function that `module:function` names. Imports their code, by design."""
    named = Named.of(name, option="model.adapter", error=ModelError, example="mynet:logits_of")
    with named.importable():
        function: Any = named.imported()
    if not callable(function):
        raise ModelError(
            f"{named}: it is of type {type(function).__name__}, not a function; name one that "
            "takes what the model returns and gives the logits"
        )
    return function


def two_classes(logit_B1: Tensor) -> Tensor:
    """Return the logits (0, z) of one logit z. Shape: (B, 1) -> (B, 2).

    softmax(0, z) = (1 - sigmoid(z), sigmoid(z)), so that cross-entropy is the sigmoid cross-entropy
    of z, and its residual is (-r, r) with r = sigmoid(z) - y. Gradient factors carry both rows: an
    inner product of two gradients is twice that of the one row, and a step moves z twice as far.
    """
    return torch.cat([torch.zeros_like(logit_B1), logit_B1], dim=1)


def found_logits(output: Any, remedy: str = BY_OPTION) -> Tensor:
    """Return the output, its entry called logits, or its only tensor.

    Args:
        output: what the model returned.
        remedy: what helps where that is ambiguous.

    Raises:
        ModelError: several tensors and none called logits, or no tensor at all.
    """
    if isinstance(output, Tensor):
        return output
    entries = dict(_entries(output))
    tensors = [value for value in entries.values() if isinstance(value, Tensor)]
    named = entries.get(LOGITS)
    if isinstance(named, Tensor):
        return named
    if len(tensors) == 1:
        return tensors[0]
    how_many = "several of these" if tensors else "nothing of it"
    raise ModelError(
        f"the model returns {described(output)}, and {how_many} could be the logits; {remedy}"
    )


def described(output: object) -> str:
    """Return what a model returned in words: its type, and the shapes of its entries."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    entries = [
        f"{name}: {tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
        for name, value in _entries(output)
    ]
    more = len(entries) - _NAMED_AT_MOST
    shown = ", ".join(entries[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
    return f"a {type(output).__name__}" + (f" ({shown})" if entries else "")


def _entries(output: object) -> Iterator[tuple[str, Any]]:
    """Yield the named or numbered entries of a dict, a tuple, a list or a plain object."""
    if isinstance(output, Mapping):
        yield from ((str(name), value) for name, value in output.items())
    elif isinstance(output, tuple | list):
        names = getattr(output, "_fields", range(len(output)))
        yield from ((str(name), value) for name, value in zip(names, output, strict=True))
    else:
        yield from getattr(output, "__dict__", {}).items()


def _is_one_logit(logits: Tensor, batch: int | None) -> bool:
    if logits.ndim == 2:
        return logits.shape[1] == 1
    return logits.ndim == 1 and logits.shape[0] == batch
