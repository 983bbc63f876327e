"""The training group: one long TorchTrainer.fit(), where it is placed, and why it ended."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raysubset.cluster.names import train_name
from raysubset.cluster.rank import serve
from raysubset.cluster.room import Room
from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings


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


def wait_for_room(room: Room, timeout_s: float) -> None:
    """Reserve the ranks' places and let go of them; fit() takes them at once.

    fit() would wait for them in silence, and what it waits for outlives it in a long-lived driver.
    """
    places = placement_group([_per_rank(room)] * room.workers, strategy="PACK")
    try:
        if not ray.wait([places.ready()], timeout=timeout_s)[0]:
            unit = "GPUs" if room.device == "cuda" else "CPUs"
            raise RoomError(
                f"the crew needs {room.workers} {unit} for {room.workers} ranks, and the cluster "
                f"had no room for them within {timeout_s:g} s; free: {_free()}. Free some room, "
                "or raise --resources.start_timeout_s where an autoscaler needs longer."
            )
    finally:
        remove_placement_group(places)


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
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} CPUs, {free.get('GPU', 0):g} GPUs"


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
