"""Whether an experiment has room, on the Ray that is connected or on one of this machine's own."""

from __future__ import annotations

from dataclasses import dataclass

import ray
from ray._private.state import available_resources_per_node

from raysubset.cluster.autoscaler import Autoscaler, find_autoscaler
from raysubset.cluster.room import Nodes, Room, local_cpus, places, plan_room, whole_gpus
from raysubset.cluster.session import all_nodes, refuse_overlap
from raysubset.doctor.finding import Finding, failed, ok, warning
from raysubset.doctor.fitting import Plan
from raysubset.errors import RoomError
from raysubset.experiment import Experiment, ResourceSettings
from raysubset.preparation import settled


@dataclass(frozen=True, kw_only=True)
class Around:
    """The nodes that a run could use.

    Attributes:
        nodes: resources of each, those that an autoscaler could start included.
        standing: resources of each that stands.
        free: of these, what nobody holds; None for a Ray that is not there yet.
        scaler: the autoscaler, where there is one.
    """

    nodes: Nodes
    standing: Nodes
    free: Nodes | None = None
    scaler: Autoscaler | None = None


def around(asked: ResourceSettings, gpus: int | None) -> Around:
    """Return what the connected Ray has, or (gpus is a number) what one of this machine would.

    Raises:
        RoomError: more is asked of this machine than it has cores for.
    """
    if gpus is not None:
        alone: Nodes = [{"CPU": float(local_cpus(asked)), "GPU": float(gpus)}]
        return Around(nodes=alone, standing=alone)
    return Around(
        nodes=all_nodes(asked),
        standing=[node["Resources"] for node in ray.nodes() if node["Alive"]],
        free=list(available_resources_per_node().values()),
        scaler=find_autoscaler(),
    )


def check_room(experiment: Experiment, gpus: int | None) -> tuple[Finding, Plan, Experiment]:
    """Say whether ranks and scorers have a place; return the plan, and the ranks settled.

    Args:
        experiment: its ranks may be auto.
        gpus: of this machine, for a private Ray; None asks the one that is connected.
    """
    asked = experiment.resources
    try:
        there = around(asked, gpus)
        experiment = settled(experiment, whole_gpus(there.nodes))
        room = plan_room(experiment.resources, there.nodes, free=there.free)
        refuse_overlap(experiment, room.placement)
    except RoomError as error:
        unplaced = Plan(workers=asked.ranks, scorers=0, device="cpu")
        return failed("room", str(error), "ask for less, or add nodes"), unplaced, experiment
    plan = Plan(workers=room.workers, scorers=room.scorers, device=room.device)
    return judge(room, there), plan, experiment


def judge(room: Room, there: Around) -> Finding:
    """Return what is found of a plan that fits: at once, after others, or on nodes to come."""
    need = room.workers + room.scorers
    standing = places(there.standing, room.device)
    free = None if there.free is None else places(there.free, room.device)
    unit = "GPUs" if room.device == "cuda" else "CPUs"
    scorers = f"{room.scorers} scorers" if room.scorers else "no scorers (the ranks score)"
    found = f"{room.workers} training ranks and {scorers} take {need} {unit} of {standing}"
    facts = {"need": need, "standing": standing, "free": free, "device": room.device}
    if standing < need:
        told = "" if there.scaler is None else f"; {there.scaler.told()}"
        found = f"{found} that stand: the autoscaler has to start the others{told}"
        remedy = "nothing, if a few minutes do not matter; else start nodes (min_workers)"
        return warning("room", found, remedy, **facts)
    if free is not None and free < need:
        found = f"{found}, of which {free} are free now: the run would wait for the others"
        remedy = "wait for what runs there (`ray status`), or ask for less"
        return warning("room", found, remedy, **facts)
    return ok("room", found, **facts)
