"""Rounds: what each stage of a round takes, in one process, on whatever device is there."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from jobs.benches.measuring import LEAST, Asked, Measured, device_of
from raysubset.local_run import run_local
from raysubset.preparation import Prepared
from raysubset.records import read_history

SHARES = (0.1, 0.5)
CPU_ROWS = 600  # train rows: ResNet-18 takes a core tens of milliseconds a row
STAGES = ("scoring", "greedy", "training", "handover", "checkpoint_wait", "evaluation")


def rounds(asked: Asked) -> Measured:
    """Seconds of a round by stage, and images per second, for exact picks of 10 % and 50 %."""
    rows, told = [], ""
    for share in SHARES:
        run, capped = _run(asked, share)
        rows.append({"share": share, **_measured(run, asked.repeats)})
        training, resources = run.experiment.training, device_of(run)
        told = (
            f"{run.identity['model']} on {resources.type}, precision {training.precision}, "
            f"channels_last {training.channels_last}, batches of {training.batch_size}; "
            f"medians of {max(LEAST, asked.repeats)} rounds, a selection before every epoch{capped}"
        )
    seconds = {f"round, {row['share']:.0%}": row["round s"] for row in rows}
    seconds |= {f"exact greedy, {row['share']:.0%}": row["greedy s"] for row in rows}
    ratios = {
        f"selection / training, {row['share']:.0%}": (row["scoring s"] + row["greedy s"])
        / row["training s"]
        for row in rows
    }
    return Measured(seconds=seconds, ratios=ratios, of=told, rows=rows)


def _run(asked: Asked, share: float) -> tuple[Prepared, str]:
    """Return the run, and what was made smaller for a CPU, in words."""
    options: dict[str, Any] = {
        "model__name": asked.options.get("model.name", "resnet18"),
        "selection__strategy": "glister",
        "selection__fraction": share,
        "selection__select_every": 1,
        "selection__batch_size": 500,
        "training__epochs": max(LEAST, asked.repeats) + 2,
        "training__batch_size": 128,
        "resources__workers": 1,
    }
    run = asked.prepared(**options)
    limit = asked.options.get("data.limit", CPU_ROWS)
    if device_of(run).type == "cuda" or len(run.problem.parts.pool.id_N) <= limit:
        return run, ""
    small = {**options, "data__limit": limit, "training__batch_size": 32}
    return asked.prepared(**small), f"; capped for a CPU: {limit} train rows, batches of 32"


def _measured(run: Prepared, repeats: int) -> dict[str, Any]:
    """Return the medians of the rounds after the first two: one selects nothing, one warms up."""
    with tempfile.TemporaryDirectory() as folder:
        run_local(run, Path(folder) / "run")
        lines = [line for line in read_history(Path(folder) / "run") if line["kind"] == "round"]
    lines = lines[2:]
    assert len(lines) >= min(LEAST, repeats), "a round for each measurement"
    stage = {
        f"{name.replace('_', ' ')} s": statistics.median(line[f"seconds_{name}"] for line in lines)
        for name in STAGES
    }
    scored, budget = lines[0]["examples_scored"], run.phases[-1].budget
    return {
        "K": budget,
        "pool": len(run.problem.parts.pool.id_N),
        "round s": sum(stage.values()),
        **stage,
        "scored/s": scored / stage["scoring s"],
        "trained/s": budget / stage["training s"],
    }
