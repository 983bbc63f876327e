"""Numbers and memory on a device: autocast types and the layout of images."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from raysubset.learn.problem import Problem

_LAST = torch.channels_last


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type of autocast, or None for fp32."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16; elsewhere it is emulated, and slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16") or has.get("arm_bf16"))


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the autocast context of a device; nothing for fp32, which costs no time then."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def placed(model: nn.Module, problem: Problem, device: torch.device) -> nn.Module:
    """Return the model on the device in its layout; scorers' and trainers' are the same, for bits.

    channels_last: images on GPUs, or as `training.channels_last` says.
    """
    image = len(problem.in_shape) == 3
    on = {"auto": device.type == "cuda", "on": True, "off": False}[problem.training.channels_last]
    model = model.to(device)
    return model.to(memory_format=_LAST) if image and on else model


def layout_of(model: nn.Module) -> torch.memory_format:
    """Return the layout of the model's convolutions; it stays what it was when it was placed."""
    first = next((p for p in model.parameters() if p.ndim == 4), None)
    return torch.contiguous_format if first is None or first.is_contiguous() else _LAST


def laid_out(content_B: Tensor, layout: torch.memory_format) -> Tensor:
    """Give images the layout of the model's convolutions, else every layer converts them."""
    if content_B.ndim != 4 or layout is not _LAST:
        return content_B
    return content_B.contiguous(memory_format=_LAST)
