"""Outcomes made up for tests of tables and verdicts."""

from __future__ import annotations

from typing import Any

from raysubset.engine import Outcome

_VALUES: dict[str, Any] = {
    "strategy": "glister",
    "fraction": 0.1,
    "seed": 0,
    "budget": 129,
    "num_pool": 1295,
    "epochs": 60,
    "selections": 5,
    "visits": 7740,
    "distinct": 510,
    "validation_accuracy": 0.986,
    "tuning_accuracy": None,
    "test_accuracy": 0.9749,
    "test_macro_f1": 0.9749,
    "seconds_scoring": 0.25,
    "seconds_greedy": 0.24,
    "seconds_training": 1.6,
    "seconds_other": 0.02,
    "speed_up": 7.58,
    "ceiling": 7.52,
}


def outcome(strategy: str = "glister", test_accuracy: float = 0.9749, **others: Any) -> Outcome:
    """Return an outcome like that of a run on digits."""
    changed = {"strategy": strategy, "test_accuracy": test_accuracy, **others}
    return Outcome.of(_VALUES | changed)
