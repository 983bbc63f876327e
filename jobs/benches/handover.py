"""Hand-over: what a round on Ray costs beside forward passes, greedy and training."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from jobs.benches.measuring import LEAST, Asked, Measured
from raysubset.records import read_history


def handover(asked: Asked) -> Measured | None:
    """What a round on Ray costs beside forward passes, greedy and training, by placement."""
    if asked.local:
        return None
    from raysubset.cluster.ray_run import run_ray

    found: dict[str, float] = {}
    rounds = max(LEAST, asked.repeats) + 2  # the first selects nothing, the second warms up
    for placement in ("actors", "crew"):
        run = asked.prepared(
            model__name="resnet18",  # 11 million weights: what travels is the size of real ones
            data__limit=300,
            resources__placement=placement,
            resources__workers=1,
            resources__scorers=1,
            training__epochs=rounds,
            selection__select_every=1,
            selection__strategy="glister",
        )
        with tempfile.TemporaryDirectory() as folder:
            run_ray(run, Path(folder) / placement)
            lines = [r for r in read_history(Path(folder) / placement) if r["kind"] == "round"]
        beside = [r["seconds_handover"] + r["seconds_checkpoint_wait"] for r in lines[2:]]
        found[placement] = statistics.median(beside)
    return Measured(
        seconds=found,
        ratios={"actors / crew": found["actors"] / found["crew"]},
        of="a round of ResNet-18, 1 rank and 1 scorer",
    )
