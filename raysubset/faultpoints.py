"""Fault points: named moments of a run at which its process may be made to die.

    RAYSUBSET_FAULT=manifest.written@2 raysubset run --local ...

kills the process that is started so by SIGKILL, the second time that it comes to that point: what
is on disk then is all that survives, as where a machine loses its power. Its children are not
armed, and without the variable a point costs a look at a global. The tests kill a run once at each
of these points, and compare what the resumed run leaves with what an undisturbed one leaves.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from itertools import count

from raysubset.errors import ConfigError

VARIABLE = "RAYSUBSET_FAULT"
POINTS = {
    "file.written": "a file is whole and synced under a temporary name",
    "file.visible": "it has its own name",
    "folder.taken": "the run folder is there and locked, and empty",
    "folder.begun": "it says whose run it is",
    "recovery.begun": "the last whole round of a used folder is known",
    "recovery.dropped": "what was not committed is gone, history is not written anew",
    "recovery.done": "a used folder holds committed rounds and no more",
    "round.begun": "before a round's selection",
    "selection.range": "a range of rows is scored",
    "selection.greedy": "all rows are scored, none is chosen",
    "selection.made": "a choice is made, and written nowhere",
    "round.settled": "the round before is committed, this one's choice is written nowhere",
    "choice.half": "a choice is written, what ties it to its run is not",
    "choice.written": "a choice is written, nothing is trained on it",
    "epoch.trained": "an epoch is trained, and kept nowhere",
    "state.begun": "before weights and optimizer are written, of an epoch or of a round",
    "state.half": "the weights are written, the optimizer is not",
    "state.written": "both are written and synced, and named nowhere",
    "epoch.state": "an epoch's state is written, what it saw is not",
    "epoch.traces": "all of an epoch is written, its manifest is not",
    "epoch.kept": "its manifest is written, the epoch before is not deleted",
    "epoch.cleared": "the epoch before is deleted",
    "training.done": "a round is trained, its commit has not begun",
    "ahead.made": "the next round's choice is made beside training, and written nowhere",
    "ahead.written": "it is written, the round that it lies in is not",
    "round.appended": "a round's commit goes on in a thread",
    "commit.begun": "a round's choice and observations are written",
    "commit.state": "its state is written too",
    "metrics.written": "its figures are written, its lines in the history are not",
    "history.written": "all of a round is written but its manifest",
    "manifest.written": "a round is committed, what it was trained from is still there",
    "partial.dropped": "what a committed round was trained from is deleted, here and in a store",
    "prune.half": "an old round's checkpoint is deleted, its observations are not",
    "prune.done": "old checkpoints are deleted",
    "rounds.done": "all rounds are committed, the test part is not read",
    "test.read": "the test part is read, the result is not written",
    "result.written": "the result is written",
    "report.begun": "the run has ended, its report is not begun",
    "report.plots": "its plots are written, its pages are not",
    "report.written": "its report is written",
    "upload.begun": "before a file is sent to a store",
    "upload.done": "a store has a file",
    "mirror.files": "a store has the files of a kept epoch, not its manifest",
    "mirror.manifest": "a store has the manifest, and still the epoch before",
}
"""Name -> what is so when it is reached. `raysubset.storage.faults` is of stores, not of these."""


def reach(point: str) -> None:
    """Come to a point of `POINTS`; whoever is armed for it dies here."""
    if _told is not None:
        _told(point)


def arm(environ: MutableMapping[str, str] = os.environ) -> None:
    """Take RAYSUBSET_FAULT=POINT[@COUNT] out of the environment, and die at that point.

    Out of it: a process that this one starts lives on.

    Raises:
        ConfigError: no such point, or a count that is no number from 1.
    """
    global _told
    if asked := environ.pop(VARIABLE, ""):
        _told = _death(asked)


def _death(asked: str) -> _Death:
    point, mark, times = asked.partition("@")
    if point not in POINTS:
        raise ConfigError(
            f"{VARIABLE}={asked} names no fault point; choose one of {', '.join(POINTS)}, with @2 "
            "behind it for the second time."
        )
    if mark and not (times.isdecimal() and int(times) >= 1):
        raise ConfigError(f"{VARIABLE}={asked}: a count is a number from 1, as in {point}@2.")
    return _Death(point=point, count=int(times or 1))


@dataclass(frozen=True, kw_only=True)
class _Death:
    """Ends this process when a point is reached for the count-th time, in whatever thread."""

    point: str
    count: int
    _times: count[int] = field(default_factory=lambda: count(1))

    def __call__(self, point: str) -> None:
        if point == self.point and next(self._times) == self.count:
            os.kill(os.getpid(), signal.SIGKILL)


_told: Callable[[str], object] | None = None
"""Who is told of each point: nobody, but for a test or a death."""
