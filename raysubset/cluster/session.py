"""A connection to Ray: the one that is there, or a private one on this machine."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import OutOfDiskError

from raysubset import logs
from raysubset.cluster.asking_nodes import first_line
from raysubset.cluster.autoscaler import find_autoscaler
from raysubset.cluster.room import (
    Nodes,
    Room,
    beside_other_trials,
    local_cpus,
    plan_room,
    wanted_scorers,
    whole_gpus,
)
from raysubset.cluster.versions import refuse_other_versions
from raysubset.errors import RoomError
from raysubset.experiment import Experiment, ResourceSettings
from raysubset.preparation import settled, settled_here

KNOCK_S = 20.0
_FULL = (
    "Ray's object store is full, and no space is left on the disk that it spills to (from 95 % on, "
    "Ray writes nothing there); finished rounds are kept. Make room under its session folder "
    "(/tmp/ray, or RAY_TMPDIR), or start Ray with a larger --object-store-memory, then run the "
    "same command with --resume; `raysubset doctor` tells how full each node's disk is."
)


@contextmanager
def ray_session(experiment: Experiment) -> Generator[Room]:
    """Connect, count the room, and let go again of what was started here.

    A cluster that is connected already, or named by RAY_ADDRESS (as inside `ray job submit`), is
    used as it is; else a private Ray without dashboard starts on this machine.

    Raises:
        RoomError: no Ray, other software on its nodes than here, or less room than the experiment
            asks for; nothing was started on it. Or both the object store and the disk beside it
            are full.
    """
    with _connection(experiment):
        refuse_other_versions()
        try:
            yield find_room(experiment.resources)
        except OutOfDiskError as error:
            raise RoomError(_FULL) from error


def settled_on_ray(experiment: Experiment) -> Experiment:
    """Return the experiment with as many ranks as fit on the Ray where it is going to run.

    Raises:
        RoomError: no Ray answers at RAY_ADDRESS, or `refuse_overlap` raised it.
    """
    refuse_overlap(experiment, experiment.resources.placement)
    if not on_a_cluster():
        return settled_here(experiment)
    with _connection(experiment):
        return settled(experiment, whole_gpus(all_nodes(experiment.resources)))


def on_a_cluster() -> bool:
    """Return whether a Ray is there to run on; else a private one starts on this machine."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def refuse_overlap(experiment: Experiment, placement: str) -> None:
    """Refuse to select beside training where the ranks would do both.

    Raises:
        RoomError: `selection.overlap` in `crew` placement.
    """
    if experiment.selection.overlap and placement == "crew":
        raise RoomError(
            "selection.overlap=true selects beside training, and here the training ranks would "
            "also score (asked by --resources.placement crew, or no room beside them); ask for "
            "scorers with --resources.placement actors --resources.scorers N, add --local, or set "
            "--selection.overlap false."
        )


def find_room(asked: ResourceSettings) -> Room:
    """Return where ranks and scorers go on the Ray that is connected.

    Raises:
        RoomError: what is there, and what an autoscaler could start, is less than asked for.
    """
    nodes = all_nodes(asked)
    if ray.get_runtime_context().get_actor_id() is not None:
        return plan_room(beside_other_trials(asked, nodes), nodes)  # a trial: counted by its sweep
    return plan_room(asked, nodes, free=list(available_resources_per_node().values()))


def all_nodes(asked: ResourceSettings) -> Nodes:
    """Return the nodes that stand, and those that an autoscaler could start."""
    there: Nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    scaler = find_autoscaler()
    if scaler is None:
        return there
    if scaler.could_start is not None:
        return [*there, *scaler.could_start]
    # It tells nobody what it could start: whatever is asked for may come, and is waited for.
    gpu = {"GPU": 1.0} if asked.device == "cuda" or whole_gpus(there) else {}
    return [*there, *([{"CPU": 1.0} | gpu] * (asked.ranks + wanted_scorers(asked)))]


@contextmanager
def _connection(experiment: Experiment) -> Generator[None]:
    """Connect where nobody did, and let go of that again."""
    if ray.is_initialized():
        yield
        return
    # Ray Train's defaults suit clusters; the poll interval is how long its end takes to be seen.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray sets accelerator variables to nothing where a task asks for none; GPUs stay visible.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with own_sigterm():
            if address := os.environ.get("RAY_ADDRESS"):
                _connect(address)
            else:
                _start_private(experiment)
        yield
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    if "://" in address:
        raise RoomError(
            f"RAY_ADDRESS={address} is no cluster to run on from here; send the job there with "
            "`ray job submit`, or unset RAY_ADDRESS for a private Ray on this machine."
        )
    try:
        _knock(address)
        ray.init(logging_level=logging.WARNING, log_to_driver=False, logging_config=_as_json())
        logs.reshape()
    except Exception as error:  # Ray raises whatever is at hand, plain Exception included
        raise RoomError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({_first_line(error)}); start it, "
            "or unset RAY_ADDRESS for a private Ray on this machine."
        ) from error


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: ray.init() alone tries for more than five minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _start_private(experiment: Experiment) -> None:
    cpus = local_cpus(experiment.resources)
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    try:
        ray.init(
            address="local",  # never another Ray that happens to run on this machine
            num_cpus=cpus,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            logging_config=_as_json(),
        )
        logs.reshape()
    except Exception as error:  # Ray raises whatever is at hand, plain Exception included
        told = _first_line(error)
        # Ray's sockets lie in the folder for temporary files, and a job's own is often a deep one.
        remedy = "set RAY_TMPDIR to a folder with a short name, such as /tmp"
        if "AF_UNIX path length" not in told:
            remedy = "try again when it is less busy"
        raise RoomError(
            f"Ray did not start on this machine ({told}); {remedy}, or run in one process with "
            "--local: the ids are the same."
        ) from error


def _as_json() -> ray.LoggingConfig | None:
    """Return how Ray's processes log, where the lines of this application are JSON."""
    if not logs.wanted():
        return None
    return ray.LoggingConfig(
        encoding="JSON", log_level="INFO", additional_log_standard_attrs=["name"]
    )


@contextmanager
def own_sigterm() -> Generator[None]:
    """Give a handler of SIGTERM back that Ray takes: it exits where we end in good order.

    ray.init() takes it, and so does the start of a node, whatever comes of them.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _first_line(error: Exception) -> str:
    if str(error).startswith("Version mismatch"):  # Ray tells of both sides, a line each
        return " ".join(str(error).split()).rstrip(".")
    return first_line(error)
