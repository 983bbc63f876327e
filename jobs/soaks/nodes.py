"""Several nodes of Ray as processes of this machine; all that is private to Ray lies in this file.

`ray.cluster_utils` is Ray's own test helper. It starts nodes, and its view of the cluster's tables
tells the process of every actor, which the public state API would need a dashboard for.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.soaks.driver import REPOSITORY
from jobs.soaks.processes import all_of

logger = logging.getLogger(__name__)
CPUS = 5
"""Logical, of a node: with the other one gone, ranks and some scorers still have room."""
STORE_BYTES = 80 * 2**20
STARTS = 3  # Ray gives itself 30 s for each, which a loaded machine exceeds


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A living actor.

    Attributes:
        kind: its class.
        pid: its process.
        node: where it is, short.
    """

    kind: str
    pid: int
    node: str


def environment(root: Path) -> dict[str, str]:
    """Return what Ray's processes and the drivers need to know, with a token of this soak alone."""
    token = root / "token"
    if not token.is_file():
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
    return {
        "RAY_TMPDIR": str(root),  # else a plain ray.init() on this machine would find these nodes
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # seconds of CPU for processes nobody asks for
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }


class Nodes:
    """A head without CPUs for work, where drivers are, and two nodes beside it."""

    def __init__(self, root: Path) -> None:
        """Start them; `environment(root)` must stand in this process's environment."""
        from ray.cluster_utils import Cluster

        self.root = root
        self._cluster: Any = Cluster()
        small = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        self._add(num_cpus=0, temp_dir=str(root / "ray"), **small)
        for _ in range(2):
            self._add(num_cpus=CPUS, **small)

    @property
    def address(self) -> str:
        """Return what a driver connects to."""
        return str(self._cluster.address)

    def actors(self, driver: int) -> list[Actor]:
        """Return the living actors of a driver's job."""
        tables = self._cluster.global_state
        jobs = {job["JobID"] for job in tables.job_table() if job["DriverPid"] == driver}
        found: list[Mapping[str, Any]] = list(tables.actor_table(None).values())
        return [
            Actor(
                kind=each["ActorClassName"],
                pid=each["Pid"],
                node=each["Address"]["NodeID"][:6],
            )
            for each in found
            if each["State"] == "ALIVE"
            and each["JobID"] in jobs
            and each["Pid"]
            and not each["IsDetached"]  # Ray's own, made by the first job that needs them
        ]

    def replace_one(self, rng: random.Random) -> str:
        """Kill a node with all that runs on it, add another, and return which it was."""
        node = rng.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.node_id))
        self._cluster.remove_node(node, allow_graceful=False)
        self._add(num_cpus=CPUS, object_store_memory=STORE_BYTES)
        return str(node.node_id)[:6]

    def stop(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()

    def _add(self, **options: Any) -> None:
        from raysubset.cluster.session import own_sigterm  # late, as Ray is

        for left in reversed(range(STARTS)):
            before = all_of(self.root)
            try:
                with own_sigterm():
                    self._cluster.add_node(**options)
                return
            except Exception:  # Ray raises a plain one, and leaves what it started so far
                for pid in all_of(self.root) - before:
                    os.kill(pid, signal.SIGKILL)
                if not left:
                    raise
                logger.warning("a node did not start in time; once more")
