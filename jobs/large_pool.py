"""A pool larger than the object store and than memory: the run finishes, and nobody holds it.

python -m jobs.large_pool --pool-mb 320 --store-mb 80 --memory-mb 40

Starts a Ray of its own on this machine. Prints the peak memory of each process beside the pool's
size for both placements, and whether the chosen ids are those of a run without Ray. What is above
--memory-mb lies in a file that the driver reads block by block, as with --data.memory_mb. Python,
torch and Ray alone take some 500 MB of private memory per process: compare with --pool-mb 24.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import ray

from raysubset.cluster.ray_run import run_ray
from raysubset.experiment import Experiment, nest
from raysubset.learn.data import Dataset
from raysubset.learn.paged import empty_rows, paged_above
from raysubset.learn.sources import Sources
from raysubset.local_run import run_local
from raysubset.preparation import Prepared, prepare
from raysubset.records import read_history

MB = 1 << 20
SIDE, ROWS = 64, 256


def images(pool_mb: int, memory_mb: int) -> Dataset:
    """Return uint8 noise around one shade per class, of about this size."""
    draw = np.random.default_rng(0)
    size = pool_mb * MB // (3 * SIDE * SIDE)
    label_N = np.arange(size) % 8
    with paged_above(memory_mb * MB):
        content = empty_rows((size, 3, SIDE, SIDE), np.uint8, "the noise")
    for start in range(0, size, ROWS):
        shade_B = (label_N[start : start + ROWS] * 16).astype(np.uint8)
        noise = draw.integers(0, 128, (len(shade_B), *content.shape[1:]), dtype=np.uint8)
        content[start : start + ROWS] = noise + shade_B[:, None, None, None]
    return Dataset(
        name="noise",
        kind="image",
        content=content,
        label_N=label_N,
        class_names=tuple("abcdefgh"),
        id_N=np.arange(size),
    )


def ready(data: Dataset, placement: str, strategy: str) -> Prepared:
    """Return a short run on these images."""
    options = {
        "data.path": "noise",
        "data.validation": 0.01,
        "data.test": 0.01,
        "model.name": "mlp",
        "training.epochs": 4,
        "selection.strategy": strategy,
        "selection.fraction": 0.03 if strategy == "glister" else 0.2,
        "selection.select_every": 2,
        "selection.glister.picks": "blocks(50)",
        "resources.workers": 2,
        "resources.scorers": 2,
        "resources.placement": placement,
    }
    return prepare(Experiment.of(nest(options)), Sources(train=data))


def memory_of(run_dir: Path) -> dict[str, dict[str, int]]:
    """Return the largest figures of each process in MB, by kind."""
    most: dict[str, dict[str, int]] = {"peak_bytes": {}, "private_bytes": {}}
    for line in read_history(run_dir):
        for kind, known in most.items():
            for who, size in (line.get(kind) or {}).items():
                known[who] = max(known.get(who, 0), size // MB)
    return most


def ids_of(run_dir: Path) -> list[list[int]]:
    """Return every round's ids."""
    tables = sorted(run_dir.glob("rounds/*/selection.parquet"))
    return [pq.read_table(path)["id"].to_pylist() for path in tables]


def main() -> int:
    """Run, print one line of JSON per case, and return 0 if all ids are those without Ray."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pool-mb", type=int, default=320)
    asked.add_argument("--store-mb", type=int, default=80)
    asked.add_argument("--memory-mb", type=int, default=40)
    asked.add_argument("--case", action="append", help="PLACEMENT:STRATEGY; again for more")
    given = asked.parse_args()
    data = images(given.pool_mb, given.memory_mb)
    folder = Path(tempfile.mkdtemp(prefix="lp-", dir="/tmp"))
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    store = given.store_mb * MB
    ray.init(
        address="local",
        num_cpus=6,
        include_dashboard=False,
        object_store_memory=store,
        log_to_driver=False,
        _temp_dir=str(folder / "ray"),
    )
    same = True
    try:
        for case in given.case or ["actors:glister", "crew:glister", "crew:adaptive-random"]:
            placement, _, strategy = case.partition(":")
            run, twin = folder / case.replace(":", "-"), folder / f"twin-{strategy}"
            prepared = ready(data, placement, strategy)
            run_ray(prepared, run)
            if not twin.exists():
                run_local(prepared, twin)
            equal = ids_of(run) == ids_of(twin)
            same &= equal
            told = {"case": case, "pool_mb": data.content.nbytes // MB, "store_mb": given.store_mb}
            print(json.dumps({**told, "same_ids": equal, **memory_of(run)}), flush=True)
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
