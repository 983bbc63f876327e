"""How the cases of `jobs.bench` measure: what is asked for, what is found, medians in turns.

A case warms up, then measures what it compares in turns, at least five times each, and tells the
medians: on a shared machine a ratio of medians from one run says more than two figures from two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import torch

from raysubset.experiment import Experiment, nest
from raysubset.learn.sources import Sources
from raysubset.local_run import local_device
from raysubset.preparation import Prepared, load_data, prepare

LEAST = 5
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is measured, and how often.

    Attributes:
        options: the experiment's, by name ("data.path"); without "model.name" it is convnet.
        repeats: of everything that is timed, at least LEAST.
        local: this process alone, without Ray.
        features: where the trained network's features are kept between calls; None: nowhere.
        big: whether cases measure what takes many gigabytes of disk and several minutes too.
    """

    options: Mapping[str, Any]
    repeats: int = LEAST
    local: bool = False
    features: str | None = None
    big: bool = False

    def prepared(self, **changes: Any) -> Prepared:
        """Return the run of these options, with `section__option=value` changes."""
        own = {name.replace("__", "."): value for name, value in changes.items()}
        values = {"model.name": "convnet", **self.options, **own}
        experiment = Experiment.of(nest(values))
        return prepare(experiment, _sources(experiment))


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


_read: dict[str, Sources] = {}


def _sources(experiment: Experiment) -> Sources:
    """Return the data, read once for all cases: decoding 60,000 images takes most of a minute."""
    which = repr((experiment.data.of_sources(), experiment.seed))
    if which not in _read:
        _read.clear()
        _read[which] = load_data(experiment)
    return _read[which]


Case = Callable[[Asked], Measured | None]
"""None: not to be had here (no Ray, for instance)."""


def medians(
    repeats: int,
    clock: Callable[[], float] = perf_counter,
    /,
    **timed: Callable[[], object],
) -> dict[str, float]:
    """Return the median seconds of each, measured in turns after one unmeasured turn."""
    return medians_by(repeats, (clock,), timed)[0]


def medians_by(
    repeats: int, clocks: Sequence[Callable[[], float]], timed: Mapping[str, Callable[[], object]]
) -> list[dict[str, float]]:
    """Return the same by each of several clocks."""
    taken: list[dict[str, list[float]]] = [{name: [] for name in timed} for _ in clocks]
    for turn in range(max(LEAST, repeats) + 1):
        for name, do in timed.items():
            starts = [clock() for clock in clocks]
            do()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                for own, clock, start in zip(taken, clocks, starts, strict=True):
                    own[name].append(clock() - start)
    return [{name: statistics.median(found) for name, found in own.items()} for own in taken]


def peak_bytes(do: Callable[[], T]) -> tuple[T, int | None]:
    """Return what `do` gives, and by how much this process grew at most meanwhile.

    None where the kernel cannot be asked (it is Linux's /proc that forgets an earlier peak).
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return do(), None
    before = _status("VmRSS")
    value = do()
    return value, _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def device_of(run: Prepared) -> torch.device:
    """Return where a run of one process computes."""
    return torch.device(local_device(run.experiment.resources.device))
