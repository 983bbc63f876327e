"""Runs that are disturbed at random, compared with runs that are not: does anything get lost?

python -m jobs.soak --minutes 10

Small runs on a local cluster of three nodes (processes of this machine), and some without Ray.
Scorers, ranks, the mailbox, Ray Train's controller, a node and the driver are killed, stopped or
asked to end at random moments; a run whose driver ended goes on with --resume. At its end every
file of its folder must be that of an undisturbed run of the same seed, but for `MAY_DIFFER`.

Only processes that hold a file of the soak's own folder open are ever signalled. Prints a line per
fault, a table, and one RESULT line. Exit code 0: all was equal, and no process and no temporary
file was left; 1: something was not, and the folder is kept; 75 and 130 as in `jobs.job`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from jobs.job import close_job, guarded
from jobs.machine import check_packages
from jobs.soaks.driver import Driver
from jobs.soaks.folders import differences
from jobs.soaks.live import Live
from jobs.soaks.nodes import Nodes, environment
from jobs.soaks.one_run import OneRun, Played
from jobs.soaks.plans import Plan, plans
from jobs.soaks.processes import all_of, gone_within, title
from jobs.soaks.tally import Tally
from raysubset.errors import ConfigError, RaySubsetError

UNDISTURBED_S = 900
END_S = 60.0


def main(words: list[str]) -> int:
    """Disturb runs, print what came of it, and return the exit code."""
    try:
        given = _arguments().parse_args(words)
    except SystemExit as error:  # argparse has printed why
        return close_job(int(error.code or 0), "wrong usage", {})
    soak = Soak(given)
    code, told, _ = guarded(soak.run)
    tally = soak.tally
    print(tally.table(), flush=True)
    if not code and tally.wrong:
        code, told = 1, f"{len(tally.wrong)} differences, the first: {tally.wrong[0][0]}"
    if code == 1:
        print(f"kept: {soak.root}", flush=True)
    else:
        shutil.rmtree(soak.root, ignore_errors=True)
    found = {"faults": len(tally.faults), "restarts": tally.restarts, "runs": tally.runs}
    return close_job(code, told, {**found, "differences": len(tally.wrong), "seed": given.seed})


class Soak:
    """A cluster, run after run on it, and what they came to."""

    def __init__(self, given: argparse.Namespace) -> None:
        """Make the folder; nothing is started yet."""
        self.given = given
        self.tally = Tally(say=_say)
        # Short: the path of a socket in it has 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
        self._undisturbed: dict[str, Path] = {}

    def run(self) -> None:
        """Play runs until the time is over; end everything that was started, whatever happens."""
        check_packages(local=self.given.local, digits=True)
        if self.given.minutes <= 0:
            raise ConfigError(f"--minutes {self.given.minutes:g}: must be above 0")
        with ExitStack() as ending:
            ending.callback(self._end_all)
            own, nodes = environment(self.root), None
            if not self.given.local:
                _say("starting three nodes ...")
                os.environ.update(own)  # the nodes have it from here
                nodes = Nodes(self.root)
                ending.callback(nodes.stop)
                own = own | {"RAY_ADDRESS": nodes.address}
            ending.callback(_hear_no_more)
            if self.given.run is None:
                self.tally.until_s = time.monotonic() + 60 * self.given.minutes
            for plan in self._plans():
                self._play(plan, nodes, own)

    def _plans(self) -> Iterator[Plan]:
        every = plans(self.given.seed, local=self.given.local)
        if self.given.run is not None:
            yield from islice(every, self.given.run, self.given.run + 1)
            return
        for plan in every:
            if time.monotonic() >= self.tally.until_s:
                return
            yield plan

    def _play(self, plan: Plan, nodes: Nodes | None, own: dict[str, str]) -> None:
        twin = self._undisturbed_run(plan, own)
        there = None if plan.sort.local else nodes
        live = Live(plan, self.root, there, own)
        _say(f"run {plan.number} ({plan.sort.name}): {' '.join(live.driver.command[3:])}")
        try:
            played = OneRun(plan, live, self.tally.fault, self.tally.until_s).play()
        except BaseException:  # Ctrl-C or SIGTERM: the run ends with the soak
            _end(live.driver)
            raise
        self.tally.run(played, self._differences(played, live.driver, twin), self._again(plan))

    def _undisturbed_run(self, plan: Plan, own: dict[str, str]) -> Path:
        """Return the folder of the same run in one process, made once for each sort."""
        name = plan.sort.name
        if name not in self._undisturbed:
            folder = self.root / f"undisturbed-{name.replace(' ', '-')}"
            words = [*(w for w in plan.words() if w != "--local"), "--local"]
            driver = Driver(words, folder, own)
            driver.start(resume=False)
            assert driver.process is not None
            try:
                code = driver.process.wait(UNDISTURBED_S)
            except subprocess.TimeoutExpired:
                raise RaySubsetError(f"the undisturbed run {name} did not end") from None
            finally:
                _end(driver)
            if code:
                raise RaySubsetError(f"the undisturbed run {name} failed: {driver.last_words()}")
            self._undisturbed[name] = folder
        return self._undisturbed[name]

    def _differences(self, played: Played, driver: Driver, twin: Path) -> list[str]:
        if not played.whole:
            return ["it did not end"]
        try:
            return differences(driver.folder, twin, across=True)
        except (ValueError, KeyError, OSError) as error:
            return [f"{type(error).__name__}: {error}"]

    def _again(self, plan: Plan) -> str:
        local = " --local" if self.given.local else ""
        return f"python -m jobs.soak --seed {self.given.seed} --run {plan.number}{local}"

    def _end_all(self) -> None:
        """Look for what was left running, tell it, and end it."""
        for pid in gone_within(all_of(self.root), END_S):
            self.tally.wrong.append((f"process {pid} ({title(pid)}) was left running", ""))
            os.kill(pid, signal.SIGKILL)


def _hear_no_more() -> None:
    """End in good order, once: a second Ctrl-C waits for what the first began."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _end(driver: Driver) -> None:
    """End a driver, in good order where it goes."""
    process = driver.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_S)


def _say(line: str) -> None:
    print(line, flush=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.soak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10, help="of faults (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the runs and their faults")
    parser.add_argument("--run", type=int, help="play this one only, as a soak of this seed does")
    parser.add_argument("--local", action="store_true", help="only runs without Ray")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
