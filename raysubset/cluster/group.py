"""The training group: one long TorchTrainer.fit(), where it is placed, and why it ended."""

from __future__ import annotations

import logging
import math
import time
import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray._private.state import available_resources_per_node
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysubset.cluster.autoscaler import Autoscaler, find_autoscaler
from raysubset.cluster.devices import backend
from raysubset.cluster.names import train_name
from raysubset.cluster.rank import serve
from raysubset.cluster.room import Room
from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings

logger = logging.getLogger(__name__)
ROOM_POLL_S = 1.0
# A rank that waits in a collective ends by itself only after the driver had time to see who hangs.
COLLECTIVE_PATIENCE = 2  # times call_timeout_s
MANY_NODES = 8


def beside_the_driver() -> NodeAffinitySchedulingStrategy:
    """Return the driver's own node: small helpers of it live and die there.

    Explicit, because inside a Tune trial an actor is else captured by the trial's placement group.
    """
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)


class _ShowController(ControllerCallback):
    """Tells the mailbox who controls the group: in a thread, fit() gives nobody a way to abort it.

    `RunConfig.callbacks` takes such a callback, but its class has no public address in Ray 2.60.
    """

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def after_controller_start(self, train_run_context: object) -> None:
        self.mailbox.controlled_by.remote(ray.get_runtime_context().current_actor)


def wait_for_room(room: Room, resources: ResourceSettings) -> None:
    """Reserve the places of ranks and scorers and let go of them; the crew takes its own at once.

    fit() would wait for them in silence, and what it waits for outlives it in a long-lived driver.
    An autoscaler starts nodes for what is reserved; while it does, the wait is told and is longer.

    Raises:
        RoomError: the places were not free in time; names what is missing or on its way.
    """
    wanted = placement_group([_per_rank(room)] * (room.workers + room.scorers), strategy="PACK")
    start, told, ready = time.monotonic(), "", wanted.ready()  # a task: asked for once
    try:
        while not ray.wait([ready], timeout=ROOM_POLL_S)[0]:
            waited_s, scaler = time.monotonic() - start, find_autoscaler()
            limit_s = resources.start_timeout_s
            if scaler is not None and not scaler.infeasible:
                limit_s = max(limit_s, resources.autoscaler_timeout_s)
            if waited_s >= limit_s:
                raise RoomError(_no_room(room, limit_s, scaler))
            if scaler is not None and scaler.told() != told:
                told = scaler.told()
                logger.warning("%s; %.0f s", told, waited_s)
    finally:
        remove_placement_group(wanted)


def _no_room(room: Room, limit_s: float, scaler: Autoscaler | None) -> str:
    unit = "GPUs" if room.device == "cuda" else "CPUs"
    who = f"the crew needs {room.workers} {unit} for {room.workers} ranks"
    if not room.workers:
        who = f"{room.scorers} scorers need {room.scorers} {unit}"
    elif room.scorers:
        who += f" and as many for {room.scorers} scorers"
    state = "" if scaler is None else f" The autoscaler: {scaler.told()}."
    if scaler is not None and scaler.infeasible:
        state += " It says that no node type of its can hold what is asked for."
    option = "start_timeout_s" if scaler is None else "autoscaler_timeout_s"
    return (
        f"{who}, and the cluster had no room for them within {limit_s:g} s; free: {_free()}."
        f"{state} Free some room, or "
        f"raise --resources.{option} where it only takes longer."
    )


def _per_rank(room: Room) -> dict[str, float]:
    return {"CPU": 1, "GPU": 1} if room.device == "cuda" else {"CPU": 1}


def make_trainer(
    config: dict[str, Any], room: Room, resources: ResourceSettings, storage: Path, run: str = "run"
) -> ray.train.torch.TorchTrainer:
    """Return the one long fit() to come; `config` is what `serve` gets."""
    shown: Any = _ShowController(config["mailbox"])
    return ray.train.torch.TorchTrainer(
        serve,
        train_loop_config=config,
        torch_config=ray.train.torch.TorchConfig(
            backend=backend(),
            timeout_s=math.ceil(COLLECTIVE_PATIENCE * resources.call_timeout_s),
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=room.workers,
            use_gpu=room.device == "cuda",
            resources_per_worker=_per_rank(room),
        ),
        run_config=ray.train.RunConfig(
            # Always fresh: Ray Train resumes in silence where a name was used before.
            name=f"raysubset-{train_name(run)}-{uuid.uuid4().hex[:12]}",
            storage_path=str(storage),
            failure_config=ray.train.FailureConfig(
                max_failures=resources.max_failures,
                controller_failure_limit=resources.max_failures,
            ),
            callbacks=[shown],
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _free() -> str:
    """Return what is free, by node: a rank's place lies within one."""
    nodes = available_resources_per_node().values()
    each = [f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes]
    if len(each) > MANY_NODES:
        each = [*each[:MANY_NODES], f"and {len(nodes) - MANY_NODES} nodes more"]
    return " / ".join(each)


def cause_of(error: BaseException | None) -> str:
    """Return why fit() ended, by rank where ranks failed."""
    if error is None:
        return "it returned before it was told to"
    failures = getattr(error, "worker_failures", None)
    if failures:
        return "; ".join(f"rank {rank}: {_last_line(e)}" for rank, e in failures.items())
    return _last_line(error)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
