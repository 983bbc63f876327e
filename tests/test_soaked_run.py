"""A run that a soak disturbs: how it is followed, gone on with, and what is called wrong."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from jobs.soaks.driver import Place
from jobs.soaks.one_run import ENDED, ON, RESUMED, OneRun, Played
from jobs.soaks.plans import AT_A_POINT, DRIVER, KINDS, SORTS, Fault, Plan

EPOCHS, ROUNDS, EPOCH_S = 4, 6, 2.0
START_S, RESTART_S = 4.0, 8.0


class Pretended:
    """A run that takes no time: its clock goes when it is waited for."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.clock = self.since = 0.0
        self.starts: list[bool] = []
        self.code: int | None = None
        self.done = self.stalled = 0.0
        self.struck: list[str] = []

    def start(self, *, resume: bool) -> None:
        self.starts.append(resume)
        self.code, self.since, self.stalled = None, self.clock, START_S

    def ended(self) -> int | None:
        return self.code

    def place(self) -> Place:
        return Place(rounds=int(self.done // EPOCHS), epochs=int(self.done % EPOCHS))

    def owns_signals(self) -> bool:
        return self.clock - self.since >= START_S / 2

    def last_words(self) -> str:
        return "error: pretended"

    def died_at(self) -> str | None:
        return "here@2" if self.code == -signal.SIGKILL and not self.struck else None

    def leftovers(self, *, killed: bool) -> list[str]:
        return [] if killed else list(self.how.get("left", ()))

    def now(self) -> float:
        return self.clock

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        if self.code is not None or self.stalled > 0:
            self.stalled -= seconds
            return
        if self.how.get("dies") and len(self.starts) == 1 and self.done >= 5:
            self.code = -signal.SIGKILL
            return
        if self.how.get("fails"):
            self.code = 1
            return
        self.done += seconds / EPOCH_S
        if self.done >= EPOCHS * ROUNDS:
            self.code = 0

    def strike(self, kind: str) -> str | None:
        if kind in self.how.get("nobody", ()):
            return None
        self.struck.append(kind)
        if kind in self.how.get("deadly", ()):
            self.code = 1
        elif KINDS[kind].who != DRIVER:
            self.stalled = self.how.get("stalls", {}).get(kind, RESTART_S)
        elif not self.owns_signals():
            self.code = -KINDS[kind].signal
        else:
            self.code = self.how.get("code", KINDS[kind].codes[0])
        return "pid 1"


def played(world: Pretended, *kinds: str, until_s: float = 1e9, **fault: Any) -> Played:
    faults = [Fault(kind=kind, delay_s=fault.get("delay_s", 5.0)) for kind in kinds]
    plan = Plan(number=0, sort=SORTS[0], seed=0, faults=faults)
    told: list[str] = []
    run = OneRun(plan, world, lambda struck, _: told.append(struck.kind), until_s).play()
    assert told == [struck.kind for struck in run.faults]
    return run


def test_a_run_without_faults_ends_as_it_is():
    run = played(Pretended())
    assert run.whole and not run.faults and not run.complaints and not run.restarts


def test_each_fault_is_followed_until_the_run_is_past_it():
    world = Pretended()
    run = played(world, "rank killed", "driver killed", "scorer killed", "driver terminated")
    assert run.whole and not run.complaints
    assert [struck.how for struck in run.faults] == [ON, RESUMED, ON, RESUMED]
    assert world.starts == [False, True, True] and run.restarts == 2
    places = [struck.place for struck in run.faults]
    assert places == sorted(places) and places[0] < places[-1]
    for struck in run.faults:
        least_s = RESTART_S if struck.how == ON else 0.0
        assert least_s <= struck.after_s < RESTART_S + START_S + 4 * EPOCH_S


def test_a_fault_at_once_falls_while_the_one_before_is_not_overcome():
    world = Pretended()
    faults = [
        Fault(kind="rank killed", delay_s=9.0),
        Fault(kind="mailbox killed", delay_s=1.0, at_once=True),
    ]
    plan = Plan(number=0, sort=SORTS[0], seed=0, faults=faults)
    run = OneRun(plan, world, lambda *_: None, 1e9).play()
    assert [struck.place for struck in run.faults] == [run.faults[0].place] * 2
    assert run.faults[1].at_s - run.faults[0].at_s < 2
    assert run.whole and not run.complaints


def test_a_fault_of_a_moving_run_waits_for_it_after_every_start():
    world = Pretended()
    faults = [
        Fault(kind=kind, delay_s=0.0, moving=True) for kind in ("driver killed", "rank killed")
    ]
    plan = Plan(number=0, sort=SORTS[0], seed=0, faults=faults)
    run = OneRun(plan, world, lambda *_: None, 1e9).play()
    assert [struck.place for struck in run.faults] == [Place(epochs=1), Place(epochs=2)]
    assert run.whole and not any(struck.early for struck in run.faults)


def test_an_actor_whose_loss_ends_the_driver_is_gone_on_from():
    run = played(Pretended(deadly=["controller killed"]), "controller killed", "rank killed")
    assert [struck.how for struck in run.faults] == [RESUMED, ON]
    assert run.whole and run.restarts == 1 and not run.complaints


def test_who_is_not_there_is_waited_for_and_not_counted():
    run = played(Pretended(nobody=["scorer killed"]), "scorer killed", "rank killed")
    assert run.whole and not run.faults


def test_a_fault_at_the_end_of_a_run_is_survived_by_its_end():
    world = Pretended()
    last = START_S + EPOCHS * ROUNDS * EPOCH_S - 1
    world.how["stalls"] = {"scorer killed": 0.0}
    run = played(world, "scorer killed", delay_s=last)
    assert [struck.how for struck in run.faults] == [ENDED] and run.whole


def test_no_fault_comes_after_the_time_and_the_run_is_played_to_its_end():
    run = played(Pretended(), "rank killed", "rank killed", until_s=8.0)
    assert len(run.faults) == 1 and run.whole


@pytest.mark.parametrize(
    ("how", "kind", "complaint"),
    [
        ({"code": 1}, "driver terminated", "exit code 1 instead of 75 after driver terminated"),
        ({"code": -15}, "driver terminated", "exit code -15 instead of 75"),
        ({"code": 75}, "driver interrupted", "exit code 75 instead of 130"),
        ({"left": ["process 7 outlived its driver"]}, "driver terminated", "process 7 outlived"),
        ({"stalls": {"rank stopped": 1e6}}, "rank stopped", "no progress for 600 s"),
        ({"fails": True}, "rank killed", "started 7 times in vain, the last: error: pretended"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(how: dict[str, Any], kind: str, complaint: str):
    run = played(Pretended(**how), kind)
    assert any(complaint in told for told in run.complaints)
    assert run.whole == ("fails" not in how)


def test_a_death_at_a_named_point_is_a_fault_too():
    run = played(Pretended(dies=True))
    (struck,) = run.faults
    assert (struck.kind, struck.whom, struck.how) == (AT_A_POINT, "here@2", RESUMED)
    assert struck.place == Place(rounds=1, epochs=1)
    assert run.whole and not run.complaints and run.restarts == 1


def test_an_end_that_nobody_asked_for_is_told():
    run = played(Pretended(fails=True))
    assert "exit code 1 without a fault: error: pretended" in run.complaints[0]


def test_a_signal_at_the_start_of_a_process_may_end_it_as_any_program():
    run = played(Pretended(), "driver terminated", delay_s=0.0)
    assert run.whole and not run.complaints and run.restarts == 1
    assert run.faults[0].early
