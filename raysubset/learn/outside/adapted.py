"""A person's model as the head's search and the scorer need it: a batch in, logits out.

Shape letters: B batch, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from raysubset.errors import ModelError
from raysubset.learn.logits import adapted, found_logits
from raysubset.learn.outside.batches import Batch

Adapter = Callable[[Any], Tensor]
"""output of the model -> logits (B, C)."""
_REMEDY = "say which with adapter=lambda output: ..."


def unwrapped(model: Any) -> nn.Module:
    """Return the module inside DistributedDataParallel, DataParallel and torch.compile.

    Raises:
        ModelError: no module, or one whose layers or weights cannot be read in one process.
    """
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            break
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is a {type(model).__name__}; give a torch.nn.Module.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "model is a TorchScript module, whose layers cannot be looked into; give the "
            "nn.Module that it was made of."
        )
    _refuse_in_pieces(model)
    return model


def _refuse_in_pieces(model: nn.Module) -> None:
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(parameter):
            raise ModelError(
                f"{name} of the model has no shape yet (a lazy layer), so there is nothing learned "
                "to choose by; run the model once on a batch, and train it first."
            )
        if parameter.is_meta:
            raise ModelError(f"{name} of the model is on the meta device; load its weights first.")
        if type(parameter).__name__ in ("DTensor", "FlatParameter"):
            raise ModelError(
                f"{name} of the model is spread over ranks (FSDP or tensor parallel), so no "
                "process holds a whole layer; gather it into a plain nn.Module first "
                "(torch.distributed.checkpoint.state_dict.get_model_state_dict with "
                "full_state_dict=True), and give that."
            )


def devices_of(model: nn.Module) -> list[torch.device]:
    """Return the devices of parameters and buffers, in their order; the CPU where there are none.

    One entry is a model that lies in one place.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return list(dict.fromkeys(t.device for t in tensors)) or [torch.device("cpu")]


class Adapted(nn.Module):
    """A thin shell around a model that takes a batch and gives its logits.

    The model is no child of it: names of layers stay the person's own, and neither modes nor hooks
    reach the shell. Whoever calls sees to the modes.
    """

    def __init__(self, model: nn.Module, adapter: Adapter | None = None) -> None:
        """Hold the model and what makes logits of its output."""
        super().__init__()
        self.__dict__["model"] = model
        self.adapter = adapter
        self._takes = _Takes(model)
        self._batch = Batch()

    def on(self, batch: Batch) -> Self:
        """Take the batch of the next call."""
        self._batch = batch
        return self

    def forward(self, first: Tensor) -> Tensor:
        """Return the logits of the batch that was taken; `first` only stands for it."""
        batch, self._batch = self._batch, Batch()  # what is scored is let go
        args, named = self._takes.of(batch)
        output = self.__dict__["model"](*args, **named)
        if self.adapter is None:
            return _as_rows(found_logits(output, _REMEDY))
        return _as_rows(adapted(self.adapter, output, "adapter"))

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Generator[Any]:
        """Yield the model's own."""
        yield from self.__dict__["model"].named_modules(memo, prefix, remove_duplicate)

    def get_submodule(self, target: str) -> nn.Module:
        """Return the model's own."""
        return self.__dict__["model"].get_submodule(target)

    def train(self, mode: bool = True) -> Self:
        """Leave the modes to whoever set them."""
        return self


def _as_rows(logits: Tensor) -> Tensor:
    """Return one logit per example as a column: (B,) -> (B, 1)."""
    return logits[:, None] if logits.ndim == 1 else logits


class _Takes:
    """What a forward takes by name: of the rest of an item, a model need not know."""

    def __init__(self, model: nn.Module) -> None:
        parameters = inspect.signature(model.forward).parameters.values()
        self.all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self.names = [p.name for p in parameters if p.kind in by_name]

    def of(self, batch: Batch) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what to call the forward with."""
        named = dict(batch.named)
        if not named:
            return batch.args, {}
        known = {name: value for name, value in named.items() if name in self.names}
        if not known and len(named) == 1:
            return tuple(named.values()), {}
        if known or self.all:
            return (), named if self.all else known
        raise ModelError(
            f"the model's forward takes {', '.join(self.names) or 'nothing'}, and the items hold "
            f"{', '.join(named)} beside their label; give items with these names, or a collate_fn "
            "that returns (x, y)"
        )
