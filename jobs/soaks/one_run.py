"""One run, disturbed as planned and gone on with until it ends; every fault is followed up."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from jobs.soaks.driver import Place
from jobs.soaks.plans import AT_A_POINT, DRIVER, KINDS, Fault, Plan

STEP_S = 0.2
SILENCE_S = 600.0
"""A run that has come no further for this long hangs: its own limits are below."""
STARTS_IN_VAIN = 6
STEPS_ON = 2
"""A run went on by itself after this many epochs and commits: one may have been on its way."""
ON, RESUMED, ENDED = "went on by itself", "resumed", "the run ended all the same"


class World(Protocol):
    """Where a run is, and what can befall it: processes, or a test's."""

    def start(self, *, resume: bool) -> None:
        """Start the run's command."""
        ...

    def ended(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def place(self) -> Place:
        """Return how far the run is."""
        ...

    def strike(self, kind: str) -> str | None:
        """Do what a kind of fault is; return to whom, or None where there is nobody."""
        ...

    def owns_signals(self) -> bool:
        """Return whether the command is past its start."""
        ...

    def last_words(self) -> str:
        """Return the error that the command ended with."""
        ...

    def died_at(self) -> str | None:
        """Return the point at which the command was made to die, once it has."""
        ...

    def leftovers(self, *, killed: bool) -> list[str]:
        """Return what an ended command left behind and should not have."""
        ...

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        ...


@dataclass(kw_only=True)
class Struck:
    """A fault that happened.

    Attributes:
        kind: of `KINDS`.
        whom: it befell.
        place: where the run was.
        at_s: when.
        early: whether the command had only just started, and did not own the signals.
        steps: how many times the run was seen to be further since.
        how: it was overcome; "" while it is not.
        after_s: until the run was further, or its command had ended.
    """

    kind: str
    whom: str
    place: Place
    at_s: float
    early: bool
    steps: int = 0
    how: str = ""
    after_s: float = 0.0


@dataclass(kw_only=True)
class Played:
    """A run that ended.

    Attributes:
        plan: what was to happen.
        faults: that happened.
        restarts: of the command.
        complaints: what was not as it should be; [] for a run in order.
        whole: whether the run finished.
    """

    plan: Plan
    faults: list[Struck] = field(default_factory=list)
    restarts: int = 0
    complaints: list[str] = field(default_factory=list)
    whole: bool = False


class OneRun:
    """Plays a plan."""

    def __init__(
        self, plan: Plan, world: World, tell: Callable[[Struck, Played], object], until_s: float
    ) -> None:
        """Take what `play` needs.

        Args:
            plan: the run and its faults.
            world: where it happens.
            tell: is told of every fault once it is overcome.
            until_s: of `world.now()`; no fault comes later, the run is played to its end.
        """
        self.plan, self.world, self.tell, self.until_s = plan, world, tell, until_s
        self.played = Played(plan=plan)
        self._pending: list[Struck] = []
        self._last, self._moved_s, self._vain = Place(), world.now(), 0
        self._still = True  # no further since the command was started

    def play(self) -> Played:
        """Start the run, disturb it, and go on with it until it ends or is given up."""
        self._start(resume=False)
        for fault in self.plan.faults:
            self._wait_for(fault)
            while not self._over() and not self._strike(fault):
                self._step()
        while not self._done():
            self._step()
        return self.played

    def _wait_for(self, fault: Fault) -> None:
        while not self._over() and (
            (self._pending and not fault.at_once) or (self._still and fault.moving)
        ):
            self._step()
        end = self.world.now() + fault.delay_s
        while self.world.now() < end and not self._over():
            self._step()

    def _over(self) -> bool:
        return self._done() or self.world.now() >= self.until_s

    def _done(self) -> bool:
        return self.played.whole or self._vain > STARTS_IN_VAIN

    def _strike(self, fault: Fault) -> bool:
        if self.world.ended() is not None:
            return False
        early = not self.world.owns_signals()
        whom = self.world.strike(fault.kind)
        if whom is None:
            return False
        self._add(fault.kind, whom, early=early)
        return True

    def _add(self, kind: str, whom: str, *, early: bool) -> None:
        self._moved_s = now = self.world.now()
        place = self.world.place()
        self._pending.append(Struck(kind=kind, whom=whom, place=place, at_s=now, early=early))

    def _step(self) -> None:
        self.world.wait(STEP_S)
        code = self.world.ended()
        if code is not None:
            self._end(code)
            return
        self._look()
        now = self.world.now()
        if now - self._moved_s > SILENCE_S:
            after = f" after {self._pending[0].kind}" if self._pending else ""
            told = f"no progress for {SILENCE_S:.0f} s in {self._last}{after}"
            self.played.complaints.append(told)
            self.world.strike("driver killed")
            self._moved_s = now

    def _look(self) -> None:
        """See how far the run is, and which faults are behind it."""
        place = self.world.place()
        if place <= self._last:
            return
        self._last, self._moved_s, self._vain = place, self.world.now(), 0
        self._still = False
        for struck in [s for s in self._pending if KINDS[s.kind].who != DRIVER]:
            struck.steps += 1
            if struck.steps >= STEPS_ON:
                self._overcome(struck, ON, self.world.now())

    def _end(self, code: int) -> None:
        """See to the end of the command: was it asked for, is anything left, is it the last?"""
        ended_s = self.world.now()
        complaints = self.world.leftovers(killed=code == -signal.SIGKILL)
        if (point := self.world.died_at()) is not None:
            self._add(AT_A_POINT, point, early=False)
        complaints += [told for s in self._pending if (told := self._unlike(s, code))]
        if code and not self._pending:
            complaints += self._late(code)
        self.played.complaints += [f"{told} (in {self.world.place()})" for told in complaints]
        for struck in list(self._pending):
            self._overcome(struck, RESUMED if code else ENDED, max(struck.at_s, ended_s))
        if not code:
            self.played.whole = True
            return
        self._vain += 1
        if self._done():
            told = f"started {self._vain} times in vain, the last: {self.world.last_words()}"
            self.played.complaints.append(told)
            return
        self._start(resume=True)

    def _unlike(self, struck: Struck, code: int) -> str:
        """Return what is wrong about an exit code after a fault; "" for nothing."""
        asked = KINDS[struck.kind].codes
        also = [s for s in self._pending if s is not struck and KINDS[s.kind].who == DRIVER]
        if not asked or also or code in (0, *asked):
            return ""
        if struck.early and code == -KINDS[struck.kind].signal:
            return ""
        return f"exit code {code} instead of {asked[0]} after {struck.kind}: " + (
            self.world.last_words()
        )

    def _late(self, code: int) -> list[str]:
        """Lay an end to the last fault, though it was thought to be overcome; or complain."""
        if not self.played.faults:
            return [f"exit code {code} without a fault: {self.world.last_words()}"]
        self.played.faults[-1].how = RESUMED
        return []

    def _overcome(self, struck: Struck, how: str, at_s: float) -> None:
        self._pending.remove(struck)
        struck.how, struck.after_s = how, at_s - struck.at_s
        self.played.faults.append(struck)
        self.tell(struck, self.played)

    def _start(self, *, resume: bool) -> None:
        self.played.restarts += resume
        self._still = True
        self._moved_s = self.world.now()
        self.world.start(resume=resume)
