"""How the cases of `jobs.bench` measure: what is asked for, what is found, medians in turns.

A case warms up, then measures what it compares in turns, at least five times each, and tells the
medians: on a shared machine a ratio of medians from one run says more than two figures from two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch

from raysubset.experiment import Experiment, nest
from raysubset.local_run import local_device
from raysubset.preparation import Prepared, prepare

LEAST = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured, and how often.

    Attributes:
        options: the experiment's, by name ("data.path").
        repeats: of everything that is timed, at least LEAST.
        local: this process alone, without Ray.
        features: where the trained network's features are kept between calls; None: nowhere.
    """

    options: Mapping[str, Any]
    repeats: int = LEAST
    local: bool = False
    features: str | None = None

    def prepared(self, **changes: Any) -> Prepared:
        """Return the run of these options, with `section__option=value` changes."""
        own = {name.replace("__", "."): value for name, value in changes.items()}
        return prepare(Experiment.of(nest({**self.options, **own})))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case found: medians in seconds, ratios of them, and on what.

    Attributes:
        seconds: median seconds by name.
        ratios: by name, of those seconds.
        of: on what, in words.
        rows: a table of its own, where a case measures several points.
        limits: name of a ratio -> what it is held against, in words ("at most 0.2").
    """

    seconds: dict[str, float]
    ratios: dict[str, float]
    of: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, str] = field(default_factory=dict)


Case = Callable[[Asked], Measured | None]
"""None: not to be had here (no Ray, for instance)."""


def medians(repeats: int, **timed: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each, measured in turns after one unmeasured turn."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(max(LEAST, repeats) + 1):
        for name, do in timed.items():
            start = perf_counter()
            do()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name].append(perf_counter() - start)
            if turn == 0:
                taken[name].clear()
    return {name: statistics.median(found) for name, found in taken.items()}


def device_of(run: Prepared) -> torch.device:
    """Return where a run of one process computes."""
    return torch.device(local_device(run.experiment.resources.device))
