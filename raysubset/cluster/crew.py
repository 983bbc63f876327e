"""The standing crew, as the driver sees it: one long TorchTrainer.fit() that takes orders.

One fit() per round would cost 10-30 s of process start per round on CPU; an order costs
milliseconds. fit() runs in a background thread of the driver, so it registers no signal handler:
the driver owns SIGINT and SIGTERM, and whatever fit() raises wakes every wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from raysubset import logs
from raysubset.cluster.carrying import given_of, written
from raysubset.cluster.group import beside_the_driver, cause_of, make_trainer, wait_for_room
from raysubset.cluster.mailbox import Mailbox
from raysubset.cluster.orders import Collected, Failed, Lost, Order, Posted, Stop, Train
from raysubset.cluster.room import Room
from raysubset.errors import CrewLost, RoomError, RunFolderError
from raysubset.experiment import ResourceSettings
from raysubset.learn.checkpoint import Files, Sent
from raysubset.learn.choosing import Progress

logger = logging.getLogger(__name__)
POLL_S = 0.5
START_PATIENCE = 4  # times start_timeout_s, for processes whose place is certain
STOP_S = 15.0
STOP_AGAIN_S = 1.0
TICK_S = 0.1
ABORT_S = 10.0
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
        self._error: BaseException | None = None
        self._controller: Any = None
        wait_for_room(room, resources)
        # Room is certain now; a busy machine only needs patience to start processes.
        end = time.monotonic() + START_PATIENCE * resources.start_timeout_s
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
        trainer = make_trainer(config, room, resources, storage, run)
        self._thread = threading.Thread(target=self._fit, args=(trainer,), name="crew", daemon=True)
        self._thread.start()
        try:
            self._wait_until_ready(end)
        except BaseException:  # Ctrl-C included: nobody else knows of this crew yet
            self.close()
            raise

    def exchange(
        self, order: Order, progress: Progress, stage: str, early: Early | None = None
    ) -> list[Any]:
        """Return every rank's answer to an order, in rank order.

        `early` is called once, with what an order that is `ahead` sends before its answer.

        Raises:
            CrewLost: the ranks died too often, or one was silent for `call_timeout_s`.
        """
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
            CrewLost: nobody wrote it within `call_timeout_s`.
        """
        start = time.monotonic()
        while True:
            trained = self._trained
            assert trained is not None and (trained.order.run, trained.order.round) == (run, round_)
            told, newest = self._get(self.mailbox.was_saved.remote(trained.number, POLL_S))
            if isinstance(told, str):
                raise RunFolderError(
                    f"checkpoint of round {round_} could not be written: {told}. Repair that and "
                    "run the same command with --resume."
                )
            if isinstance(told, Sent):
                return told.write(trained.order.folder)
            if told is not None:
                return told
            self._refuse_dead()
            if newest not in ("", trained.attempt):
                # Rank 0 died between its answer and the last byte of the checkpoint. Where an order
                # is open, its answer will be `Lost`, and whoever waits for it sees to that.
                if self._asking.acquire(blocking=False):
                    try:
                        self._train_again(_ignore)
                    finally:
                        self._asking.release()
                start = time.monotonic()
            if time.monotonic() - start > self.resources.call_timeout_s:
                raise CrewLost(
                    f"rank 0 did not write the checkpoint of round {round_} within "
                    f"{self.resources.call_timeout_s:g} s; look at the run folder's disk."
                )

    def halt(self) -> None:
        """Let ranks end their order between two batches, and keep the epochs that are finished."""
        try:
            ray.get(self.mailbox.stop.remote(), timeout=ABORT_S)
            end = time.monotonic() + STOP_S
            while time.monotonic() < end and self._thread.is_alive():
                told = self.mailbox.collect.remote(self._number, POLL_S)
                got: Collected = ray.get(told, timeout=ABORT_S)
                self._carry(got)
                if 0 in got.answered or got.known != self._number:
                    return
                time.sleep(TICK_S)
        except (RayError, GetTimeoutError, CrewLost):
            logger.warning("the mailbox does not answer; epochs of this round may be lost")

    def close(self) -> None:
        """Send the crew home, and end it by force where it does not go."""
        if self._thread.is_alive():
            try:
                ray.get(self.mailbox.stop.remote(), timeout=ABORT_S)
                self._send_home()
            except (RayError, GetTimeoutError):
                logger.warning("the mailbox does not answer; the crew is ended by force")
            if self._thread.is_alive():
                self._abort()
        if not self._thread.is_alive():
            ray.kill(self.mailbox)
        # Else ranks that come up late hear of Stop; the mailbox ends with its last handle.

    def _send_home(self) -> None:
        """Post `Stop` until the ranks are gone: a mailbox that restarts has forgotten it."""
        posted, end = self._next(Stop()), time.monotonic() + STOP_S
        while self._thread.is_alive() and time.monotonic() < end:
            ray.get(self.mailbox.post.remote(posted), timeout=ABORT_S)
            self._thread.join(STOP_AGAIN_S)

    def _abort(self) -> None:
        """End a crew that does not stop: a rank hangs, or is still starting."""
        try:
            controller: Any = self._controller
            if controller is None:
                controller = ray.get(self.mailbox.who_controls.remote(), timeout=ABORT_S)
            if controller is not None:
                ray.get(controller.abort.remote(), timeout=ABORT_S)
        except RayActorError:
            pass  # the controller's way to end
        except (RayError, GetTimeoutError):
            logger.warning("the training group did not stop in time; Ray ends it")
        self._thread.join(ABORT_S)

    def _fit(self, trainer: Any) -> None:
        try:
            trainer.fit()
        except BaseException as error:  # a thread's error must reach the driver's waits
            self._error = error

    def _wait_until_ready(self, end: float) -> None:
        ready: dict[str, list[int]] = {}
        while not any(len(ranks) == self.room.workers for ranks in ready.values()):
            self._refuse_dead()
            if time.monotonic() > end:
                came = sorted({rank for ranks in ready.values() for rank in ranks})
                raise RoomError(
                    f"the crew of {self.room.workers} ranks was placed, but did not start within "
                    f"{START_PATIENCE * self.resources.start_timeout_s:g} s (ready: ranks {came}); "
                    "raise --resources.start_timeout_s where processes start slowly, or run in "
                    "one process with --local: the ids are the same."
                )
            ready = self._get(self.mailbox.crew_ready.remote(POLL_S))
        self._controller = self._get(self.mailbox.who_controls.remote())

    def _ask(self, order: Order, progress: Progress, stage: str) -> list[Any]:
        posted = self._next(order)
        self._open = order
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
            self._refuse_dead()
            self._refuse_silence(got)

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
        try:
            return ray.get(ref, timeout=self.resources.call_timeout_s)
        except (RayActorError, GetTimeoutError) as error:
            raise CrewLost(
                f"the mailbox beside the driver did not answer ({type(error).__name__}); the "
                "rounds so far are kept. Run the same command with --resume."
            ) from error

    def _refuse_dead(self) -> None:
        if not self._thread.is_alive():
            raise CrewLost(
                f"the training group ended: {cause_of(self._error)}. The rounds so far are kept; "
                "repair the cause and run the same command with --resume."
            ) from self._error

    def _refuse_silence(self, got: Collected) -> None:
        limit = self.resources.call_timeout_s
        silent = {r: s for r, s in got.silent_s.items() if s > limit and r not in got.answered}
        if silent:
            raise CrewLost(
                f"rank {min(silent)} gave no sign of life for {max(silent.values()):.0f} s; the "
                "rounds so far are kept. Run the same command with --resume, or raise "
                "--resources.call_timeout_s."
            )


def _raise_failure(answers: list[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Failed):
            raise answer.error


def _ignore(stage: str, done: int, of: int) -> None:
    """Show nothing: a round is trained again while its checkpoint is waited for."""
