"""A run of processes on this machine: what `one_run.World` is in earnest."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from jobs.soaks.driver import Driver, Place, place_of
from jobs.soaks.nodes import Actor, Nodes
from jobs.soaks.plans import DRIVER, KINDS, NODE, Plan
from jobs.soaks.processes import alive, belongs, gone_within, title
from raysubset.faultpoints import POINTS, VARIABLE

LOOK_S = 2.0
GONE_S = 60.0
"""How long actors may outlive their driver: Ray ends them once it notices."""
ARMED = 0.4
"""The share of processes that are started to die at a named point, if they come to it."""
MOST_TIMES = 4


class Live:
    """A driver, and the actors of its job."""

    def __init__(
        self, plan: Plan, root: Path, nodes: Nodes | None, environment: Mapping[str, str]
    ) -> None:
        """Start nothing yet.

        Args:
            plan: the run.
            root: the soak's folder; the run's is made in it.
            nodes: where it runs; None for one process.
            environment: of its driver.
        """
        self.root, self.nodes = root, nodes
        self.rng = random.Random(f"{plan.seed}-{plan.number}")
        folder = root / f"run{plan.number}"
        self.driver = Driver(plan.words(), folder, environment)
        self._seen: set[int] = set()
        self._looked_s = 0.0
        self._point: str | None = None
        self._excused: set[Path] = set()

    def start(self, *, resume: bool) -> None:
        """Start the run's command, now and then so that it dies at a named point."""
        self._seen.clear()
        self._point = None
        if self.rng.random() < ARMED:
            self._point = f"{self.rng.choice([*POINTS])}@{self.rng.randint(1, MOST_TIMES)}"
        self.driver.start(resume=resume, more={VARIABLE: self._point} if self._point else {})

    def ended(self) -> int | None:
        """Return its exit code; None while it runs."""
        return self.driver.ended()

    def place(self) -> Place:
        """Return how far the run is; remember now and then whose processes are its own."""
        if time.monotonic() - self._looked_s > LOOK_S:
            self._looked_s = time.monotonic()
            self._seen |= {actor.pid for actor in self._actors()}
        return place_of(self.driver.folder)

    def strike(self, kind: str) -> str | None:
        """Do what a kind of fault is; return to whom, or None where there is nobody."""
        who = KINDS[kind].who
        if who == NODE:
            assert self.nodes is not None, "a run in one process has no nodes"
            return f"node {self.nodes.replace_one(self.rng)}" if self._actors() else None
        if who == DRIVER:
            return self._signal(self.driver.pid, kind)
        found = sorted((a for a in self._actors() if a.kind == who), key=lambda actor: actor.pid)
        if not found:
            return None
        actor = self.rng.choice(found)
        told = self._signal(actor.pid, kind)
        return f"{told} on node {actor.node}" if told else None

    def owns_signals(self) -> bool:
        """Return whether the command is past its start."""
        return self.driver.owns_signals()

    def last_words(self) -> str:
        """Return the error that the command ended with."""
        return self.driver.last_words()

    def died_at(self) -> str | None:
        """Return the point at which the command was made to die, once it has."""
        by_itself = self.ended() == -signal.SIGKILL and self._point is not None
        return self._point if by_itself else None

    def leftovers(self, *, killed: bool) -> list[str]:
        """Return the actors that outlived a command, and the temporary files it left.

        One that was killed had no time to delete its own.
        """
        left = gone_within(self._seen, GONE_S)
        told = [f"process {pid} ({title(pid)}) outlived its driver" for pid in left]
        files = {path for path in self.driver.temporary.rglob("*") if path.is_file()}
        if killed:
            self._excused |= files
        told += [f"temporary file {path} was left" for path in sorted(files - self._excused)]
        return told

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def _actors(self) -> list[Actor]:
        return [] if self.nodes is None else self.nodes.actors(self.driver.pid)

    def _signal(self, pid: int, kind: str) -> str | None:
        """Signal a process that belongs to this soak, and no other."""
        if not (alive(pid) and belongs(pid, self.root)):
            return None
        if KINDS[kind].signal == signal.SIGKILL and pid == self.driver.pid:
            self._point = None  # it dies of this
        os.kill(pid, KINDS[kind].signal)
        return f"pid {pid}"
