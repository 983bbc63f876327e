"""The head: the last linear layer, found in any model.

The gradient factors are exact only for a layer whose output is the model's output, so that is how
the head is found: by running the model once and comparing what came out with what each layer gave.
Shape letters: B batch, C classes, H embedding width.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysubset.errors import ModelError
from raysubset.learn.factories import did_you_mean
from raysubset.learn.logits import two_classes

_LISTED_LAYERS = 12
_AFFINE_TOLERANCE = 0.02  # of the largest logit: passes 16-bit arithmetic, not another formula


@dataclass(frozen=True, kw_only=True)
class Head:
    """The linear layer that makes a model's logits."""

    name: str
    """Where it stands in the model, as in `model.get_submodule(name)`; "" is the model itself."""

    in_features: int
    """Embedding width H."""

    num_classes: int
    """Classes C."""

    one_logit: bool = False
    """Whether the layer gives one logit z for two classes, whose logits are then (0, z)."""


def find_head(
    model: nn.Module, sample: Tensor, head: str | None = None, *, num_classes: int | None = None
) -> Head:
    """Return the `nn.Linear` whose output is the model's output, or check the one named `head`.

    Runs the model once on `sample` (B, ...), on the model's device, in eval mode, and leaves it as
    it was: modes, buffers, hooks, global random state. With `num_classes` the width must match.
    Raises ModelError for a model without such a layer or with several, and for a forward that
    fails on the sample or gives something else than one (B, C) tensor.
    """
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if head is not None and head not in linears:
        raise ModelError(_no_such_head(model, linears, head))
    output, calls = _probe(model, linears, sample)
    logits_BC = _checked_logits(output, sample)
    name = _matching_head(model, logits_BC, calls) if head is None else head
    _check_call(name, calls[name], logits_BC)
    linear, width = linears[name], logits_BC.shape[1]
    if num_classes is not None and width != num_classes:
        raise ModelError(
            f"head {name!r} gives {width} outputs, and the data has {num_classes} "
            f"classes; build the model with num_classes={num_classes}"
        )
    one_logit = linear.out_features == 1 and width == 2
    in_features = linear.in_features
    return Head(name=name, in_features=in_features, num_classes=width, one_logit=one_logit)


def linear_of(model: nn.Module, head: Head) -> nn.Linear:
    """Return the head itself."""
    linear = model.get_submodule(head.name)
    assert isinstance(linear, nn.Linear)
    return linear


def head_weight(model: nn.Module, head: Head) -> tuple[Tensor, Tensor]:
    """Return the head's (weight_CH, bias_C), detached; no bias gives zeros.

    They share the layer's memory, but for one logit: a first row of zeros stands before it.
    """
    linear = linear_of(model, head)
    weight_CH = linear.weight.detach()
    bias_C = weight_CH.new_zeros(len(weight_CH)) if linear.bias is None else linear.bias.detach()
    if not head.one_logit:
        return weight_CH, bias_C
    return functional.pad(weight_CH, (0, 0, 1, 0)), functional.pad(bias_C, (1, 0))


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What one layer took and gave in the probe."""

    linear: nn.Linear
    taken: Tensor
    given: Tensor
    version: int
    """Of `given` at that time; a higher one later means that it was changed in place."""

    def makes(self, logits_BC: Tensor) -> bool:
        """Return whether the logits are this output, unchanged, or those of its one logit."""
        if self.given._version != self.version or not self.fits(logits_BC):
            return False
        if self.given is logits_BC:
            return True
        own = self.given if self.given.shape == logits_BC.shape else two_classes(self.given)
        return torch.equal(own.float(), logits_BC.float())

    def fits(self, logits_BC: Tensor) -> bool:
        """Return whether the output is as wide as the logits, or one logit for two of them."""
        rows, width = logits_BC.shape
        one_logit = width == 2 and not bool(logits_BC[:, 0].any())
        return self.given.shape == (rows, width) or (one_logit and self.given.shape == (rows, 1))

    def is_affine(self) -> bool:
        """Return whether the output is input @ weight.T + bias, as far as it can still be seen."""
        if self.given._version != self.version:
            return True
        bias_C = None if self.linear.bias is None else self.linear.bias.detach().float()
        weight_CH = self.linear.weight.detach().float()
        expected_BC = functional.linear(self.taken.detach().float(), weight_CH, bias_C)
        error = (expected_BC - self.given.detach().float()).abs().max()
        return not bool(error > _AFFINE_TOLERANCE * expected_BC.abs().max())  # nan is no proof


_Calls = Mapping[str, list[_Call]]


def _probe(
    model: nn.Module, linears: Mapping[str, nn.Linear], sample: Tensor
) -> tuple[object, _Calls]:
    """Return the model's output on the sample, and what each linear layer did for it."""
    calls: dict[str, list[_Call]] = {name: [] for name in linears}

    def listen(name: str, linear: nn.Linear) -> Any:
        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
            taken = _first_input(args, kwargs)
            calls[name].append(_Call(linear=linear, taken=taken, given=out, version=out._version))

        # first: where the layer is the whole model, an adapter's hook comes after
        return linear.register_forward_hook(keep, with_kwargs=True, prepend=True)

    with ExitStack() as cleanup:
        cleanup.enter_context(_left_as_it_was(model, sample.device))
        for name, linear in linears.items():
            cleanup.callback(listen(name, linear).remove)
        try:
            return model(sample), calls
        except ModelError:  # ours, about what the model returns
            raise
        except Exception as error:  # a person's forward may fail in any way
            raise ModelError(
                f"the model fails on a batch of shape {tuple(sample.shape)} with "
                f"{type(error).__name__}: {error}; build it for in_shape={tuple(sample.shape[1:])}"
            ) from error


@contextmanager
def _left_as_it_was(model: nn.Module, device: torch.device) -> Generator[None]:
    """Switch to eval mode without gradients; put modes, buffers and random state back after."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    random_devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=random_devices):
        try:
            model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training  # not train(): some models override it
            for module, name, buffer, value in buffers:
                setattr(module, name, buffer.copy_(value))


def _checked_logits(output: object, sample: Tensor) -> Tensor:
    """Return the output if it is one row of class scores per example."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"the model returns a {type(output).__name__}, not a tensor; name a function that "
            "returns the logits of it with --model.adapter module:function"
        )
    if output.ndim != 2 or len(output) != len(sample):
        raise ModelError(
            f"the model turns a batch of shape {tuple(sample.shape)} into {tuple(output.shape)}, "
            f"not into (batch, classes) = ({len(sample)}, classes); return one row per example"
        )
    return output


def _matching_head(model: nn.Module, logits_BC: Tensor, calls: _Calls) -> str:
    """Return the one layer whose output is the logits."""
    makers = [name for name, made in calls.items() if any(c.makes(logits_BC) for c in made)]
    same = [name for name in makers if any(c.given is logits_BC for c in calls[name])]
    found = same or makers
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(
            f"the layers {', '.join(found)} all give the model's output, so the head is ambiguous; "
            f"name one with --model.head NAME"
        )
    raise ModelError(
        f"no nn.Linear makes the model's output of shape {tuple(logits_BC.shape)}; end forward "
        f"with one and return its output unchanged (no softmax), or name the layer with "
        f"--model.head NAME; its layers: {_layers(model)}"
    )


def _check_call(name: str, made: list[_Call], logits_BC: Tensor) -> None:
    """Refuse a head for which the gradient factors would not be exact."""
    if len(made) != 1:
        raise ModelError(
            f"head {name!r} is called {len(made)} times in one forward and must be called once; "
            f"name another with --model.head NAME"
        )
    call = made[0]
    check_embedding(name, call.taken)
    if not call.fits(logits_BC):
        raise ModelError(
            f"head {name!r} gives {call.linear.out_features} outputs, and the model's output has "
            f"{logits_BC.shape[1]} columns; name the layer that makes the output with "
            f"--model.head NAME"
        )
    if not call.is_affine():
        raise ModelError(
            f"head {name!r} is a {type(call.linear).__name__} whose output is not "
            f"input @ weight.T + bias; end the model with a plain nn.Linear"
        )


def check_embedding(name: str, embedding: Tensor) -> None:
    """Refuse a head that works on more than one vector per example."""
    if embedding.ndim != 2:
        raise ModelError(
            f"head {name!r} takes an input of shape {tuple(embedding.shape)}, and one vector per "
            f"example is needed, (batch, width); pool over the other dimensions before it"
        )


def _no_such_head(model: nn.Module, linears: Mapping[str, nn.Linear], head: str) -> str:
    """Return the message for a name that is no linear layer."""
    names = ", ".join(linears) or "none"
    modules = dict(model.named_modules())
    if head in modules:
        return (
            f"model.head={head!r} is a {type(modules[head]).__name__}, not an nn.Linear; "
            f"the model's nn.Linear layers: {names}"
        )
    return (
        f"model.head={head!r} is not in the model{did_you_mean(head, linears)}; "
        f"its nn.Linear layers: {names}"
    )


def _layers(model: nn.Module) -> str:
    """Return the model's last layers as "name: type"."""
    leaves = [
        f"{name or '(the model)'}: {type(module).__name__}"
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    hidden = len(leaves) - _LISTED_LAYERS
    return ", ".join([f"({hidden} more)"] * (hidden > 0) + leaves[-_LISTED_LAYERS:])


def _first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return args[0] if args else kwargs["input"]
