"""The follower: a thread that tells a tracker what history.jsonl says, and that nobody waits for.

It reads on where it stopped, so a slow tracker costs no memory; after a failure it begins anew at
the next round, and the tracker is told what it missed.
"""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

from raysubset.redaction import redacted
from raysubset.tracking.tracker import Ending, Tracker, rounds_after, time_of

logger = logging.getLogger(__name__)
_MANY = 8  # threads of ended runs that still wait for an answer, before no more are started
_SHORT_S = 0.5  # what a run waits at its end for a tracker that is in trouble
# Of this process, not of a run: a frontier's many trials pay, and complain, once.
_hanging: list[threading.Thread] = []
_in_trouble: set[str] = set()
_complained: set[str] = set()


class Follower:
    """Tells one tracker of one run."""

    def __init__(self, tracker: Tracker, folder: Path) -> None:
        """Start at once, and attach to the tracker."""
        self._tracker, self._folder = tracker, folder
        self._awake = threading.Event()
        self._ending: Ending | None = None
        self._attached, self._has, self._offset = False, 0, 0
        self._visits = 0
        self._thread = threading.Thread(target=self._follow, name=tracker.name, daemon=True)
        self._started = self._hanging() < _MANY
        if self._started:
            self.wake()
            self._thread.start()

    def wake(self) -> None:
        """There is something new to tell."""
        self._awake.set()

    def end(self, ending: Ending) -> None:
        """The run ended like this; tell it and stop."""
        self._ending = ending
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the last word, no longer than this; after that the tracker is on its own."""
        if not self._started:
            return
        known = self._tracker.name in _in_trouble or self._hanging()
        self._thread.join(min(timeout_s, _SHORT_S) if known else timeout_s)
        if self._thread.is_alive():
            _hanging.append(self._thread)
            self._complain(f"it did not answer within {timeout_s:.0f} s")

    def _hanging(self) -> int:
        """Return how many threads of earlier runs still wait for the same tracker."""
        _hanging[:] = [thread for thread in _hanging if thread.is_alive()]
        return sum(thread.name == self._tracker.name for thread in _hanging)

    def _follow(self) -> None:
        ending: Ending | None = None
        while ending is None:
            self._awake.wait()
            self._awake.clear()
            ending = self._ending
            try:
                self._tell(ending)
            except (Exception, SystemExit) as error:  # whatever it raises is not the run's
                self._attached = False
                _in_trouble.add(self._tracker.name)
                self._complain(f"{type(error).__name__}: {error}")

    def _tell(self, ending: Ending | None) -> None:
        if not self._attached:
            self._has, self._offset = self._tracker.begin(), 0
            self._attached = True
        for offset, told in rounds_after(self._folder, self._offset):
            if told.number >= self._has:
                self._tracker.round_done(told)
                self._has = told.number + 1
            self._offset, self._visits = offset, told.points[-1][0]
        self._tracker.caught_up()
        _in_trouble.discard(self._tracker.name)
        if ending == "finished":
            result = self._folder / "result.json"
            given, time_s = json.loads(result.read_text()), time_of(result)
            self._tracker.finished(given, self._visits, time_s)
        if ending is not None:
            self._tracker.close(ending)

    def _complain(self, why: str) -> None:
        """Warn of a tracker once a process."""
        if self._tracker.name not in _complained:
            _complained.add(self._tracker.name)
            logger.warning(
                "%s is not being told of this run (%s). The run goes on, and %s has everything.",
                self._tracker.name,
                " ".join(redacted(why).split())[:300],
                self._folder / "history.jsonl",
            )
