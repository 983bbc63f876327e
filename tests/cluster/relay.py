"""The relay without Ray: the real crew, mailbox and ranks in threads, with faults at will.

What is not real: processes (threads), the learner (a chain of hashes), the disk (a dict), and the
clock by which the crew knows that something hangs: it stands while nothing does, so that a busy
machine is not taken for a hung one.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import GetTimeoutError

from raysubset.cluster import blocks as blocks_module
from raysubset.cluster import crew as crew_module
from raysubset.cluster import long_fit as long_fit_module
from raysubset.cluster import rank as rank_module
from raysubset.cluster.blocks import Located, shares
from raysubset.cluster.crew import Crew
from raysubset.cluster.signs_of_life import SignsOfLife
from raysubset.errors import DataError
from raysubset.experiment import ResourceSettings
from raysubset.learn.checkpoint import CheckpointRef, Snapshot
from raysubset.learn.learner import GoOn, TrainOrder
from raysubset.learn.scoring import RowRange
from tests.cluster.crews import room
from tests.cluster.relay_faults import HERE, Faults, Post, Silent, Trainer

WAIT_S = 60.0


class Learner:
    """A chain of hashes: the state after an order depends on the state before and the order."""

    def __init__(self, problem: Disk, device: object, **_: object) -> None:
        self.problem, self.device, self.model = problem, device, None
        self.reset()

    def reset(self) -> None:
        self.state = "fresh"

    def load(self, ref: CheckpointRef) -> None:
        assert ref.content or HERE.rank not in self.problem.blind, "it does not see the folder"
        self.state = self.problem.files[ref.path]

    def train(self, order: TrainOrder, go_on: GoOn, **_: object) -> list[Any]:
        for visit in range(3):
            go_on(visit, 3)
            self.state = digest(self.state, order.ids_EK.tolist(), visit)
        return []

    def snapshot(self, round_: int) -> Snapshot:
        return Snapshot(weights={}, trainer={"state": self.state, "disk": self.problem})

    def hold(self, blocks: list[Any]) -> None:
        self.problem.held.append(blocks)

    def weights(self) -> dict[str, Any]:
        return {"state": torch.zeros(1)}


class Scorer:
    """Scores with the state of a learner."""

    def __init__(self, problem: Disk, device: object, learner: Learner) -> None:
        self.learner = learner

    def warm(self) -> Scorer:
        return self

    def remembers(self, rows: RowRange, source: str) -> bool:
        return False

    def score(self, rows: RowRange, given: object, *, embeddings: bool, source: str) -> str:
        return digest(self.learner.state, rows.index)

    def count(self, rows: RowRange, given: object) -> str:
        if rows.part == "tuning":
            raise DataError("there is no tuning part.")
        return digest(self.learner.state, rows.index, rows.part)


class Disk:
    """The problem and the disk in one."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.held: list[Any] = []
        self.blind: set[int] = set()
        self.writes = 0
        self.full_at = -1


def write(folder: str, snapshot: Snapshot) -> tuple[dict[str, str], float]:
    """Write a checkpoint to the disk."""
    disk: Disk = snapshot.trainer["disk"]
    disk.writes += 1
    if disk.writes == disk.full_at:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: no space left")
    disk.files[folder] = snapshot.trainer["state"]
    return {"weights": digest(snapshot.trainer["state"])}, 0.0


@dataclass(frozen=True)
class Token:
    """A token that all ranks see but some."""

    disk: Disk

    def is_seen(self) -> bool:
        return HERE.rank not in self.disk.blind


@dataclass(frozen=True)
class Sent:
    """A checkpoint on its way to the driver, who writes it."""

    snapshot: Snapshot

    @classmethod
    def of(cls, snapshot: Snapshot) -> Sent:
        return cls(snapshot)

    def write(self, folder: str) -> tuple[dict[str, str], float]:
        return write(folder, self.snapshot)


@dataclass(frozen=True, kw_only=True)
class Ref(CheckpointRef):
    """A checkpoint whose content is its name."""

    def with_content(self) -> Ref:
        return replace(self, content={"weights": np.zeros(1, np.uint8)})


def digest(*parts: object) -> str:
    """Return a short hash of anything."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


class Reader:
    """Reads nothing: the scorer of the relay looks at no rows."""

    def rows(self, located: Located) -> None:
        assert not located.blocks

    def forget(self) -> None:
        """Have nothing to forget."""


def ranges(part: Any = "pool", count: int = 5, *, world: int = 2) -> tuple[Sequence[Located], ...]:
    """Return the ranks' shares of ranges of two rows each."""
    ids = [np.arange(2 * i, 2 * i + 2) for i in range(count)]
    rows = [RowRange(part=part, index=i, ids=each) for i, each in enumerate(ids)]
    return shares([Located(rows=each, blocks=()) for each in rows], world)


class Relay:
    """A crew in threads; use as a context."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        faults: Faults,
        *,
        world: int = 2,
        max_failures: int = 3,
        call_timeout_s: float = WAIT_S,
        blind: Collection[int] = (),
    ) -> None:
        self.patch, self.faults, self.world = patch, faults, world
        self.resources = ResourceSettings(
            start_timeout_s=WAIT_S, call_timeout_s=call_timeout_s, max_failures=max_failures
        )
        self.disk, self.posts, self.trainers = Disk(), list[Post](), list[Trainer]()
        self.disk.blind = set(blind)
        self.token: Any = Token(self.disk)

    @property
    def hangs(self) -> bool:
        """Whether anything hangs now."""
        mailbox = any(isinstance(post.box, Silent) for post in self.posts)
        groups = [group for trainer in self.trainers for group in trainer.groups]
        return mailbox or any(group.hanging and not group.ended.is_set() for group in groups)

    def __enter__(self) -> Relay:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._patch()
        self.crew = Crew(self.disk, room(workers=self.world), self.resources, Path("/nowhere"))
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.close()
        for post in self.posts:
            post.close()
        pending = asyncio.run_coroutine_threadsafe(_cancel_all(), self.loop)
        pending.result(WAIT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()

    def _patch(self) -> None:
        def make_trainer(config: dict[str, Any], *_: object) -> Trainer:
            self.trainers.append(Trainer(config, self.world, self.resources.max_failures))
            return self.trainers[-1]

        def made(world: int, run: str) -> Post:
            self.posts.append(Post(self.loop, world, self.faults))
            return self.posts[-1]

        remote = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=made))
        here = SimpleNamespace(get_node_id=lambda: "node", get_actor_id=lambda: "actor")
        fake = SimpleNamespace(
            get=self._get,
            put=lambda value: value,
            wait=wait,
            kill=self._kill,
            remote=lambda _: remote,
            train=_train(),
            get_runtime_context=lambda: here,
        )
        for module in (long_fit_module, blocks_module):
            self.patch.setattr(module, "ray", fake)
        for module in (crew_module, rank_module):
            self.patch.setattr(module, "ray", fake)
            self.patch.setattr(module, "POLL_S", 0.01)
            self.patch.setattr(module, "Sent", Sent)
        self.patch.setattr(rank_module, "TICK_S", 0.0)
        self.patch.setattr(rank_module, "ASK_S", 0.0)
        # Who writes a checkpoint and hangs is told by its silence; who is slow is not told at all.
        patience = max(crew_module.SAVE_PATIENCE, WAIT_S / self.resources.call_timeout_s)
        self.patch.setattr(crew_module, "SAVE_PATIENCE", patience)
        self.patch.setattr(crew_module, "make_trainer", make_trainer)
        self.patch.setattr(
            crew_module, "SignsOfLife", lambda world: SignsOfLife(world, HungClock(self))
        )
        self.patch.setattr(crew_module, "wait_for_room", lambda *_: None)
        self.patch.setattr(crew_module, "beside_the_driver", lambda: None)
        for name, value in {
            "Learner": Learner,
            "Scorer": Scorer,
            "write_checkpoint": write,
            "device_of_rank": lambda: torch.device("cpu"),
            "share_buffers": lambda _: None,
            "Reader": Reader,
            "fetched": lambda refs, _: refs,
            "distributed_c10d": SimpleNamespace(_get_default_store=lambda: self.store),
        }.items():
            self.patch.setattr(rank_module, name, value)
        self.store = Store()

    def _get(self, refs: Any, timeout: float) -> Any:
        """Do what ray.get does, for futures and plain values."""
        if isinstance(refs, list):
            return [self._get(ref, timeout) for ref in refs]
        if not isinstance(refs, Future):
            return refs
        clock, end = HungClock(self), time.monotonic() + WAIT_S
        while clock() < timeout and time.monotonic() < end:
            with suppress(FutureTimeout):
                return refs.result(0.01)
        raise GetTimeoutError("timed out")

    def _kill(self, post: Post, no_restart: bool = True) -> None:
        if not no_restart:
            self.loop.call_soon_threadsafe(post.restart)


class HungClock:
    """Counts the seconds in which something hangs, as far as it was looked at."""

    def __init__(self, relay: Relay) -> None:
        self.relay, self.seconds, self.looked = relay, 0.0, time.monotonic()

    def __call__(self) -> float:
        """Return the seconds so far."""
        now = time.monotonic()
        self.seconds += (now - self.looked) * self.relay.hangs
        self.looked = now
        return self.seconds


class Store:
    """What torch's process group keeps for its ranks."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str:
        return self.values[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)


async def _cancel_all() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _train() -> SimpleNamespace:
    context = SimpleNamespace(get_world_rank=lambda: HERE.rank, get_world_size=lambda: HERE.world)
    return SimpleNamespace(
        get_context=lambda: context,
        collective=SimpleNamespace(broadcast_from_rank_zero=lambda _: HERE.name),
        torch=SimpleNamespace(get_device=lambda: torch.device("cpu")),
    )


def wait(refs: list[Future[Any]], timeout: float) -> tuple[list[Any], list[Any]]:
    """Do what ray.wait does, without waiting."""
    return [ref for ref in refs if ref.done()], [ref for ref in refs if not ref.done()]


def silent(stage: str, done: int, of: int) -> None:
    """Look away."""
