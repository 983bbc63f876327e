"""What the cases about forward passes and steps measure on: a few rows, at several precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter, process_time

import numpy as np
import torch
from torch import nn

from raysubset.learn.layout import has_bf16
from raysubset.learn.problem import Problem

PRECISIONS = ("fp32", "bf16")


def precisions(device: torch.device) -> list[str]:
    """Return the precisions that this device has instructions for."""
    return [name for name in PRECISIONS if name == "fp32" or has_bf16(device)]


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of one thread's work: what else runs on these cores must not count."""
    return process_time if device.type == "cpu" else perf_counter


def on_rows(problem: Problem, rows: int, classes: int | None = None) -> Problem:
    """Return the problem with the first rows of its pool, as if there were so many classes."""
    parts = problem.parts
    pool = parts.pool.at(np.arange(min(rows, parts.pool.num_examples)))
    if classes:
        pool = replace(pool, class_names=tuple(str(i) for i in range(classes)))
    return replace(problem, parts=replace(parts, pool=pool))


def at_precision(problem: Problem, precision: str) -> Problem:
    """Return the problem at a precision; 16 bits go with the layout that their kernels want."""
    layout = "on" if precision == "bf16" else "off"
    recipe = problem.training.model_copy(update={"precision": precision, "channels_last": layout})
    return replace(problem, training=recipe)


def wide_headed(num_classes: int, in_shape: tuple[int, ...]) -> nn.Module:
    """Return one small convolution and a head on all that it gives: 4,096 numbers at 32 x 32."""
    if len(in_shape) != 3:
        return nn.Sequential(nn.Linear(*in_shape, 4096), nn.ReLU(), nn.Linear(4096, num_classes))
    channels, height, width = in_shape
    pooled = -(-height // 4) * -(-width // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(4, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(64 * pooled, num_classes),
    )
