"""Hand-over: what a round on Ray costs beside forward passes, greedy and training."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobs.benches.measuring import LEAST, Asked, Measured
from raysubset.records import read_history
from raysubset.timeline import KEY

LIMITS_S = {"actors": 0.3, "crew": 0.05}


def handover(asked: Asked) -> Measured | None:
    """What a round on Ray costs beside forward passes, greedy and training, by placement.

    The checkpoint is written and committed beside the next round's scoring; its seconds, and what
    the round waits for it, are stages of their own. Between rounds no stage runs.
    """
    if asked.local:
        return None
    stages = {name: _stages(_rounds(asked, name)) for name in LIMITS_S}
    found = {name: each["hand-over"] for name, each in stages.items()}
    held = {f"{name} / {most:g} s": found[name] / most for name, most in LIMITS_S.items()}
    return Measured(
        seconds=found,
        ratios={**held, "actors / crew": found["actors"] / found["crew"]},
        of="a round of ResNet-18, 1 rank and 1 scorer",
        rows=[{"placement": name, **each} for name, each in stages.items()],
        limits=dict.fromkeys(held, "at most 1"),
    )


def _rounds(asked: Asked, placement: str) -> list[dict[str, Any]]:
    """Return the rounds of a run that selects before every epoch."""
    from raysubset.cluster.ray_run import run_ray

    run = asked.prepared(
        model__name="resnet18",  # 11 million weights: what travels is the size of real ones
        data__limit=300,
        resources__placement=placement,
        resources__workers=1,
        resources__scorers=1,
        # The first selects nothing, the second warms up, and after the last comes no other.
        training__epochs=max(LEAST, asked.repeats) + 3,
        selection__select_every=1,
        selection__strategy="glister",
    )
    with tempfile.TemporaryDirectory() as folder:
        run_ray(run, Path(folder) / placement)
        return [r for r in read_history(Path(folder) / placement) if r["kind"] == "round"]


def _stages(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each stage, hand-over first, then its parts."""
    kept = rounds[2:-1]

    def median(name: str) -> float:
        return statistics.median(line.get(f"seconds_{name}") or 0.0 for line in kept)

    fit = [r["seconds_handover"] - r["seconds_handover_selecting"] for r in kept]
    inside = [r["seconds_training"] + r["seconds_evaluation"] + r["seconds_rows"] for r in kept]
    travel = [r["seconds_fit_wall"] - within for r, within in zip(kept, inside, strict=True)]
    return {
        "hand-over": median("handover"),
        "selecting": median("handover_selecting"),
        "of it weights": median("weights"),
        "fit": statistics.median(fit),
        "of it rows": median("rows"),
        "of it order": statistics.median(travel),
        "checkpoint": median("checkpoint_write"),
        "its wait": median("checkpoint_wait"),
        "between": statistics.median(_between(rounds[2:])),
        "scoring": median("scoring"),
        "greedy": median("greedy"),
        "training": median("training"),
        "evaluation": median("evaluation"),
    }


def _between(rounds: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the seconds from the end of each round's evaluation to the next one's begin."""
    spans = [line[KEY]["spans"] for line in rounds]
    ends = [max(end for stage, _, end in each if stage == "evaluation") for each in spans]
    begins = [min(begin for _, begin, _ in each) for each in spans]
    return [begin - end for end, begin in zip(ends, begins[1:], strict=False)]
