"""The soak: what it plans, whom it strikes, what it counts, and what it calls wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
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
from jobs.soaks.one_run import ON, RESUMED, Played, Struck
from jobs.soaks.plans import (
    DRIVER,
    FROM_OUTSIDE,
    KINDS,
    SORTS,
    Plan,
    Sort,
    plans,
)
from jobs.soaks.processes import all_of, belongs, gone_within
from jobs.soaks.tally import Tally
from raysubset.cluster.session import own_sigterm

REPOSITORY = Path(__file__).parents[1]


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
    words = [part for word in words if word != "--local" for part in word.split("=", 1)]
    given = dict(zip(words[::2], words[1::2], strict=True))
    short = {"--data": "--data.format", "--seed": "--seed"}
    experiment = Experiment.of(
        nest({short.get(name, name).removeprefix("--"): value for name, value in given.items()})
    )
    assert experiment.seed == 5
    assert experiment.resources.checkpoint_every_s == 0
    rounds = experiment.training.epochs // experiment.selection.select_every
    assert experiment.resources.keep_checkpoints > rounds + 1


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


@pytest.mark.parametrize("started", [True, False])
def test_a_handler_that_a_node_takes_is_given_back_though_it_did_not_start(started: bool):
    def own(*_: object) -> None:
        """End in good order."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        with contextlib.suppress(OSError), own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not started:
                raise OSError("a node did not start")
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


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
    hits = (world.strike("rank stopped") or time.sleep(0.05) for _ in range(400))
    assert next(filter(None, hits)) == f"pid {sleeper.pid} on node n1"  # once it is under way
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
@pytest.mark.long
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
