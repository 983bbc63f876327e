"""Scale: block picks over factors on a disk, from ten thousand rows to ten million.

Every point is a process of its own, because Linux keeps a process's peak and never lowers it.
Shape letters: N rows, V validation, C classes, H embedding width.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from jobs.benches.made_factors import VALIDATION, made, made_lookahead
from jobs.benches.measuring import Asked, Measured
from jobs.benches.own_memory import Memory
from jobs.cost import Device, Size, cost
from raysubset.learn.mapped import open_factors, tile_rows_of
from raysubset.learn.shards import shards_here
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Blocks

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
SHARDED_ROWS, SHARDS = 1_000_000, (2, 3, 4)
MOST_PICKS = 10_000


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one process is asked for.

    Attributes:
        folder: of the factors.
        shards: how many.
        blocks: B.
        repeats: of the selection.
        threads: torch's.
        auto_step: whether the step is looked for.
    """

    folder: str
    shards: int = 1
    blocks: int = 5
    repeats: int = 5
    threads: int = 1
    auto_step: bool = True


def scale(asked: Asked) -> Measured:
    """Block picks from factors on a disk: seconds and memory against rows and shards.

    C = 10, H = 64, 16 bit, Blocks(5), a hundredth of the rows and at most 10,000, one thread; ten
    million rows are chosen from once. With --big also 1.28 million rows of ImageNet-1k's size: 7.8
    GB of disk, and minutes. Judged by CPU seconds: a busy machine does not lengthen them.
    """
    device, rows = one_core(classes=10, width=64), list[dict[str, Any]]()
    for count in ROWS:
        rows += _points(count, device, asked.repeats if count < ROWS[-1] else 1)
    alone = [row for row in rows if row["shards"] == 1 and row["rows"] >= 100_000]
    sharded = {row["shards"]: row["cpu_s"] for row in rows if row["rows"] == SHARDED_ROWS}
    ratios = {
        "slope of log t on log N": slope([(row["rows"], row["cpu_s"]) for row in alone]),
        "own memory, 10^7 / 10^6": alone[-1]["anonymous_mb"] / alone[-2]["anonymous_mb"],
        "shards 4 / 1, CPU": sharded[4] / sharded[1],
    }
    if asked.big:
        rows.append(big())
    return Measured(
        seconds={f"{row['rows']:,} rows, shards {row['shards']}": row["seconds"] for row in rows},
        ratios=ratios,
        of="blocks(5), 1 % of rows and at most 10,000, C 10, H 64, 16 bit",
        rows=rows,
        limits={"slope of log t on log N": "1 is linear", "own memory, 10^7 / 10^6": "1 is flat"},
    )


def _points(count: int, device: Device, repeats: int) -> list[dict[str, Any]]:
    """Return the points of this many rows; every number of shards chooses the same."""
    points: list[dict[str, Any]] = []
    ids: set[str] = set()
    with made(count, classes=10, width=64, kind="float16") as folder:
        for shards in (1, *SHARDS) if count == SHARDED_ROWS else (1,):
            found = measured(Point(folder=str(folder), shards=shards, repeats=repeats), device)
            ids.add(found["ids"])
            points.append(_row(count, shards, found))
    assert len(ids) == 1, "shards chose other ids than the whole"
    return points


def big(rows: int = 1_281_167, blocks: int = 2, shards: int = 2) -> dict[str, Any]:
    """Return what factors of ImageNet-1k's size take, from files that do not fit the object store.

    The step is given: looking for it is one pass more, and the same work.
    """
    with made(rows, classes=1000, width=2048, kind="bfloat16") as folder:
        point = Point(
            folder=str(folder),
            shards=shards,
            blocks=blocks,
            repeats=1,
            threads=min(2, os.cpu_count() or 1),
            auto_step=False,
        )
        device = one_core(classes=1000, width=2048)
        return _row(rows, shards, measured(point, device))


def slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of log y on log x: 1 where y grows as x does."""
    x = [math.log(point[0]) for point in points]
    y = [math.log(point[1]) for point in points]
    return statistics.linear_regression(x, y).slope


def measured(point: Point, device: Device) -> dict[str, Any]:
    """Return what a process of its own found, and its CPU seconds over those of the cost model."""
    words = [sys.executable, "-m", __name__, json.dumps(asdict(point))]
    given = os.environ | {"OMP_NUM_THREADS": str(point.threads)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=given)
    if done.returncode:
        raise RuntimeError(f"the process of {point} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    model = cost(Size(**found.pop("size")), device)
    assert found["factor_bytes"] == model.factor_bytes, "the model's bytes are those on the disk"
    return {**found, "model": found["cpu_s"] / model.seconds}


def _measure(point: Point) -> dict[str, Any]:
    """Select in this process, and look at its memory all the while."""
    torch.set_num_threads(point.threads)
    mapped = open_factors(Path(point.folder))
    classes, width = mapped.residuals.shape[1], mapped.embeddings.shape[1]
    lookahead = made_lookahead(classes, width)
    size = Size(
        rows=mapped.num_examples,
        validation=VALIDATION,
        classes=classes,
        width=width,
        picks=min(MOST_PICKS, mapped.num_examples // 100),
        blocks=point.blocks,
        auto_step=point.auto_step,
    )
    plan = Glister(picks=Blocks(point.blocks), step_size="auto" if point.auto_step else 0.05)
    taken, cpu, ids = [], [], []
    with Memory() as memory:
        for _ in range(point.repeats + (point.repeats > 1)):  # the first warms up
            start, start_cpu = perf_counter(), process_time()
            chosen = plan.select(shards_here(mapped, point.shards), lookahead, size.picks)
            taken.append(perf_counter() - start)
            cpu.append(process_time() - start_cpu)
            ids = chosen.ids.tolist()
    return {
        "seconds": statistics.median(taken[1:] or taken),
        "cpu_s": statistics.median(cpu[1:] or cpu),
        "size": asdict(size),
        "factor_bytes": mapped.num_bytes,
        "ids": f"{hash(tuple(ids)):x}",
        **memory.figures(),
    }


def one_core(*, classes: int, width: int) -> Device:
    """Return what a core does in a second of its own, by a product and a copy of a tile."""
    torch.set_num_threads(1)
    tile_rows = tile_rows_of(classes, width)
    embedding_NH, direction = torch.randn(tile_rows, width), torch.randn(classes, width)
    product_s = _seconds_of(lambda: embedding_NH @ direction.T)
    copy_s = _seconds_of(embedding_NH.clone)
    return Device(
        flops=2.0 * tile_rows * width * classes / product_s,
        memory=2.0 * embedding_NH.numel() * 4 / copy_s,
        link=math.inf,
    )


def _seconds_of(do: Callable[[], object]) -> float:
    found: list[float] = []
    for _ in range(5):
        start = process_time()
        do()
        found.append(process_time() - start)
    return statistics.median(found)


def _row(rows: int, shards: int, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": rows,
        "shards": shards,
        "factors_mb": found["factor_bytes"] / 1e6,
        "seconds": found["seconds"],
        "cpu_s": found["cpu_s"],
        "to_model": found["model"],
        "anonymous_mb": found["anonymous_bytes"] / 1e6,
        "process_mb": found["process_bytes"] / 1e6,
        "mapped_mb": found["mapped_bytes"] / 1e6,
        "high_water_mb": found["high_water_bytes"] / 1e6,
        "swap_mb": found["swap_bytes"] / 1e6,
        "major_faults": found["major_faults"],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Point(**json.loads(sys.argv[1])))) + "\n")
