"""The soak: what it plans, whom it strikes, what it counts, and what it calls wrong."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from jobs import soak
from jobs.soaks import live, one_run
from jobs.soaks.driver import Place, place_of
from jobs.soaks.live import Live
from jobs.soaks.nodes import Actor
from jobs.soaks.one_run import ENDED, ON, RESUMED, OneRun, Played, Struck
from jobs.soaks.plans import (
    AT_A_POINT,
    DRIVER,
    FROM_OUTSIDE,
    KINDS,
    SORTS,
    Fault,
    Plan,
    Sort,
    plans,
)
from jobs.soaks.processes import all_of, belongs, gone_within
from jobs.soaks.tally import Tally

REPOSITORY = Path(__file__).parents[1]
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


# ---- what is planned


def test_a_seed_gives_the_same_runs_and_faults_and_one_of_them_alone():
    first = list(islice(plans(3), 20))
    assert first == list(islice(plans(3), 20))
    assert first != list(islice(plans(4), 20))
    assert [plan.number for plan in first] == list(range(20))
    assert list(islice(plans(3), 7, 8)) == [first[7]]
    assert {plan.sort.name for plan in first[: len(SORTS)]} == {sort.name for sort in SORTS}


def test_every_kind_of_fault_comes_and_only_where_it_can():
    for seed in range(5):
        some = list(islice(plans(seed), len(SORTS)))
        assert {fault.kind for plan in some for fault in plan.faults} == {*FROM_OUTSIDE}
        for plan in some:
            kinds = {fault.kind for fault in plan.faults}
            who = {KINDS[kind].who for kind in kinds}
            assert who == {DRIVER} if plan.sort.local else True
            assert plan.sort.scorers or "GradientActor" not in who
            assert not plan.faults[0].at_once
    assert all(plan.sort.local for plan in islice(plans(0, local=True), 9))


@pytest.mark.parametrize("sort", SORTS, ids=lambda sort: sort.name)
def test_the_options_of_every_sort_are_options(sort: Sort):
    from raysubset.cli.options import long_forms
    from raysubset.experiment import Experiment, nest

    words = long_forms(Plan(number=0, sort=sort, seed=5, faults=()).words())
    assert ("--local" in words) == sort.local
    words = [word for word in words if word != "--local"]
    given = dict(zip(words[::2], words[1::2], strict=True))
    short = {"--data": "--data.format", "--seed": "--seed"}
    experiment = Experiment.of(
        nest({short.get(name, name).removeprefix("--"): value for name, value in given.items()})
    )
    assert experiment.seed == 5
    assert experiment.resources.checkpoint_every_s == 0
    rounds = experiment.training.epochs // experiment.selection.select_every
    assert experiment.resources.keep_checkpoints > rounds + 1


# ---- how a run is followed


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


# ---- whom it strikes


@pytest.fixture
def sleeper(tmp_path: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process that holds a log in the folder open, as all that a soak starts do."""
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(["sleep", "600"], stdout=log)
    yield process
    process.kill()
    process.wait()


def test_only_processes_of_its_folder_are_a_soaks(sleeper: subprocess.Popen[bytes], tmp_path: Path):
    assert belongs(sleeper.pid, tmp_path) and all_of(tmp_path) == {sleeper.pid}
    assert not belongs(sleeper.pid, tmp_path / "log2") and not belongs(os.getppid(), tmp_path)
    assert gone_within([sleeper.pid], 0.0) == [sleeper.pid]
    sleeper.kill()
    sleeper.wait()
    assert not all_of(tmp_path) and not gone_within([sleeper.pid], 0.0)


class OneNode:
    """Nodes with these actors."""

    def __init__(self, *actors: Actor) -> None:
        self.all = list(actors)
        self.replaced = 0

    def actors(self, driver: int) -> list[Actor]:
        return self.all

    def replace_one(self, rng: random.Random) -> str:
        self.replaced += 1
        return "abc"


def test_a_strike_hits_an_actor_of_the_kind_that_belongs_to_the_soak(
    sleeper: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(live.os, "kill", lambda pid, number: sent.append((pid, number)))
    foreign = os.getppid()
    nodes: Any = OneNode(
        Actor(kind="RayTrainWorker", pid=sleeper.pid, node="n1"),
        Actor(kind="GradientActor", pid=foreign, node="n1"),
    )
    plan = Plan(number=0, sort=SORTS[0], seed=0, faults=())
    world = Live(plan, tmp_path, nodes, {})
    assert world.strike("rank stopped") == f"pid {sleeper.pid} on node n1"
    assert world.strike("scorer killed") is None  # such a process is not the soak's
    assert world.strike("mailbox killed") is None  # there is none
    assert sent == [(sleeper.pid, signal.SIGSTOP)]
    assert world.strike("node removed") == "node abc" and nodes.replaced == 1
    nodes.all = []
    assert world.strike("node removed") is None and nodes.replaced == 1  # nothing runs on it


def test_a_place_is_what_stands_in_the_folder(tmp_path: Path):
    assert place_of(tmp_path) == Place()
    for number in range(2):
        (tmp_path / "rounds" / f"000{number}").mkdir(parents=True)
        (tmp_path / "rounds" / f"000{number}" / "MANIFEST.json").write_text("{}")
    partial = tmp_path / "rounds" / "0002" / "partial"
    partial.mkdir(parents=True)
    (partial / "MANIFEST.json").write_text('{"epochs": 3}')
    assert str(place_of(tmp_path)) == "round 2 after 3 epochs"


# ---- what it counts


def test_the_count_is_by_kind_and_a_difference_comes_with_its_command(
    capsys: pytest.CaptureFixture[str],
):
    tally = Tally(until_s=0.0, say=print)
    run = Played(plan=next(plans(0)), restarts=1)
    for kind, how in (("rank killed", ON), ("rank killed", RESUMED), ("driver killed", RESUMED)):
        struck = Struck(kind=kind, whom="pid 1", place=Place(), at_s=0, early=False, how=how)
        tally.fault(struck, run)
    tally.run(run, [], "again 0")
    tally.run(run, ["result.json: 1 and 2"], "python -m jobs.soak --seed 0 --run 0")
    rows = {line[:20].strip(): line[20:].split() for line in tally.table().splitlines()}
    assert rows["rank killed"][:3] == ["2", "1", "1"]
    assert rows["driver killed"][:3] == ["1", "0", "1"]
    assert "scorer killed" not in rows
    assert "3 faults survived, 2 restarts with --resume, 2 runs compared, 1 differences" in (
        tally.table()
    )
    assert "again: python -m jobs.soak --seed 0 --run 0" in tally.table()
    shown = capsys.readouterr().out
    assert "rank killed, pid 1, in round 0 after 0 epochs: resumed" in shown
    assert "WRONG: result.json" in shown and "equal to the undisturbed run" in shown


@pytest.mark.parametrize(("wrong", "code"), [([], 0), ([("run 3: x", "again")], 1)])
def test_the_exit_code_says_whether_all_was_equal(
    wrong: list[tuple[str, str]],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    kept: list[Path] = []

    def run(self: soak.Soak) -> None:
        self.tally.wrong += wrong
        kept.append(self.root)

    monkeypatch.setattr(soak.Soak, "run", run)
    assert soak.main(["--seed", "4"]) == code
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert told["exit_code"] == code and told["differences"] == len(wrong) and told["seed"] == 4
    assert kept[0].exists() == (code == 1)
    if kept[0].exists():
        kept[0].rmdir()


def test_a_soak_of_no_minutes_is_refused(capsys: pytest.CaptureFixture[str]):
    assert soak.main(["--minutes", "0"]) == 2
    assert "--minutes 0" in capsys.readouterr().err


def test_what_is_left_running_is_told_and_ended(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(soak, "END_S", 0.0)
    given = argparse.Namespace(minutes=1, seed=0, run=None, local=True)
    one = soak.Soak(given)
    with open(one.root / "log", "w") as log, subprocess.Popen(["sleep", "600"], stdout=log) as left:
        one._end_all()
        assert left.wait(30) == -signal.SIGKILL
    assert "sleep 600) was left running" in one.tally.wrong[0][0]
    (one.root / "log").unlink()
    one.root.rmdir()


@pytest.mark.slow
def test_a_soak_of_runs_in_one_process_ends_well_and_leaves_nothing():
    command = [sys.executable, "-m", "jobs.soak", "--local", "--seed", "3", "--run", "0"]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1].removeprefix("RESULT "))
    assert told["differences"] == 0 and told["runs"] == 1 and told["faults"] >= 1


def test_constants_of_a_soak_leave_room_for_the_runs_own_limits():
    for sort in SORTS:
        words = Plan(number=0, sort=sort, seed=0, faults=()).words()
        limit_s = float(words[words.index("--resources.call_timeout_s") + 1])
        start_s = float(words[words.index("--resources.start_timeout_s") + 1])
        assert limit_s + 4 * start_s < one_run.SILENCE_S  # START_PATIENCE of the crew
