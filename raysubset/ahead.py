"""Ahead: the next round's selection, made in a thread beside the last epoch of a round.

It is made at the weights at the start of that epoch, so it depends on nothing but the run; what is
hidden is its time, and what it costs is that the choice is an epoch old (`selection.overlap`).
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

from raysubset.errors import Stopped
from raysubset.faultpoints import reach
from raysubset.learn.choosing import PhaseLike, Progress
from raysubset.learn.weights import Weights
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection

POLL_S = 0.1
_BUSY = ("seconds_scoring", "seconds_greedy", "seconds_handover")
_PART = ("seconds_weights",)  # of the hand-over, where weights move
OnWeights = Callable[[Weights], object]
"""Called by a trainer with the weights at the start of its last epoch."""


class Beside(Protocol):
    """Where a selection is made while another thread trains."""

    def scores(self, phase: PhaseLike) -> bool:
        """Return whether the selection of a phase needs weights, and so takes time."""
        ...

    def select_beside(self, phase: PhaseLike, weights: Weights, progress: Progress) -> Selection:
        """Return what `Pool.select` returns, on a model of its own; `progress` may raise."""
        ...


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A selection that was made beside training.

    Attributes:
        phase: for which.
        selection: its facts tell the busy seconds as `seconds_scoring_beside` and so on, and 0 as
            what is waited for in its own round.
        span_s: (begin, end) by `time.perf_counter`.
        waited_s: (begin, end) of what the round before waited for it once it was trained.
    """

    phase: Phase
    selection: Selection
    span_s: tuple[float, float]
    waited_s: tuple[float, float]


class Ahead:
    """One selection for the round to come; `with` ends its thread, whatever ends the training."""

    def __init__(self, pool: Beside, phase: Phase) -> None:
        """Plan to select for this phase."""
        self.pool, self.phase = pool, phase
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._at = ("scoring", 0, 0)
        self._found: Selection | BaseException | None = None
        self._begin = self._end = 0.0

    def __enter__(self) -> Ahead:
        """Return itself; nothing runs before `begin`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is still running, and wait for its end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, weights: Weights) -> None:
        """Select at these weights, in a thread."""
        assert self._thread is None, "a round begins its last epoch once"
        self._begin = perf_counter()
        run = contextvars.copy_context().run  # the fields of log lines
        self._thread = threading.Thread(target=run, args=(self._select, weights), name="ahead")
        self._thread.start()

    def wait(self, progress: Progress) -> Chosen:
        """Return the selection once it is made; `progress` is told meanwhile, and may raise."""
        assert self._thread is not None, "a trainer begins its last epoch before it is done"
        start = perf_counter()
        while self._thread.is_alive():
            self._thread.join(POLL_S)
            if self._thread.is_alive():
                progress(*self._at)
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None, "a thread that ended found something"
        return Chosen(
            phase=self.phase,
            selection=_told(self._found),
            span_s=(self._begin, self._end),
            waited_s=(start, perf_counter()),
        )

    def _select(self, weights: Weights) -> None:
        try:
            self._found = self.pool.select_beside(self.phase, weights, self._progress)
            reach("ahead.made")
        except BaseException as error:  # a thread's error must reach who waits for it
            self._found = error
        self._end = perf_counter()

    def _progress(self, stage: str, done: int, of: int) -> None:
        self._at = (stage, done, of)
        if self._stopping.is_set():
            raise Stopped("the round that is trained has ended.")


def _told(selection: Selection) -> Selection:
    """Return a selection whose own round waits for nothing: its seconds were spent beside."""
    facts = dict(selection.facts)
    for name in (*_BUSY, *(name for name in _PART if name in facts)):
        facts[f"{name}_beside"], facts[name] = facts.get(name, 0.0), 0.0
    return replace(selection, facts=facts)
