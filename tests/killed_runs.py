"""Runs that die by SIGKILL at a chosen moment, as a machine that loses its power does.

`python -m tests.killed_runs` imports everything once; then, for each job on its standard input,
a fork of it starts a run and kills itself. What is left on disk is all that survives.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Death:
    """Where a run dies.

    Attributes:
        at: "replace" (before a file becomes visible), "replaced" (right after), "delete" (before
            a folder is deleted), "state" (half of a checkpoint is written), "event" (anywhere in
            scoring and training).
        count: at which such moment, from 0.
    """

    at: str
    count: int


@contextmanager
def reaper() -> Generator[Callable[[dict[str, Any], Path, Death], bool]]:
    """Give a function that starts a run and returns whether it died; False: it ended before."""
    command = [sys.executable, "-m", "tests.killed_runs"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        into, out = process.stdin, process.stdout

        def kill(options: dict[str, Any], folder: Path, death: Death) -> bool:
            job = {"options": options, "folder": str(folder), "death": asdict(death)}
            into.write(json.dumps(job) + "\n")
            into.flush()
            status = json.loads(out.readline())
            assert status in (0, -signal.SIGKILL), "the run neither ended nor died as planned"
            return status != 0

        yield kill
        into.close()


def _serve() -> None:
    import pyarrow.parquet
    import safetensors.torch
    import tensorboardX.summary
    import torchmetrics.classification

    from tests.small_runs import prepared

    assert pyarrow.parquet and safetensors.torch and torchmetrics.classification
    assert tensorboardX.summary
    for line in sys.stdin:
        job = json.loads(line)
        prepared(**job["options"])
        child = os.fork()
        if child == 0:
            _run(job)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _run(job: dict[str, Any]) -> None:
    """Run until death; never returns."""
    from raysubset.local_run import run_local
    from tests.small_runs import Watcher, prepared

    death = Death(**job["death"])
    watch = Watcher(_deadly(death))
    code = 1
    try:
        run_local(prepared(**job["options"]), job["folder"], resume=True, watch=watch)
        code = 0
    finally:
        os._exit(code)


def _deadly(death: Death) -> Callable[[int, str], object]:
    """Arm the moment of death; return what sees the events of the run."""
    count = iter(range(10**9))

    def pass_or_die(*moment: object) -> None:
        if next(count) == death.count:
            if death.at == "state":
                _halve(Path(str(moment[0])))
            os.kill(os.getpid(), signal.SIGKILL)

    if death.at == "replace":
        _patch(os, "replace", before=pass_or_die)
    elif death.at == "replaced":
        _patch(os, "replace", after=pass_or_die)
    elif death.at == "delete":
        _patch(shutil, "rmtree", before=pass_or_die)
    elif death.at == "state":
        import raysubset.learn.checkpoint as checkpoint

        _patch(checkpoint, "_sync", before=pass_or_die)
    elif death.at == "event":
        return pass_or_die
    return lambda number, name: None


def _patch(
    owner: Any,
    name: str,
    before: Callable[..., object] = lambda *_: None,
    after: Callable[..., object] = lambda *_: None,
) -> None:
    do = getattr(owner, name)

    def patched(*args: Any, **options: Any) -> Any:
        before(*args)
        value = do(*args, **options)
        after(*args)
        return value

    setattr(owner, name, patched)


def _halve(path: Path) -> None:
    """Leave half of a file, as a writer that is cut off does."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


if __name__ == "__main__":
    _serve()
