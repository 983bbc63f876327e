"""The standing crew, as the driver sees it: one long TorchTrainer.fit() that takes orders.

One fit() per round would cost 10-30 s of process start per round on CPU; an order costs
milliseconds. Whatever fit() raises wakes every wait; a rank that hangs, and so raises nothing, is
told by its silence, and the crew is ended and started again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from raysubset import logs
from raysubset.cluster.carrying import given_of, written
from raysubset.cluster.group import beside_the_driver, make_trainer, wait_for_room
from raysubset.cluster.long_fit import LongFit
from raysubset.cluster.mailbox import Mailbox
from raysubset.cluster.orders import Collected, Failed, Lost, Order, Posted, Stop, Train
from raysubset.cluster.room import Room
from raysubset.cluster.signs_of_life import SignsOfLife
from raysubset.errors import CrewLost, RoomError, RunFolderError
from raysubset.experiment import ResourceSettings
from raysubset.learn.checkpoint import Files, Sent
from raysubset.learn.choosing import Progress

logger = logging.getLogger(__name__)
POLL_S = 0.5
START_PATIENCE = 4  # times start_timeout_s, for processes whose place is certain
MAILBOX_S = 60.0  # it answers within seconds; ranks give it up after 120
STOP_S = 12.0  # for ranks to stop between two batches, then for their way home
STOP_AGAIN_S = 1.0
TICK_S = 0.1
END_S = 26.0  # from the first word of stopping to the last process: schedulers give 30
ABORT_S = 12.0
SAVE_PATIENCE = 2  # times call_timeout_s: a rank that hangs is told by its silence before
Early = Callable[[np.ndarray], object]
"""Called with the packed weights at the start of an order's last epoch."""


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """The last training order, under the number and by the attempt that did it."""

    order: Train
    number: int
    attempt: str


class Crew:
    """W training ranks that stand ready until `close`."""

    def __init__(
        self,
        problem_ref: Any,
        room: Room,
        resources: ResourceSettings,
        storage: Path,
        run: str = "run",
    ) -> None:
        """Start the ranks and wait for them.

        Args:
            problem_ref: the `Problem` without its rows, put once by the driver.
            room: how many ranks, on which device.
            resources: time limits and the number of restarts.
            storage: a folder of the driver's node, for Ray Train's own state.
            run: what the dashboard calls the run.

        Raises:
            RoomError: there was no room in `resources.start_timeout_s` (`autoscaler_timeout_s`
                while nodes are on their way), or the ranks did not report for work in
                START_PATIENCE times the former; nothing of them is left.
        """
        self.room, self.resources = room, resources
        self._number = 0
        self._asking = threading.Lock()  # held while an order is open: there is one at a time
        self._open: Order = Stop()
        self._early: Early | None = None
        self._trained: _Trained | None = None
        self._signs, self._hung = SignsOfLife(room.workers), 0
        self._ends_at: float | None = None
        wait_for_room(room, resources)
        self.mailbox: Any = (
            ray.remote(Mailbox)
            .options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                # Every rank waits inside a call while it is idle; the driver needs its own.
                max_concurrency=2 * room.workers + 16,
                scheduling_strategy=beside_the_driver(),
            )
            .remote(room.workers, run)
        )
        config = {"problem": [problem_ref], "mailbox": self.mailbox, "json": logs.wanted()}
        self._make = partial(make_trainer, config, room, resources, storage, run)
        self._begin()

    def exchange(
        self, order: Order, progress: Progress, stage: str, early: Early | None = None
    ) -> list[Any]:
        """Return every rank's answer to an order, in rank order.

        `early` is called once, with what an order that is `ahead` sends before its answer.

        Raises:
            CrewLost: the ranks died too often, or were silent too often for `call_timeout_s`.
        """
        self._ends_at = None  # a stop before is over
        with self._asking, self._telling(early):
            answers = self._ask(order, progress, stage)
            while any(isinstance(answer, Lost) for answer in answers):
                # The group was restarted before its state was on disk: make that state again.
                self._train_again(progress)
                answers = self._ask(order, progress, stage)
            return answers

    def saved(self, run: str, round_: int) -> tuple[Files, float]:
        """Wait for a round's checkpoint; return its files with hashes, and the writing seconds.

        In any thread: `exchange` may go on meanwhile with what does not change the state.

        Raises:
            RunFolderError: it could not be written (disk full, no permission).
            CrewLost: nobody wrote it within SAVE_PATIENCE times `call_timeout_s`.
        """
        start, limit = time.monotonic(), SAVE_PATIENCE * self.resources.call_timeout_s
        self._signs.forget()
        while True:
            trained = self._trained
            assert trained is not None and (trained.order.run, trained.order.round) == (run, round_)
            found = self._get(self.mailbox.was_saved.remote(trained.number, POLL_S))
            told, newest, silent_s = found
            if isinstance(told, str):
                raise RunFolderError(
                    f"checkpoint of round {round_} could not be written: {told}. Repair that and "
                    "run the same command with --resume."
                )
            if isinstance(told, Sent):
                return told.write(trained.order.folder)
            if told is not None:
                return told
            self._fit.refuse_dead()
            lost = newest not in ("", trained.attempt)
            # Where an order is open, whoever waits for its answer sees to what is lost or hangs.
            if self._asking.acquire(blocking=False):
                try:
                    self._see_to_silence(silent_s)
                    if lost:  # rank 0 died between its answer and the checkpoint's last byte
                        self._train_again(_ignore)
                finally:
                    self._asking.release()
            if lost:
                start = time.monotonic()
            if time.monotonic() - start > limit:
                raise CrewLost(
                    f"rank 0 did not write the checkpoint of round {round_} within {limit:g} s; "
                    "look at the run folder's disk."
                )

    def halt(self) -> None:
        """Let ranks end their order between two batches, and keep the epochs that are finished."""
        end = self._patience()
        try:
            _by(end, self.mailbox.stop.remote())
            while time.monotonic() < end and self._fit.goes_on:
                got: Collected = _by(end, self.mailbox.collect.remote(self._number, POLL_S))
                self._carry(got)
                if 0 in got.answered or got.known != self._number:
                    return
                time.sleep(TICK_S)
        except (RayError, CrewLost):
            logger.warning("the mailbox does not answer; epochs of this round may be lost")

    def close(self) -> None:
        """Send the crew home, and end it by force where it does not go, END_S after `halt`."""
        if self._fit.goes_on:
            try:
                self._send_home(self._patience())
            except RayError:
                logger.warning("the mailbox does not answer; the crew is ended by force")
            if self._fit.goes_on:
                self._fit.abort(self._left())
        if not self._fit.goes_on:
            ray.kill(self.mailbox)
        # Else ranks that come up late hear of Stop; the mailbox ends with its last handle.

    def _patience(self) -> float:
        """Return until when ranks may end by themselves; the rest of END_S is for ending them."""
        return time.monotonic() + min(STOP_S, max(0.0, self._left() - ABORT_S))

    def _left(self) -> float:
        """Return the seconds that are left of END_S since the first word of stopping."""
        now = time.monotonic()
        self._ends_at = self._ends_at or now + END_S
        return max(0.0, self._ends_at - now)

    def _send_home(self, end: float) -> None:
        """Post `Stop` until the ranks are gone: a mailbox that restarts has forgotten it."""
        posted = self._next(Stop())
        _by(end, self.mailbox.stop.remote())
        while self._fit.goes_on and time.monotonic() < end:
            _by(end, self.mailbox.post.remote(posted))
            self._fit.wait(min(STOP_AGAIN_S, end - time.monotonic()))

    def _begin(self) -> None:
        """Start the ranks, and wait until they are ready."""
        # Room is certain; a busy machine only needs patience to start processes.
        end = time.monotonic() + START_PATIENCE * self.resources.start_timeout_s
        self._fit = LongFit(self._make(), self.mailbox)
        try:
            self._wait_until_ready(end)
        except BaseException:  # Ctrl-C included: nobody else knows of this crew yet
            self.close()
            raise
        self._signs.forget()

    def _see_to_silence(
        self, silent_s: Mapping[int, float], answered: Collection[int] = ()
    ) -> None:
        """Start the crew again where a rank that is waited for is silent for too long.

        It may hang alone and the others wait for its gradient, so all who are silent are named.
        """
        self._signs.hear(silent_s)
        late_s = self._signs.beyond(self.resources.call_timeout_s, answered)
        if not late_s:
            return
        told = f"no sign of life from rank {_list(late_s)} for {max(late_s.values()):.0f} s"
        self._hung += 1
        if self._hung <= self.resources.max_failures:
            logger.warning("%s; the crew is ended and started again", told)
            self._fit.abort(ABORT_S)
            if not self._fit.goes_on:
                self._get(self.mailbox.dismiss.remote())
                self._begin()
                return
            told += ", and the crew could not be ended"
        raise CrewLost(
            f"{told}; the rounds so far are kept. Run the same command with --resume, or raise "
            "--resources.call_timeout_s or --resources.max_failures."
        )

    def _wait_until_ready(self, end: float) -> None:
        ready: dict[str, list[int]] = {}
        while not any(len(ranks) == self.room.workers for ranks in ready.values()):
            self._fit.refuse_dead()
            if time.monotonic() > end:
                came = sorted({rank for ranks in ready.values() for rank in ranks})
                raise RoomError(
                    f"the crew of {self.room.workers} ranks was placed, but did not start within "
                    f"{START_PATIENCE * self.resources.start_timeout_s:g} s (ready: ranks {came}); "
                    "raise --resources.start_timeout_s where processes start slowly, or run in "
                    "one process with --local: the ids are the same."
                )
            ready = self._get(self.mailbox.crew_ready.remote(POLL_S))
        self._fit.controller = self._get(self.mailbox.who_controls.remote())

    def _ask(self, order: Order, progress: Progress, stage: str) -> list[Any]:
        posted = self._next(order)
        self._open = order
        self._signs.forget()  # nobody was listened to while no order was open
        posting = self.mailbox.post.remote(posted)
        while True:
            # Together: nobody has to hear that the order came before it is waited for.
            both = [posting, self.mailbox.collect.remote(posted.number, POLL_S)]
            got: Collected = self._get(both)[1]
            self._carry(got)
            if got.failed is not None:
                raise got.failed.error
            if got.answers is not None:
                _raise_failure(got.answers)
                if isinstance(order, Train) and not any(isinstance(a, Lost) for a in got.answers):
                    number, attempt = posted.number, got.attempt
                    self._trained = _Trained(order=order, number=number, attempt=attempt)
                return got.answers
            if got.known != posted.number:
                # The mailbox restarted empty; ranks see another birth and answer again.
                posting = self.mailbox.post.remote(posted)
            if got.needed:
                posted = self._with_content(posted)
                posting = self.mailbox.post.remote(posted)
            if got.progress[1]:
                progress(stage, *got.progress)
            self._fit.refuse_dead()
            self._see_to_silence(got.silent_s, got.answered)

    @contextmanager
    def _telling(self, early: Early | None) -> Generator[None]:
        """Tell this function, and none of them once an order is answered or given up."""
        self._early = early
        try:
            yield
        finally:
            self._early = None

    def _carry(self, got: Collected) -> None:
        """Keep epochs for a rank that does not see their folder; tell it what is kept there.

        What is sent before an answer goes to whoever waits for it.
        """
        begun = self._open.begun if isinstance(self._open, Train) else None
        if got.held is not None:
            why_not = written(begun, got.held)
            self._get(self.mailbox.written.remote(got.held.state, why_not))
        if got.early is not None:
            tell, self._early = self._early, None  # the first: a group that died sends them again
            if tell is not None:
                tell(got.early)
            self._get(self.mailbox.take.remote(self._number))
        if got.asked:
            given = given_of(begun, ray.put)
            self._get(self.mailbox.give.remote(self._number, given))

    def _with_content(self, posted: Posted) -> Posted:
        """Return an order with the bytes of its checkpoint, put once for all ranks."""
        at = getattr(posted.order, "at", None)
        if at is None or at.checkpoint is None or at.content:
            return posted
        content = [ray.put(at.checkpoint.with_content())]
        order: Any = posted.order
        return replace(posted, order=replace(order, at=replace(at, content=content)))

    def _train_again(self, progress: Progress) -> None:
        assert self._trained is not None, "a state was lost that no training order made"
        order = replace(self._trained.order, ahead=False)  # that choice is made
        logger.warning("the crew was restarted; round %d is trained again", order.round)
        self._ask(order, progress, "training")

    def _next(self, order: Order) -> Posted:
        self._number += 1
        return Posted(number=self._number, order=order)

    def _get(self, ref: Any) -> Any:
        """Return the mailbox's answer.

        One that hangs is ended: Ray starts it again, empty, and repeats the calls that it took.
        """
        limit_s = min(MAILBOX_S, self.resources.call_timeout_s)
        try:
            try:
                return ray.get(ref, timeout=limit_s)
            except GetTimeoutError:
                logger.warning("the mailbox is silent for %g s; it is started again", limit_s)
                ray.kill(self.mailbox, no_restart=False)
                return ray.get(ref, timeout=START_PATIENCE * MAILBOX_S)
        except (RayActorError, GetTimeoutError) as error:
            raise CrewLost(
                f"the mailbox beside the driver did not answer ({type(error).__name__}); the "
                "rounds so far are kept. Run the same command with --resume."
            ) from error


def _by(end: float, ref: Any) -> Any:
    """Return an answer that is due at this time of the monotonic clock."""
    return ray.get(ref, timeout=max(0.0, end - time.monotonic()))


def _list(ranks: Collection[int]) -> str:
    return ", ".join(str(rank) for rank in sorted(ranks))


def _raise_failure(answers: list[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Failed):
            raise answer.error


def _ignore(stage: str, done: int, of: int) -> None:
    """Show nothing: a round is trained again while its checkpoint is waited for."""
