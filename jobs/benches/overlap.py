"""Overlap: what selecting beside training gains in time, and what it does to accuracy.

In one process the two share its cores; on Ray a rank trains while a scorer scores and the driver
picks.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from jobs.benches.measuring import Asked, Measured
from raysubset.engine import Outcome
from raysubset.local_run import run_local
from raysubset.preparation import Prepared
from raysubset.records import read_history
from raysubset.timeline import BESIDE, timeline_of

SEEDS = (0, 1, 2)
ROWS = 1_500
_OPTIONS: dict[str, Any] = {
    "data__limit": ROWS,
    "selection__strategy": "glister",
    "selection__fraction": 0.1,
    "selection__select_every": 5,
    "training__epochs": 30,
    "resources__workers": 1,
    "resources__scorers": 1,
    "resources__placement": "actors",  # the crew trains and selects with the same ranks
}


def overlap(asked: Asked) -> Measured:
    """Selecting beside a round's last epoch against selecting after it: seconds and accuracy."""
    waited: dict[bool, list[float]] = {False: [], True: []}
    outcomes: dict[bool, list[Outcome]] = {False: [], True: []}
    for seed in SEEDS:
        for on in waited:
            outcome, seconds = _run(asked, seed, on=on)
            outcomes[on].append(outcome)
            waited[on].append(seconds)
    off, on = (statistics.median(waited[each]) for each in (False, True))
    return Measured(
        seconds={"off": off, "on": on},
        ratios={"on / off": on / off},
        of=f"{outcomes[False][0].num_pool:,} rows, 30 epochs of 10 %, a selection every 5, "
        f"{len(SEEDS)} seeds, exact picks; evaluation is left out",
        rows=[_row(on, outcomes[on], waited[on]) for on in (False, True)],
    )


def _run(asked: Asked, seed: int, *, on: bool) -> tuple[Outcome, float]:
    """Return the outcome of a run, and its seconds without evaluation."""
    ready = asked.prepared(**_OPTIONS, seed=seed, selection__overlap=on)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_local(ready, folder) if asked.local else _on_ray(ready, folder)
        timeline = timeline_of(_rounds(folder))
    assert timeline is not None
    own = [bar for bar in timeline.bars if bar.stage not in BESIDE]
    evaluation_s = sum(bar.seconds for bar in own if bar.stage == "evaluation")
    return outcome, max(bar.end_s for bar in own) - evaluation_s


def _on_ray(ready: Prepared, folder: str) -> Outcome:
    """Run with one rank and one scorer of its own."""
    from raysubset.cluster.ray_run import run_ray

    return run_ray(ready, folder)


def _rounds(folder: str) -> list[dict[str, Any]]:
    return [line for line in read_history(Path(folder)) if line["kind"] == "round"]


def _row(on: bool, outcomes: list[Outcome], waited: list[float]) -> dict[str, Any]:
    accuracy = [100 * outcome.test_accuracy for outcome in outcomes]
    selecting = [each.seconds_scoring + each.seconds_greedy for each in outcomes]
    return {
        "overlap": str(on).lower(),
        "seconds": statistics.median(waited),
        "selecting s": statistics.median(selecting),
        "training s": statistics.median(each.seconds_training for each in outcomes),
        "other s": statistics.median(each.seconds_other for each in outcomes),
        "test %": statistics.mean(accuracy),
        "+-": statistics.stdev(accuracy),
        "by seed": " ".join(f"{each:.1f}" for each in accuracy),
    }
