"""What the relay's crew is lost to: a mailbox and a group of ranks that die or hang at will.

A call to the mailbox is retried when it restarts, as Ray does with max_task_retries=-1; a lost
group's ranks die at their next call, and the group is started again. What hangs waits for its end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from raysubset.cluster import rank as rank_module
from raysubset.cluster.mailbox import Mailbox


class Killed(BaseException):
    """A rank's process is gone."""


class Post:
    """A mailbox that can restart: what `ray.remote(Mailbox).remote(world)` gives."""

    def __init__(self, loop: asyncio.AbstractEventLoop, world: int, faults: Faults) -> None:
        self.loop, self.world, self.faults = loop, world, faults
        self.box, self.died = Mailbox(world), asyncio.Event()
        self.gate, self.closed = threading.Lock(), False

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *args: self.call(name, args))

    def call(self, name: str, args: Sequence[Any]) -> Future[Any]:
        with self.gate:  # a thread of a dead group may still write; its loop must be there
            if self.closed:
                raise Killed
            return asyncio.run_coroutine_threadsafe(self._retried(name, args), self.loop)

    def close(self) -> None:
        """Take no more calls; those taken are on the loop now."""
        with self.gate:
            self.closed = True

    async def _retried(self, name: str, args: Sequence[Any]) -> Any:
        if self.faults.due("mailbox", name, "before"):
            await self._lose()
        while True:
            box, died = self.box, self.died
            work = asyncio.ensure_future(getattr(box, name)(*args))
            death = asyncio.ensure_future(died.wait())
            await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            if work.done():
                if self.faults.due("mailbox", name, "after"):
                    await self._lose()
                return work.result()
            work.cancel()

    async def _lose(self) -> None:
        """Be killed; or answer nobody any more, until somebody kills it."""
        if not self.faults.hangs:
            self.restart()
            return
        died = self.died
        self.box = Silent()  # calls that come now wait for its end
        await died.wait()

    def restart(self) -> None:
        """Forget everything."""
        old, self.box, self.died = self.died, Mailbox(self.world), asyncio.Event()
        old.set()


class Silent:
    """A mailbox that stands still."""

    def __getattr__(self, name: str) -> Any:
        async def wait(*args: object) -> None:
            await asyncio.Event().wait()

        return wait


class Faults:
    """What goes wrong: before or after the nth call of the mailbox, rank0 or rank1, it is lost.

    Calls that only wait do not count: their number depends on the machine. Lost: killed, or hung.
    """

    COUNTED = ("hello", "post", "answer", "save")

    def __init__(self, when: str = "before", *, hangs: bool = False, **at: int) -> None:
        self.when, self.hangs, self.at = when, hangs, at
        self.calls: dict[str, int] = {}

    @property
    def happened(self) -> bool:
        """Whether the run came as far as every fault."""
        return all(self.calls.get(who, 0) >= n for who, n in self.at.items())

    def due(self, who: str, name: str, when: str) -> bool:
        """Return whether this call is the one; `who` is the mailbox or a rank."""
        if name not in self.COUNTED or when != self.when:
            return False
        self.calls[who] = self.calls.get(who, 0) + 1
        return self.calls[who] == self.at.get(who)


class Handle:
    """The mailbox as one rank holds it: a rank of a dead group makes no more calls."""

    def __init__(self, post: Post, group: Group, rank: int) -> None:
        self.post, self.group, self.rank = post, group, rank

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> Future[Any]:
            faults, who = self.post.faults, f"rank{self.rank}"
            self._lose(faults.due(who, name, "before"))
            if self.group.lost:
                raise Killed
            sent = self.post.call(name, args)
            self._lose(faults.due(who, name, "after"))
            return sent

        return SimpleNamespace(remote=remote)

    def _lose(self, due: bool) -> None:
        """Let the group die of this rank; or hang in all calls of it, until the group is ended."""
        if due and self.post.faults.hangs:
            self.group.hanging.add(self.rank)
        elif due:
            self.group.lost = True
        if self.rank in self.group.hanging:
            self.group.ended.wait()


class Group:
    """One start of the training group."""

    def __init__(self) -> None:
        self.lost, self.hanging, self.ended = False, set[int](), threading.Event()
        self.name = f"attempt-{id(self)}"
        self.errors: dict[int, BaseException] = {}


HERE = threading.local()


class Trainer:
    """What make_trainer gives: fit() with a thread per rank, which starts lost groups again."""

    def __init__(self, config: dict[str, Any], world: int, max_failures: int) -> None:
        self.config, self.world, self.max_failures = config, world, max_failures
        self.groups: list[Group] = []
        self.abort = SimpleNamespace(remote=self._abort)

    def _abort(self) -> None:
        """End the group, as Ray Train's controller does."""
        self.max_failures = -1
        self.groups[-1].lost = True
        self.groups[-1].ended.set()

    def fit(self) -> None:
        self.config["mailbox"].call("controlled_by", (self,))
        while len(self.groups) <= self.max_failures:
            group = Group()
            self.groups.append(group)
            ranks = [
                threading.Thread(target=self._rank, args=(group, rank), daemon=True)
                for rank in range(self.world)
            ]
            for rank in ranks:
                rank.start()
            for rank in ranks:
                rank.join()
            if not group.lost:
                return
        error = RuntimeError("the group failed")
        error.worker_failures = group.errors  # type: ignore[attr-defined]
        raise error

    def _rank(self, group: Group, rank: int) -> None:
        HERE.rank, HERE.world, HERE.name = rank, self.world, group.name
        config = dict(self.config, mailbox=Handle(self.config["mailbox"], group, rank))
        try:
            rank_module.serve(config)
        except BaseException as error:  # any: the whole group goes down with one rank
            group.errors[rank], group.lost = error, True
