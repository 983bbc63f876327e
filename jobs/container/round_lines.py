"""What a platform reads off the log: a line of `key=value` pairs per round, and one at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from raysubset.engine import Outcome
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection

OF_A_ROUND = (
    *("validation_accuracy", "validation_macro_f1", "validation_loss"),
    *("tuning_accuracy", "tuning_loss", "visits"),
    *("seconds_scoring", "seconds_greedy", "seconds_training", "seconds_evaluation"),
)
OF_A_RUN = (
    *("strategy", "fraction", "seed", "budget", "epochs", "selections", "visits", "distinct"),
    *("validation_accuracy", "tuning_accuracy", "test_accuracy", "test_macro_f1"),
    *("seconds_scoring", "seconds_greedy", "seconds_training", "seconds_other"),
    *("speed_up", "ceiling"),
)
METRIC_DEFINITIONS = {
    "validation:accuracy": r"\bround=\d+ .*\bvalidation_accuracy=([0-9.eE+-]+)",
    "validation:loss": r"\bround=\d+ .*\bvalidation_loss=([0-9.eE+-]+)",
    "subset:size": r"\bround=\d+ .*\bexamples=([0-9]+)",
    "seconds:selection": r"\bround=\d+ .*\bseconds_selection=([0-9.eE+-]+)",
    "seconds:training": r"\bround=\d+ .*\bseconds_training=([0-9.eE+-]+)",
    "test:accuracy": r"\bfinished=1 .*\btest_accuracy=([0-9.eE+-]+)",
    "speed_up": r"\bfinished=1 .*\bspeed_up=([0-9.eE+-]+)",
}
"""Metric name -> regular expression, as a platform's metric definitions want them."""


def round_line(phase: Phase, metrics: Mapping[str, Any]) -> str:
    """Return "round=3 epoch=39 strategy=glister examples=129 validation_accuracy=0.91 ..."."""
    selecting = [metrics.get(f"seconds_{stage}") or 0.0 for stage in ("scoring", "greedy")]
    told = {
        "round": phase.round,
        "epoch": phase.epochs.stop - 1,
        "strategy": phase.strategy,
        "examples": phase.budget,
        **{name: metrics.get(name) for name in OF_A_ROUND},
        "seconds_selection": sum(selecting),
    }
    return pairs(told)


def run_line(outcome: Outcome) -> str:
    """Return "finished=1 ... test_accuracy=0.98 ..."."""
    told = asdict(outcome)
    return pairs({"finished": 1, **{name: told[name] for name in OF_A_RUN}})


def pairs(told: Mapping[str, Any]) -> str:
    """Return "key=value key=value" of what is known: no None, no number that is none."""
    return " ".join(f"{k}={_short(v)}" for k, v in told.items() if _known(v))


def _known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class RoundLines:
    """A watch that prints a line per round."""

    def progress(self, stage: str, done: int, of: int) -> None:
        """Say nothing: a log is no screen."""

    def round_started(self, phase: Phase, rounds: int) -> None:
        """Say nothing."""

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """Print the round."""
        print(round_line(phase, metrics), flush=True)
