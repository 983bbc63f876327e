"""Room: what an experiment asks of a cluster, counted before anything starts.

Ranks and scorers take the same place: 1 CPU, and on GPUs 1 whole GPU of the same node. So a
cluster is the number of such places on each of its nodes, and never its sum: two nodes with half
a GPU free hold no rank.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings

# A private local Ray counts logical CPUs: ranks wait while scorers work, and the other way round.
RANKS_PER_CORE = 1
SCORERS_PER_CORE = 4
CPU_SCORERS = 2  # what `scorers: auto` means on CPUs
Device = Literal["cpu", "cuda"]
Nodes = Sequence[Mapping[str, float]]
"""The resources of every node, as `ray.nodes()` tells them: CPU, GPU and others."""


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
    device: Device
    workers: int
    scorers: int
    cpus: float
    gpus: float


def plan_room(
    asked: ResourceSettings, there: Nodes | Mapping[str, float], *, free: Nodes | None = None
) -> Room:
    """Return where ranks and scorers go.

    Args:
        asked: the experiment's resources.
        there: every node's resources, those that an autoscaler could start included; a single
            mapping is one node.
        free: what nobody holds of the nodes that stand; None: all that is there. Auto placement
            starts no node for a scorer, and waits for none that others hold.

    Raises:
        RoomError: less room than asked for, with both numbers.
    """
    nodes: Nodes = [there] if isinstance(there, Mapping) else there
    device = device_of(asked, nodes)
    ranks, most = asked.ranks, places(nodes, device)
    what = f"{ranks} training ranks" + (" on GPUs" if device == "cuda" else "")
    _require(ranks, nodes, device, what, "resources.workers")
    scorers = 0
    if asked.placement != "crew":
        scorers = _scorers(asked, nodes, device, most - ranks, free)
    size = ranks + scorers
    return Room(
        placement="actors" if scorers else "crew",
        device=device,
        workers=ranks,
        scorers=scorers,
        cpus=size,
        gpus=size if device == "cuda" else 0,
    )


def beside_other_trials(asked: ResourceSettings, nodes: Nodes) -> ResourceSettings:
    """Return what one trial of a sweep asks for: auto leaves the spare GPUs to more trials."""
    if asked.scorers == "auto" and device_of(asked, nodes) == "cuda":
        return asked.model_copy(update={"placement": "crew"})
    return asked


def places(nodes: Nodes, device: Device) -> int:
    """Return how many ranks or scorers fit on nodes: whole places, each within one node."""
    return sum(_on_node(node, device) for node in nodes)


def whole_gpus(nodes: Nodes) -> int:
    """Return the whole GPUs of nodes: halves of two nodes are none."""
    return sum(int(node.get("GPU", 0.0)) for node in nodes)


def device_of(asked: ResourceSettings, nodes: Nodes) -> Device:
    """Return the device of ranks and scorers: GPUs wherever there is one, unless CPUs are asked.

    Raises:
        RoomError: more ranks asked for than there are GPUs; nobody is sent to the CPU in silence.
    """
    gpus = whole_gpus(nodes)
    if asked.device == "cpu" or (asked.device == "auto" and not gpus):
        return "cpu"
    if asked.device == "auto" and gpus < asked.ranks:
        # NCCL refuses two ranks on one GPU, and fractions depend on luck.
        raise RoomError(
            f"{asked.ranks} training ranks need {asked.ranks} GPUs, and the cluster has {gpus}: a "
            f"rank takes a whole GPU. Give --resources.workers {gpus}, or --resources.device cpu "
            "to train on CPUs."
        )
    return "cuda"


def local_cpus(asked: ResourceSettings) -> int:
    """Return the logical CPUs of a private local Ray.

    Raises:
        RoomError: more ranks than cores, or more scorers than cores can share.
    """
    cores = max(2, os.cpu_count() or 1)
    scorers = 0 if asked.placement == "crew" else wanted_scorers(asked)
    for name, count, most in (
        ("workers", asked.ranks, cores * RANKS_PER_CORE),
        ("scorers", scorers, cores * SCORERS_PER_CORE),
    ):
        if count > most:
            raise RoomError(
                f"resources.{name}={count}, and this machine of {cores} cores places at most "
                f"{most}; lower --resources.{name}, or connect to a cluster (RAY_ADDRESS)."
            )
    return max(cores, asked.ranks + scorers)


def wanted_scorers(asked: ResourceSettings) -> int:
    """Return how many scorers are asked for; auto as it is on CPUs."""
    return CPU_SCORERS if asked.scorers == "auto" else asked.scorers


def _scorers(
    asked: ResourceSettings, nodes: Nodes, device: Device, spare: int, free: Nodes | None
) -> int:
    """Return the scorers beside the ranks; 0 means that the ranks score in place."""
    if free is not None and asked.placement == "auto":
        spare = min(spare, places(free, device) - asked.ranks)
    if asked.scorers == "auto" and device == "cuda":
        count, least = max(0, spare), 1
    else:
        count = least = wanted_scorers(asked)
        if asked.scorers == "auto" and asked.placement == "actors":
            count, least = min(count, max(spare, 1)), 1
    if asked.placement == "actors" and max(spare, 0) < least:
        what = f"{asked.ranks} training ranks and {least} scorers"
        _require(asked.ranks + least, nodes, device, what, "resources.scorers")
    return count if count <= spare else 0


def _on_node(node: Mapping[str, float], device: Device) -> int:
    cpus = int(node.get("CPU", 0.0))
    return min(cpus, int(node.get("GPU", 0.0))) if device == "cuda" else cpus


def _require(need: int, nodes: Nodes, device: Device, what: str, option: str) -> None:
    there = places(nodes, device)
    if need <= there:
        return
    unit = "GPUs" if device == "cuda" else "CPUs"
    has = sum(node.get(unit[:-1], 0.0) for node in nodes)
    told = f"{what} need {need} {unit}, and the cluster has {has:g}"
    if has >= need:
        beside = " with a CPU beside it" if device == "cuda" else ""
        told += f", of which {there} are whole{beside} on one node"
    raise RoomError(f"{told}; lower --{option} or add nodes.")
