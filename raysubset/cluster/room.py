"""Room: what an experiment asks of a cluster, counted before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings

# A private local Ray counts logical CPUs: ranks wait while scorers work, and the other way round.
RANKS_PER_CORE = 1
SCORERS_PER_CORE = 4


@dataclass(frozen=True, kw_only=True)
class Room:
    """Where everything goes.

    Attributes:
        placement: "actors" (dedicated scorers) or "crew" (the training ranks score in place).
        device: of ranks and scorers.
        workers: training ranks.
        scorers: scoring actors; 0 in `crew` placement.
        cpus: CPUs that all of it takes.
        gpus: GPUs that all of it takes.
    """

    placement: Literal["actors", "crew"]
    device: Literal["cpu", "cuda"]
    workers: int
    scorers: int
    cpus: float
    gpus: float


def plan_room(asked: ResourceSettings, there: Mapping[str, float]) -> Room:
    """Return where ranks and scorers go.

    Args:
        asked: the experiment's resources.
        there: `ray.cluster_resources()`.

    Raises:
        RoomError: less room than asked for, with both numbers.
    """
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    device = _device(asked, gpus)
    _require(asked.workers, cpus, "CPUs", f"{asked.workers} training ranks", "resources.workers")
    spare_cpus = cpus - asked.workers
    spare_gpus = gpus - asked.workers if device == "cuda" else float("inf")
    fits = spare_cpus >= asked.scorers and spare_gpus >= asked.scorers
    if asked.placement == "actors" and not fits:
        unit, count = ("CPUs", cpus) if spare_cpus < asked.scorers else ("GPUs", gpus)
        what = f"{asked.workers} training ranks and {asked.scorers} scorers"
        _require(asked.workers + asked.scorers, count, unit, what, "resources.scorers")
    scorers = asked.scorers if fits and asked.placement != "crew" else 0
    size = asked.workers + scorers
    return Room(
        placement="actors" if scorers else "crew",
        device=device,
        workers=asked.workers,
        scorers=scorers,
        cpus=size,
        gpus=size if device == "cuda" else 0,
    )


def local_cpus(asked: ResourceSettings) -> int:
    """Return the logical CPUs of a private local Ray.

    Raises:
        RoomError: more ranks than cores, or more scorers than cores can share.
    """
    cores = max(2, os.cpu_count() or 1)
    scorers = 0 if asked.placement == "crew" else asked.scorers
    for name, count, most in (
        ("workers", asked.workers, cores * RANKS_PER_CORE),
        ("scorers", scorers, cores * SCORERS_PER_CORE),
    ):
        if count > most:
            raise RoomError(
                f"resources.{name}={count}, and this machine of {cores} cores places at most "
                f"{most}; lower --resources.{name}, or connect to a cluster (RAY_ADDRESS)."
            )
    return max(cores, asked.workers + scorers)


def _device(asked: ResourceSettings, gpus: float) -> Literal["cpu", "cuda"]:
    if asked.device == "cuda":
        # One rank per whole GPU: NCCL refuses two ranks on one, and fractions depend on luck.
        what = f"{asked.workers} training ranks on GPUs"
        _require(asked.workers, gpus, "GPUs", what, "resources.workers")
        return "cuda"
    return "cuda" if asked.device == "auto" and gpus >= asked.workers else "cpu"


def _require(need: float, there: float, unit: str, what: str, option: str) -> None:
    if need > there:
        raise RoomError(
            f"{what} need {need:g} {unit}, and the cluster has {there:g}; lower --{option} or "
            "add nodes."
        )
