"""What block picks cost: bytes, floating-point operations, seconds, by formula.

python -m jobs.cost

Letters: N rows to choose from, V validation, C classes, H embedding width, K picks, B blocks,
b bytes a number, S shards or GPUs. What a formula leaves out: the forward pass that makes the
factors (the bench's case `scoring`), reading them from a disk, and the start of processes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from jobs.bench_table import points

WIDE = 4  # products are taken in float32


@dataclass(frozen=True, kw_only=True)
class Size:
    """One selection.

    Attributes:
        rows: N.
        validation: V.
        classes: C.
        width: H.
        picks: K.
        blocks: B.
        number_bytes: b, 2 or 4.
        auto_step: whether the step is looked for, which takes one pass more.
    """

    rows: int
    validation: int
    classes: int
    width: int
    picks: int
    blocks: int
    number_bytes: int = 2
    auto_step: bool = True


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one shard has.

    Attributes:
        flops: float32 operations a second.
        memory: bytes a second to and from its memory.
        link: bytes a second between it and the driver.
    """

    flops: float
    memory: float
    link: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a selection takes.

    Attributes:
        factor_bytes: N (b (C + H) + 16), over all shards.
        direction_bytes: 4 C (H + 1), down to each shard, in every block.
        picked_bytes: K (b (C + H) + 16), up, over the whole selection.
        passes: B + 1 for the certificate + 1 for the automatic step.
        flops: (2 N C (H + 1) + 2 N C) a pass + 4 V C (H + 1) a block.
        seconds: of the whole selection.
    """

    factor_bytes: int
    direction_bytes: int
    picked_bytes: int
    passes: int
    flops: float
    seconds: float


def cost(size: Size, device: Device, shards: int = 1) -> Cost:
    """Return what a selection takes on equal shards."""
    rows, classes, width = size.rows, size.classes, size.width
    row_bytes = size.number_bytes * (classes + width) + 16
    passes = size.blocks + 1 + size.auto_step
    pass_flops = 2.0 * rows * classes * (width + 1) + 2.0 * rows * classes
    look_flops = 4.0 * size.validation * classes * (width + 1) * size.blocks
    pass_s = (pass_flops / device.flops + rows * moved(size) / device.memory) / shards
    picked, direction = size.picks * row_bytes, WIDE * classes * (width + 1)
    sent_s = (picked + direction * shards * size.blocks) / device.link
    return Cost(
        factor_bytes=rows * row_bytes,
        direction_bytes=direction,
        picked_bytes=picked,
        passes=passes,
        flops=pass_flops * passes + look_flops,
        seconds=pass_s * passes + look_flops / device.flops + sent_s * (shards > 1),
    )


def moved(size: Size) -> float:
    """Return the bytes that a row moves through memory in a pass.

    Its factors are read; 16-bit ones are written and read again as float32; three products of C
    numbers are written and read.
    """
    numbers = size.classes + size.width
    widened = 2 * WIDE * numbers if size.number_bytes < WIDE else 0
    return size.number_bytes * numbers + widened + 6 * WIDE * size.classes


GPU = Device(flops=40e12, memory=2.5e12, link=25e9)
"""Assumed, not measured: an H100 at two thirds of its float32 peak (67 Tflop/s, no tensor cores)
and three quarters of its memory bandwidth (3.35 TB/s), 200 Gbit/s between nodes."""
GPU_BYTES = 72e9
"""Of 80 GB, what is left for rows."""


def imagenet(rows: int, blocks: int = 50) -> Size:
    """Return a selection of a tenth under ImageNet-1k's head, 16 bit."""
    return Size(
        rows=rows, validation=50_000, classes=1000, width=2048, picks=rows // 10, blocks=blocks
    )


def table() -> list[str]:
    """Return the table of docs/speed.md: rows against GPUs, computed."""
    gpus = (1, 8, 64)
    head = ["rows", "factors", "Pflop", *(f"{g} GPU" for g in gpus)]
    lines: list[dict[str, Any]] = []
    for rows in (10**6, 10**7, 10**8, 10**9):
        size = imagenet(rows)
        found = cost(size, GPU)
        line = [f"{rows:.0e}", _bytes(found.factor_bytes), f"{found.flops / 1e15:,.1f}"]
        for shards in gpus:
            fits = found.factor_bytes / shards <= GPU_BYTES
            line.append(f"{cost(size, GPU, shards).seconds:,.1f} s{'' if fits else ' *'}")
        lines.append(dict(zip(head, line, strict=True)))
    return [*points(lines), "* the rows are beyond these GPUs' memory and would be streamed"]


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.0f} GB" if count < 1e12 else f"{count / 1e12:,.1f} TB"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
