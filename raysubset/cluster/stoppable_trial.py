"""A trial that Tune may stop between two rounds, and that then ends by itself.

The trial runs in a thread and hands over one report per round; it goes on when the next is asked
for. A trial that is killed instead would leave its crew's placement group behind wherever the
dashboard does not run: the next trials would wait for that room for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raysubset.engine import Outcome, Watch
from raysubset.errors import CrewLost, Stopped
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection

POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Report:
    """How far a trial is.

    Attributes:
        epochs: passes over its subset (or over all of its rows) that are done.
        share: of its example visits that are done, a proxy's left out.
        tuning_accuracy: now.
    """

    epochs: int
    share: float
    tuning_accuracy: float


class StoppableTrial:
    """Runs a trial in a thread, a round at a time."""

    def __init__(self, run: Callable[[Watch], Outcome], name: str, wait_s: float) -> None:
        """Start the trial.

        Args:
            run: runs it to its end with a watch; the watch raises `Stopped` inside it.
            name: of the trial, for errors and for the thread.
            wait_s: how long one side waits for the other: for the word to go on, or for the end.
        """
        self.name, self.wait_s = name, wait_s
        self._told: queue.Queue[Report | Outcome | BaseException] = queue.Queue()
        self._go_on = threading.Semaphore(0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        self._started = False

    def next(self) -> Report | Outcome:
        """Return the report of the round that ends next, or the outcome.

        Raises:
            BaseException: whatever the trial raised.
        """
        if self._started:
            self._go_on.release()
        else:
            self._started = True
            self._thread.start()
        told = self._wait_for_word()
        if isinstance(told, BaseException):
            raise told
        return told

    def stop(self) -> None:
        """Ask the trial to end at its next batch or round, and wait until it has.

        Raises:
            CrewLost: it did not; its process must go.
        """
        self._stop.set()
        self._go_on.release()
        if self._started:
            self._thread.join(self.wait_s)
        if self._thread.is_alive():
            raise CrewLost(
                f"trial {self.name} did not stop within {self.wait_s:g} s; its process is ended. "
                "Raise --resources.call_timeout_s where one batch takes that long."
            )

    def progress(self, stage: str, done: int, of: int) -> None:
        """Between two batches: a place to stop."""
        self._end_if_asked()

    def round_started(self, phase: Phase, rounds: int) -> None:
        """Between two rounds: the usual place to stop, where nothing is lost."""
        self._end_if_asked()

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """Report a round and wait for the word to go on; the last round just ends the trial."""
        visits = phase.visits_before + phase.visits
        begin, end = phase.lr_span or (0, phase.total_visits)
        # Goal smaller: the proxy, which only chooses, is no figure of the model that is trained.
        is_proxy = end < phase.total_visits
        if is_proxy or visits == end or self._stop.is_set():
            return
        share = (visits - begin) / (end - begin)
        accuracy = float(metrics["tuning_accuracy"])
        self._told.put(Report(epochs=phase.epochs.stop, share=share, tuning_accuracy=accuracy))
        if not self._go_on.acquire(timeout=self.wait_s):
            self._stop.set()  # whoever asked for reports is gone

    def _end_if_asked(self) -> None:
        if self._stop.is_set():
            raise Stopped(f"trial {self.name} was stopped early.")

    def _run(self, run: Callable[[Watch], Outcome]) -> None:
        try:
            self._told.put(run(self))
        except BaseException as error:  # a thread's error must reach whoever waits for it
            self._told.put(error)

    def _wait_for_word(self) -> Report | Outcome | BaseException:
        """Wait as long as the trial lives: how long its calls may take, it knows itself."""
        while True:
            try:
                return self._told.get(timeout=POLL_S)
            except queue.Empty:
                if not self._thread.is_alive() and self._told.empty():
                    return CrewLost(f"trial {self.name} ended without a word; run it again.")
