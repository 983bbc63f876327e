"""Chance in people's own code: drawn by a key, so that whoever reads a batch draws the same.

Their transforms and layers draw from the global generators of Python, numpy and torch. Those are
seeded for each batch, and given back as they were.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def chance_left_as_it_was(device: torch.device) -> Generator[None]:
    """Give the global generators back as they were: the CPU's, and those of this one device."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # theirs, kept
    index = torch.cuda.current_device() if device.index is None and _is_cuda(device) else None
    devices = [device.index if index is None else index] if _is_cuda(device) else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002  # theirs, given back


def draw_by(key: int, device: torch.device | None = None) -> None:
    """Seed the global generators of this process with a key; on a GPU, of this one alone."""
    random.seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002  # people's transforms draw from it
    torch.default_generator.manual_seed(key)
    if device is not None and _is_cuda(device):
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)


def _is_cuda(device: torch.device) -> bool:
    return device.type == "cuda"
