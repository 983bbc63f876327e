"""The mailbox between the driver and the crew; it holds nothing that the driver does not.

It may restart empty at any moment: the driver posts the open order again, and ranks that see
another birth report, answer and tell of their last checkpoint again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

import numpy as np

from raysubset.cluster.orders import Collected, Failed, Posted, Stop
from raysubset.learn.sent_partial import Given, SentPartial


class Mailbox:
    """Wrapped by ray.remote where it is started; every method returns within its deadline."""

    def __init__(self, world: int, run: str = "run") -> None:
        """Serve a crew of W ranks."""
        self.run = run
        self.world, self.birth = world, uuid.uuid4().hex
        self.posted: Posted | None = None
        self.stopping = False
        self.ready: dict[str, set[int]] = {}
        self.answers: dict[tuple[int, str], dict[int, Any]] = {}
        self.saved: dict[int, Any] = {}
        self.controller: Any = None
        self.needed = self.asked = -1
        self.held: SentPartial | None = None
        self.wrote: tuple[str, str] | None = None
        self.given: Given | None = None
        self.sent: tuple[int, np.ndarray] | None = None
        self.taken = -1
        self.progress = (0, 0)
        self.seen: dict[int, float] = {}
        self.news = asyncio.Event()

    def __repr__(self) -> str:
        """Return what the dashboard calls this actor."""
        return f"raysubset-mailbox {self.run}"

    async def post(self, posted: Posted) -> None:
        """Take an order; older ones and their answers are forgotten."""
        if self.posted is None or posted.number != self.posted.number:
            self.answers = {k: v for k, v in self.answers.items() if k[0] >= posted.number}
            self.progress = (0, 0)
            if self.posted is not None:  # else it is new, and holds only what ranks say now
                self._forget_kept()
            self.stopping = isinstance(posted.order, Stop)
        self.posted = posted
        self._wake()

    async def stop(self) -> None:
        """Ask ranks to stop between batches; the next order ends that."""
        self.stopping = True

    async def controlled_by(self, controller: Any) -> None:
        """Take the handle of Ray Train's controller, which the driver is never shown."""
        self.controller = controller

    async def who_controls(self) -> Any:
        """Return what `controlled_by` was told."""
        return self.controller

    async def dismiss(self) -> None:
        """Forget the ranks and their controller: they were ended, and others are started."""
        self.controller, self.ready, self.seen = None, {}, {}
        self._forget_kept()

    async def hello(self, attempt: str, rank: int) -> str:
        """A rank reports for work; return the birth of the mailbox that knows it now."""
        if attempt not in self.ready:
            self._forget_kept()  # a dead group's
            self.seen = {}
        self.ready.setdefault(attempt, set()).add(rank)
        self.seen[rank] = time.monotonic()
        self._wake()
        return self.birth

    async def next(self, rank: int, done: int, deadline_s: float) -> tuple[str, Posted | None]:
        """Return (birth, an order newer than `done`), or no order after the deadline."""
        end = time.monotonic() + deadline_s
        while self.posted is None or self.posted.number <= done:
            self.seen[rank] = time.monotonic()
            if not await self._news(end):
                return self.birth, None
        self.seen[rank] = time.monotonic()
        return self.birth, self.posted.to(rank)

    async def tick(self, rank: int, done: int, of: int) -> bool:
        """Take a sign of life with a rank's progress; return whether to stop."""
        self.seen[rank] = time.monotonic()
        if rank == 0:
            self.progress = (done, of)
        return self.stopping

    async def answer(self, number: int, attempt: str, rank: int, value: Any) -> None:
        """Take a rank's answer to an order."""
        self.seen[rank] = time.monotonic()
        self.answers.setdefault((number, attempt), {})[rank] = value
        self._wake()

    async def need(self, number: int) -> None:
        """Take a rank's word that it does not see the checkpoint that an order starts from."""
        self.needed = number
        self._wake()

    async def save(self, number: int, value: Any) -> None:
        """Take rank 0's word that the checkpoint of an order is written, its bytes, or why not."""
        # Bytes of a whole checkpoint are not kept longer than somebody asks for them.
        self.saved = {n: v for n, v in self.saved.items() if n > number} | {number: value}
        self._wake()

    async def was_saved(self, number: int, deadline_s: float) -> tuple[Any, str, dict[int, float]]:
        """Return what `save` was told (None after the deadline), the newest attempt, silences."""
        end = time.monotonic() + deadline_s
        while number not in self.saved:
            if not await self._news(end):
                break
        return self.saved.get(number), self._newest_attempt(), self._silent_s()

    async def hold(self, number: int, attempt: str, sent: SentPartial) -> None:
        """Take epochs of an order's round that the driver is to write; older ones give way."""
        self.seen[0] = time.monotonic()
        if not self._is_over(number) and self._newest_attempt() in ("", attempt):
            self.held = sent
            self._wake()

    async def was_written(self, number: int, state: str, deadline_s: float) -> tuple[str, str]:
        """Return what became of held epochs, and why.

        It is "written", "failed", "over" (nobody needs them any more), "unknown" (this mailbox
        does not have them) or "waits" (after the deadline).
        """
        end = time.monotonic() + deadline_s
        while True:
            self.seen[0] = time.monotonic()
            if self.wrote is not None and self.wrote[0] == state:
                return ("failed" if self.wrote[1] else "written"), self.wrote[1]
            if self._is_over(number):
                return "over", ""
            if self.held is None or self.held.state != state:
                return "unknown", ""
            if not await self._news(end):
                return "waits", ""

    async def written(self, state: str, why_not: str) -> None:
        """Take the driver's word on held epochs: written, or why not."""
        self.wrote = (state, why_not)
        if self.held is not None and self.held.state == state:
            self.held = None
        self._wake()

    async def early(self, number: int, attempt: str, flat: np.ndarray) -> None:
        """Take the weights at the start of an order's last epoch; of those that come, one is had.

        A dead group's may come late, and the living one sends its own.
        """
        self.seen[0] = time.monotonic()
        if not self._is_settled(number) and self._newest_attempt() in ("", attempt):
            self.sent = (number, flat)
            self._wake()

    async def was_taken(self, number: int, deadline_s: float) -> str:
        """Return what became of `early`: "taken", "over", "unknown" or "waits" (the deadline)."""
        end = time.monotonic() + deadline_s
        while not self._is_settled(number):
            self.seen[0] = time.monotonic()
            if not self._is_sent(number):
                return "unknown"
            if not await self._news(end):
                return "waits"
        return "taken" if self.taken == number else "over"

    async def take(self, number: int) -> None:
        """Take the driver's word that it has the weights of `early`."""
        self.taken, self.sent = number, None
        self._wake()

    async def kept(self, number: int, rank: int, deadline_s: float) -> Given | None:
        """Return what the driver tells is kept of an order's round; None after the deadline."""
        end = time.monotonic() + deadline_s
        self.asked = number
        self._wake()
        while True:
            self.seen[rank] = time.monotonic()
            if self.stopping or (self.posted is not None and self.posted.number > number):
                return Given(gone=True)
            if self.given is not None:
                return self.given
            if not await self._news(end):
                return None

    async def give(self, number: int, given: Given) -> None:
        """Take the driver's answer to `kept`."""
        if self.posted is None or self.posted.number == number:
            self.given = given
            self._wake()

    async def collect(self, number: int, deadline_s: float) -> Collected:
        """Return the answers to an order when all are there, else how far it is."""
        end = time.monotonic() + deadline_s
        while not (self._whole(number) or self._failed(number) or self._waits(number)):
            if not await self._news(end):
                break
        whole, needed, self.needed = self._whole(number), self.needed == number, -1
        asked, self.asked = self._is_asked(number), -1
        newest = [ranks for (n, _), ranks in self.answers.items() if n == number]
        return Collected(
            known=-1 if self.posted is None else self.posted.number,
            answers=whole[1] if whole else None,
            attempt=whole[0] if whole else "",
            failed=None if whole else self._failed(number),
            ready={attempt: sorted(ranks) for attempt, ranks in self.ready.items()},
            answered=sorted(newest[-1]) if newest else [],
            needed=needed,
            asked=asked,
            held=self.held,
            early=self.sent[1] if self.sent is not None and self.sent[0] == number else None,
            progress=self.progress,
            silent_s=self._silent_s(),
        )

    async def crew_ready(self, deadline_s: float) -> dict[str, list[int]]:
        """Return who reported for work, at the deadline or when all ranks of one attempt did."""
        end = time.monotonic() + deadline_s
        while not any(len(ranks) == self.world for ranks in self.ready.values()):
            if not await self._news(end):
                break
        return {attempt: sorted(ranks) for attempt, ranks in self.ready.items()}

    def _silent_s(self) -> dict[int, float]:
        now = time.monotonic()
        return {rank: now - seen for rank, seen in self.seen.items()}

    def _whole(self, number: int) -> tuple[str, list[Any]] | None:
        # Answers of two attempts never mix: their states may differ on a GPU.
        for (n, attempt), ranks in self.answers.items():
            if n == number and len(ranks) == self.world:
                return attempt, [ranks[rank] for rank in range(self.world)]
        return None

    def _failed(self, number: int) -> Failed | None:
        # One is enough: the other ranks may wait for the one that failed, in a collective.
        answers = [
            a for (n, _), ranks in self.answers.items() if n == number for a in ranks.values()
        ]
        return next((answer for answer in answers if isinstance(answer, Failed)), None)

    def _waits(self, number: int) -> bool:
        carried = self.held is not None or self._is_sent(number)
        return carried or self.needed == number or self._is_asked(number)

    def _is_sent(self, number: int) -> bool:
        return self.sent is not None and self.sent[0] == number

    def _is_settled(self, number: int) -> bool:
        return self.taken == number or self._is_over(number)

    def _is_asked(self, number: int) -> bool:
        return self.asked == number and self.given is None

    def _is_over(self, number: int) -> bool:
        """Return whether nobody needs epochs of an order any more."""
        if self.posted is not None and self.posted.number > number:
            return True
        newest = self._newest_attempt()  # "" after a restart: whoever answers is the one
        return any(
            n == number and 0 in ranks and newest in ("", attempt)
            for (n, attempt), ranks in self.answers.items()
        )

    def _forget_kept(self) -> None:
        self.asked, self.held, self.wrote, self.given, self.sent = -1, None, None, None, None

    def _newest_attempt(self) -> str:
        return next(reversed(self.ready), "")

    def _wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def _news(self, end: float) -> bool:
        """Wait for news; False at the deadline."""
        left = end - time.monotonic()
        if left <= 0:
            return False
        try:
            await asyncio.wait_for(self.news.wait(), left)
        except TimeoutError:
            return False
        return True
