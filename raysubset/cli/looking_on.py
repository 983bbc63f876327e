"""What a person sees around a run, and how they stop it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from raysubset.errors import Stopped
from raysubset.faultpoints import reach
from raysubset.files import KINDS
from raysubset.stopping import Terminated, terminable
from raysubset.storage.staging import shown

if TYPE_CHECKING:
    from raysubset.engine import Outcome
    from raysubset.preparation import Prepared
    from raysubset.screen import Screen

WIDTH = 110


def announce(console: Console, prepared: Prepared, folder: Path) -> None:
    """Print where a run goes, what is run with which defaults, and what to know before."""
    from raysubset.report.table import heading

    console.print(f"run folder: {shown(folder)}", highlight=False, soft_wrap=True)
    told = heading(prepared.experiment, prepared.identity)
    console.print(told, highlight=False, soft_wrap=True)
    for note in prepared.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def report_each(runs: Sequence[Prepared], folder: Path) -> None:
    """Write the report of each run, into its folder or its part of a comparison."""
    from raysubset.report.pictures import pictures_of
    from raysubset.report.run_report import write_report

    reach("report.begun")
    for each in runs:
        name = each.experiment.selection.strategy
        path = folder / name if (folder / name / "experiment.yaml").is_file() else folder
        write_report(path, pictures_of(each.problem.parts.pool))
    reach("report.written")


def screen(console: Console, *, quiet: bool = False) -> Screen:
    """Return the watch that draws on a console; a quiet one has no line per round."""
    from raysubset.screen import Screen

    return Screen(console, quiet=quiet)


def show(told: Any, lines: Callable[[int], Iterable[Text]], *, as_json: bool) -> None:
    """Print what a command found: one JSON document and nothing else, or lines of a width."""
    from raysubset.files import finite

    if as_json:
        sys.stdout.write(json.dumps(finite(told), indent=1, allow_nan=False) + "\n")
        return
    console = Console(markup=False)
    for line in lines(min(console.width, WIDTH)):
        console.print(line, highlight=False, soft_wrap=True)


def runner_of(local: bool) -> Callable[..., Outcome]:
    """Return what runs one experiment: this process, or Ray."""
    if local:
        from raysubset.local_run import run_local

        return run_local
    from raysubset.cluster.ray_run import run_ray

    return run_ray


@contextlib.contextmanager
def stoppable(folder: Path) -> Generator[None]:
    """Own SIGTERM and Ctrl-C: end in good order and print how to go on."""
    try:
        with terminable():
            yield
    except (KeyboardInterrupt, Terminated, Stopped) as error:
        command = shlex.join(["raysubset", *sys.argv[1:]])
        if "--run-dir" not in command:
            command += f" --run-dir {shlex.quote(os.path.relpath(folder))}"
        told = "stopped before anything was begun. To begin:"
        if _is_begun(folder):
            told = (
                "stopped; rounds whose checkpoint was committed are kept. To go on after the last "
                "of them:"
            )
            command += " --resume" * ("--resume" not in command)
        stopped = Terminated if isinstance(error, Terminated) else Stopped
        raise stopped(f"{told}\n  {command}") from None


def _is_begun(folder: Path) -> bool:
    """Return whether a run, one run of a comparison, or a frontier has a folder to resume."""
    marks = [*KINDS, *(f"*/{name}" for name in KINDS)]
    return any(path.is_file() for mark in marks for path in folder.glob(mark))
