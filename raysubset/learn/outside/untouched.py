"""A person's model, scored in place and left exactly as it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_COMPILED = "_compiled_call_impl"  # where nn.Module.compile() puts what is called instead


@contextmanager
def callers_modes_off() -> Generator[None]:
    """Leave a caller's inference mode and autocast: what chooses is computed in full fp32."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def untouched(model: nn.Module) -> Generator[None]:
    """Put every module in evaluation mode, without gradients; put all of it back after.

    Modes are set as attributes: some models' own train() and eval() merge or fold weights, which
    does not come back to the bit. A module that was compiled in place runs as it was written, so
    that its layers can be seen.
    """
    modules: list[Any] = list(model.modules())
    modes = [module.training for module in modules]
    compiled = [module.__dict__.get(_COMPILED) for module in modules]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with torch.no_grad():
        try:
            for module, call in zip(modules, compiled, strict=True):
                module.training = False
                if call is not None:
                    setattr(module, _COMPILED, None)
            yield
        finally:
            for module, training, call in zip(modules, modes, compiled, strict=True):
                module.training = training
                if call is not None:
                    setattr(module, _COMPILED, call)
            for module, name, buffer, value in buffers:
                setattr(module, name, _restored(buffer, value))


def _restored(buffer: Tensor, value: Tensor) -> Tensor:
    """Return the buffer with its value; written only where it changed, for autograd's counters."""
    return buffer if torch.equal(buffer, value) else buffer.copy_(value)
