"""Scale: block picks over factors on a disk, from ten thousand rows to ten million.

Every point is a process of its own, because Linux keeps a process's peak and never lowers it.
Shape letters: N rows, V validation, C classes, H embedding width.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from jobs.benches.cost import Device, Size, cost
from jobs.benches.measuring import Asked, Measured
from raysubset.core.factors import GradientFactors, logits_of, residual_of
from raysubset.core.ground_set import ShardedGroundSet
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead
from raysubset.learn.mapped import FactorWriter, Number, open_factors, tile_rows_of
from raysubset.learn.shards import shards_here
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Blocks

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
SHARDED_ROWS, SHARDS = 1_000_000, (2, 3, 4)
MOST_PICKS = 10_000
_VALIDATION = 1_000
_RANGE = 32_768
_LOOK_S = 0.01


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
    rows: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    ids: dict[int, str] = {}
    device = one_core(classes=10, width=64)
    for count in ROWS:
        with made(count, classes=10, width=64, kind="float16") as folder:
            shards = (1, *SHARDS) if count == SHARDED_ROWS else (1,)
            for each in shards:
                repeats = asked.repeats if count < ROWS[-1] else 1
                found = measured(Point(folder=str(folder), shards=each, repeats=repeats), device)
                ids.setdefault(count, found["ids"])
                assert found["ids"] == ids[count], "shards chose other ids than the whole"
                rows.append(_row(count, each, found))
                seconds[f"{count:,} rows, {each} shard{'s' * (each > 1)}"] = found["seconds"]
    alone = [row for row in rows if row["shards"] == 1 and row["rows"] >= 100_000]
    ratios = {
        "slope of log t on log N": slope([(row["rows"], row["cpu_s"]) for row in alone]),
        "memory, 10^7 / 10^5": alone[-1]["anonymous_mb"] / alone[0]["anonymous_mb"],
        "shards 4 / 1, seconds": _sharded(rows, 4) / _sharded(rows, 1),
    }
    if asked.big:
        found = big()
        rows.append(_row(found["rows"], found["shards"], found))
        seconds["ImageNet-1k's size"] = found["seconds"]
    limits = {
        "slope of log t on log N": "1 is linear",
        "memory, 10^7 / 10^5": "1 is flat",
    }
    told = "blocks(5), 1 % of rows and at most 10,000, C 10, H 64, 16 bit"
    return Measured(seconds=seconds, ratios=ratios, of=told, rows=rows, limits=limits)


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
        return {"rows": rows, "shards": shards, **measured(point, device)}


def slope(points: list[tuple[float, float]]) -> float:
    """Return the slope of log y on log x: 1 where y grows as x does."""
    x = [math.log(point[0]) for point in points]
    y = [math.log(point[1]) for point in points]
    return statistics.linear_regression(x, y).slope


@contextmanager
def made(rows: int, *, classes: int, width: int, kind: Number) -> Iterator[Path]:
    """Give a folder of generated factors; delete it."""
    folder = Path(tempfile.mkdtemp(prefix="raysubset-scale-"))
    try:
        writer = FactorWriter(
            folder, rows=rows, classes=classes, width=width, residuals=kind, embeddings=kind
        )
        with writer:
            block = _block(classes, width)
            for start in range(0, rows, _RANGE):
                writer.write(start, _range(block, start, min(rows, start + _RANGE)))
        yield folder
    finally:
        shutil.rmtree(folder)


def _block(classes: int, width: int) -> GradientFactors:
    """Return one range of rows under a random head; the others are made of it."""
    weight_CH, bias_C = _head(classes, width)
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "block") % 2**31)
    label_N = torch.randint(classes, (_RANGE,), generator=draw)
    embedding_NH = torch.randn(_RANGE, width, generator=draw)
    residual_NC = residual_of(logits_of(embedding_NH, weight_CH, bias_C), label_N)
    return GradientFactors(
        ids_N=torch.arange(_RANGE),
        label_N=label_N,
        residual_NC=residual_NC,
        embedding_NH=embedding_NH,
    )


def _head(classes: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "head") % 2**31)
    return torch.randn(classes, width, generator=draw) / width**0.5, torch.zeros(classes)


def _range(block: GradientFactors, start: int, stop: int) -> GradientFactors:
    """Return the rows [start, stop): the block's, each with a factor of its own by its key."""
    draw = torch.Generator().manual_seed(derive_key(0, "scale", start) % 2**31)
    rows = slice(0, stop - start)
    by_row = 0.5 + torch.rand(2, stop - start, 1, generator=draw)
    return GradientFactors(
        ids_N=torch.arange(start, stop),
        label_N=block.label_N[rows],
        residual_NC=block.residual_NC[rows] * by_row[0],
        embedding_NH=block.embedding_NH[rows] * by_row[1],
    )


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
    lookahead = _lookahead(classes, width)
    size = Size(
        rows=mapped.num_examples,
        validation=_VALIDATION,
        classes=classes,
        width=width,
        picks=min(MOST_PICKS, mapped.num_examples // 100),
        blocks=point.blocks,
        auto_step=point.auto_step,
    )
    plan = Glister(picks=Blocks(point.blocks), step_size="auto" if point.auto_step else 0.05)
    with Memory() as memory:
        taken, cpu, ids = [], [], []
        for _ in range(point.repeats + (point.repeats > 1)):
            start, start_cpu = perf_counter(), process_time()
            ground_set: ShardedGroundSet = shards_here(mapped, point.shards)
            ids = plan.select(ground_set, lookahead, size.picks).ids.tolist()
            taken.append(perf_counter() - start)
            cpu.append(process_time() - start_cpu)
    return {
        "seconds": statistics.median(taken[1:] or taken),
        "cpu_s": statistics.median(cpu[1:] or cpu),
        "size": asdict(size),
        "factor_bytes": mapped.num_bytes,
        "ids": f"{hash(tuple(ids)):x}",
        **memory.figures(),
    }


def _lookahead(classes: int, width: int) -> Lookahead:
    draw = torch.Generator().manual_seed(derive_key(0, "scale", "validation") % 2**31)
    label_V = torch.randint(classes, (_VALIDATION,), generator=draw)
    embedding_VH = torch.randn(_VALIDATION, width, generator=draw)
    return Lookahead.from_embeddings(embedding_VH, label_V, *_head(classes, width))


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


class Memory:
    """The peaks of this process while it is looked at, in bytes; pages of files apart."""

    def __enter__(self) -> Memory:
        """Begin to look."""
        self.before = _status()
        self.peak = dict(self.before)
        self.faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._end.set()
        self._thread.join()

    def figures(self) -> dict[str, float]:
        """Return the peaks: of what is the process's own (beyond its start), and of file pages."""
        after = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        return {
            "anonymous_bytes": self.peak["RssAnon"] - self.before["RssAnon"],
            "process_bytes": self.peak["RssAnon"],
            "mapped_bytes": self.peak["RssFile"] - self.before["RssFile"],
            "high_water_bytes": self.peak["VmHWM"],
            "swap_bytes": self.peak["VmSwap"],
            "major_faults": after - self.faults,
        }

    def _look(self) -> None:
        while not self._end.wait(_LOOK_S):
            for name, value in _status().items():
                self.peak[name] = max(value, self.peak[name])


def _status() -> dict[str, int]:
    wanted = ("RssAnon", "RssFile", "VmSwap", "VmHWM")
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[0][:-1] in wanted}


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


def _sharded(rows: list[dict[str, Any]], shards: int) -> float:
    return next(
        row["cpu_s"] for row in rows if row["rows"] == SHARDED_ROWS and row["shards"] == shards
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Point(**json.loads(sys.argv[1])))) + "\n")
