"""Runs that die by SIGKILL at a chosen moment, as a machine that loses its power does.

`python -m tests.killed_runs` imports everything once; then, for each job on its standard input,
a fork of it starts a run and kills itself. What is left on disk is all that survives.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Death:
    """Where a run dies.

    Attributes:
        at: a fault point; or "event", anywhere in scoring and training.
        count: the how-manieth such moment it is, from 1.
    """

    at: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.at}@{self.count}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to start.

    Attributes:
        options: of `small_runs.prepared`, for a run without the command line.
        words: of the command line, for one with it.
        place: the run folder, or its file:// URI.
        temporary: where its temporary folders lie; "": where they always do.
    """

    place: str
    options: dict[str, Any] | None = None
    words: Sequence[str] = ()
    temporary: str = ""

    def run(self, watch: Any = None) -> None:
        """Begin the run, or go on with it."""
        from raysubset.cli import call
        from raysubset.local_run import run_local
        from tests.small_runs import prepared

        if self.options is not None:
            run_local(prepared(**self.options), self.place, resume=True, watch=watch)
            return
        again = ["--resume"] if Path(self.place).exists() else []
        words = [*self.words, "--run-dir", self.place, *again]
        code, _ = call(words)
        assert code == 0, f"{words} ended with {code}"


@contextmanager
def reaper() -> Generator[Callable[[Job, Death], bool]]:
    """Give a function that starts a run and returns whether it died; False: it ended before."""
    command = [sys.executable, "-m", "tests.killed_runs"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        into, out = process.stdin, process.stdout

        def kill(job: Job, death: Death) -> bool:
            into.write(json.dumps({"job": asdict(job), "death": asdict(death)}) + "\n")
            into.flush()
            status = json.loads(out.readline())
            assert status in (0, -signal.SIGKILL), f"the run neither ended nor died ({status})"
            return status != 0

        yield kill
        into.close()


@contextmanager
def mirrored(place: str) -> Generator[None]:
    """Let the trainer wait until a store has each epoch that is kept, as a long one would."""
    from raysubset.learn import partial
    from raysubset.storage import mirror

    if not place.startswith("file://"):
        yield
        return
    write, look_s = partial.write_partial, mirror.LOOK_S

    def write_and_wait(open_: Any, before: Any, finished: Any) -> Any:
        kept, here = write(open_, before, finished), Path(open_.folder) / partial.MANIFEST
        there = Path(place.removeprefix("file://"), "rounds", here.parts[-3], *here.parts[-2:])
        end = time.monotonic() + PATIENCE_S
        while not (there.is_file() and there.read_bytes() == here.read_bytes()):
            assert time.monotonic() < end, "the mirror does not come so far"
            time.sleep(0.001)
        return kept

    partial.write_partial, mirror.LOOK_S = write_and_wait, 0.001
    try:
        yield
    finally:
        partial.write_partial, mirror.LOOK_S = write, look_s


def _serve() -> None:
    import jinja2
    import pyarrow.parquet
    import safetensors.torch
    import tensorboardX.summary
    import torch
    import torchmetrics.classification

    from raysubset import cli, screen
    from raysubset.report import run_report
    from tests.small_runs import prepared

    assert pyarrow.parquet and safetensors.torch and torchmetrics.classification and jinja2
    assert tensorboardX.summary and cli and screen and run_report
    torch.set_num_threads(1)  # a fork has none of the threads that its parent's pool waits for
    for line in sys.stdin:
        told = json.loads(line)
        job, death = Job(**told["job"]), Death(**told["death"])
        if job.options is not None:
            prepared(**job.options)
        child = os.fork()
        if child == 0:
            _run(job, death)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _run(job: Job, death: Death) -> None:
    """Run until death; never returns."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        tempfile.tempdir = job.temporary or None
        watch = _armed(death)
        with mirrored(job.place):
            job.run(watch)
        code = 0
    finally:
        os._exit(code)


def _armed(death: Death) -> Any:
    """Arm the moment of death; return what sees the events of the run."""
    from raysubset import faultpoints
    from tests.small_runs import Watcher

    def pass_or_die(number: int, name: str) -> None:
        if number + 1 == death.count:
            os.kill(os.getpid(), signal.SIGKILL)

    if death.at == "event":
        return Watcher(pass_or_die)
    faultpoints.arm({faultpoints.VARIABLE: str(death)})
    return None


if __name__ == "__main__":
    _serve()
