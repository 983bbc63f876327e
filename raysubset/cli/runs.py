"""The commands that train: run, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from raysubset.cli.app import app
from raysubset.cli.looking_on import announce, report_each, runner_of, screen, stoppable
from raysubset.cli.options import (
    File,
    Local,
    Options,
    Resume,
    RunDir,
    begun_in,
    resolve,
    with_measured_numbers,
    worked_in,
)
from raysubset.experiment import Experiment
from raysubset.storage.staging import place_of, shown

if TYPE_CHECKING:
    from raysubset.engine import Outcome

LESS = "lower --resources.keep_checkpoints"


@app.command
def compare(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    run_dir: RunDir = None,
    resume: Resume = False,
    local: Local = False,
) -> None:
    """Train a strategy, adaptive random and full at equal compute on one seed; say who wins."""
    with worked_in(run_dir) as folder:
        _compare(
            resolve(file, experiment, folder, resume=resume, local=local), folder, resume, local
        )


def _compare(experiment: Experiment, folder: Path | None, resume: bool, local: bool) -> None:
    from raysubset.cluster.comparing import check_comparison, folder_of, plan_comparison, runner
    from raysubset.frontier.disk import check_disk, left_to_write
    from raysubset.preparation import new_run_folder, prepare
    from raysubset.report.comparison import write_comparison
    from raysubset.report.table import rows_of, text_table
    from raysubset.report.verdict import verdict

    begun = begun_in(folder, resume=resume)
    first = with_measured_numbers(prepare(experiment, begun=begun), folder, local=local)
    runs = plan_comparison(first)
    name = f"{first.identity['name']}-compare"
    folder = folder or new_run_folder(first.experiment, name)
    check_comparison(runs, folder, resume=resume)
    needed = sum(left_to_write(each, folder_of(each, folder)) for each in runs)
    check_disk(folder, needed, "this comparison", LESS)
    console = Console(markup=False)
    announce(console, first, folder)
    outcomes: list[Outcome] = []
    with stoppable(folder):
        with runner(first, folder, local=local) as run_one:
            for each in runs:
                with screen(console).showing(each.experiment.selection.strategy) as watch:
                    outcomes.append(run_one(each, folder_of(each, folder), resume, watch))
        report_each(runs, folder)
        write_comparison(folder, [folder_of(each, folder) for each in runs])
    console.print("\n" + text_table(rows_of(outcomes)), highlight=False, soft_wrap=True)
    line = verdict(outcomes, first.identity["parts"]["test"])
    console.print(f"\n{line}", highlight=False, soft_wrap=True)
    console.print(f"report: {shown(folder / 'report.html')}", highlight=False, soft_wrap=True)


@app.command
def run(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    run_dir: RunDir = None,
    resume: Resume = False,
    local: Local = False,
) -> tuple[Any, str | Path]:  # cyclopts evaluates annotations, and Outcome would import torch
    """Train one strategy, round after round."""
    with worked_in(run_dir) as folder:
        resolved = resolve(file, experiment, folder, resume=resume, local=local)
        return run_one(resolved, folder, resume, local=local)


def run_one(
    experiment: Experiment, folder: Path | None, resume: bool, *, local: bool
) -> tuple[Outcome, str | Path]:
    """Run one experiment with a person looking on; return its outcome and its folder or URI."""
    from raysubset.frontier.disk import check_disk, left_to_write
    from raysubset.preparation import check_folder, new_run_folder, prepare
    from raysubset.report.table import rows_of, text_table

    begun = begun_in(folder, resume=resume)
    prepared = with_measured_numbers(prepare(experiment, begun=begun), folder, local=local)
    folder = folder or new_run_folder(experiment, prepared.identity["name"])
    check_folder(prepared, folder, resume=resume)
    check_disk(folder, left_to_write(prepared, folder), "this run", LESS)
    console = Console(markup=False)
    announce(console, prepared, folder)
    with stoppable(folder), screen(console).showing(experiment.selection.strategy) as watch:
        outcome = runner_of(local)(prepared, folder, resume=resume, watch=watch)
        report_each([prepared], folder)
    console.print("\n" + text_table(rows_of([outcome])), highlight=False, soft_wrap=True)
    console.print(f"report: {shown(folder / 'report.html')}", highlight=False, soft_wrap=True)
    return outcome, place_of(folder)
