"""The pass and the gains hold factors, and nothing of the size of expanded gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
N, C, H = 1_024, 500, 1_000  # expanded: 2 GB; factors: 6 MB
EXPANDED_MB = 4 * N * C * H / 1e6
MEASURE = """
import json, sys
import numpy as np, torch
from raysubset.core.lookahead import Lookahead
from raysubset.core.scores import Alignment, GradientNorm
from raysubset.learn.choosing import factors_of
from raysubset.learn.embedded import embedded_problem
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts
from raysubset.learn.scoring import Scorer, ranges_of
from raysubset.core.factors import GradientFactors

N, C, H = json.loads(sys.argv[1])
torch.set_num_threads(1)
draw = np.random.default_rng(0)

def part(ids):
    return Dataset(
        name="rows", kind="tabular", content=draw.normal(size=(len(ids), H)).astype(np.float32),
        label_N=draw.integers(0, C, len(ids)), class_names=tuple(map(str, range(C))),
        id_N=np.arange(ids.start, ids.stop),
    )

pool = part(range(N))
parts = Parts(pool=pool, validation=part(range(N, N + 64)), tuning=None, test=part(range(0)))
scorer = Scorer(
    embedded_problem(parts, scoring_batch=256, threads=1, seed=0), torch.device("cpu")
)

def peak_mb():  # not ru_maxrss: a process begins with its parent's
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3

def everything(ids):
    outputs = [scorer.score(rows) for rows in ranges_of("pool", ids, 256)]
    scored = peak_mb()
    factors = GradientFactors.concat([factors_of(out, "cpu") for out in outputs])
    direction = torch.ones(C, H + 1)
    for score in (Alignment(direction), Alignment(direction, normalize=True), GradientNorm()):
        assert score(factors).shape == (len(ids),)
    assert factors.gradient_sum().shape == (C, H + 1)
    return scored

everything(pool.id_N[:256])  # warm: what torch and its kernels keep for themselves
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # the high-water mark is what stands now
before = peak_mb()
scored = everything(pool.id_N)
print(json.dumps({"pass": scored - before, "all": peak_mb() - before}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's high-water mark")
def test_neither_the_pass_nor_the_gains_ever_hold_rows_x_classes_x_width():
    told = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps([N, C, H])],
        cwd=ROOT,
        # An array's memory goes back when it does: what the warm pass left would hold the next.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    grown = json.loads(told.stdout.splitlines()[-1])
    factors_mb = 4 * N * (C + H) / 1e6
    # Outputs, the residual and its one-hot, copies of a range: a few times the factors.
    assert grown["all"] < 8 * factors_mb < EXPANDED_MB / 40
    # Not vacuous: what the pass returns is in it, so the high-water mark does move.
    assert grown["pass"] > 0.5 * factors_mb
