"""The command that makes reports again: of a run, a comparison or a frontier, or across runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from raysubset.cli.app import app
from raysubset.errors import ConfigError, DataError, RunFolderError
from raysubset.experiment import Experiment
from raysubset.files import refuse_links_out
from raysubset.own_code import code_of_data
from raysubset.storage.staging import shown, staged

if TYPE_CHECKING:
    from raysubset.report.pictures import Pictures


@app.command(name="report")
def report_(
    *paths: Annotated[str, Parameter(help="Folders or URIs of runs, comparisons or frontiers.")],
    output: Annotated[
        str | None, Parameter(help="Compare the given runs in a report in this folder.")
    ] = None,
) -> None:
    """Make the report of each folder again, or compare several runs in one."""
    if not paths:
        raise ConfigError("give at least one folder: raysubset report runs/digits-compare-1")
    with ExitStack() as open_:
        folders = [open_.enter_context(staged(path, write=False)).absolute() for path in paths]
        if output is None:
            for folder in folders:
                _again(folder)
                print(shown(folder / "report.html"))
            return
        from raysubset.report.comparison import write_comparison

        written = open_.enter_context(staged(output, write=False)).absolute()
        write_comparison(written, folders)
        print(shown(written / "report.html"))


def _again(folder: Path) -> None:
    """Make one folder's report again, whatever it holds."""
    from raysubset.frontier.sweep import FRONTIER

    runs = sorted(path.parent for path in folder.glob("*/experiment.yaml"))
    kinds = (folder / FRONTIER).is_file(), (folder / "experiment.yaml").is_file(), bool(runs)
    if not any(kinds):
        raise RunFolderError(
            f"{shown(folder)} holds no run, comparison or frontier; check the path."
        )
    refuse_links_out(folder, "folder", shown(folder))
    if kinds[0]:
        _frontier(folder)
    elif kinds[1]:
        _run(folder)
    else:
        _comparison(folder, runs)


def _run(folder: Path) -> None:
    from raysubset.report.run_report import write_report

    write_report(folder, _pictures(Experiment.of(Experiment.read(folder / "experiment.yaml"))))


def _comparison(folder: Path, runs: list[Path]) -> None:
    from raysubset.cluster.comparing import CONTROLS
    from raysubset.report.comparison import write_comparison

    for run in runs:
        _run(run)
    # The strategy stands first, as in the comparison that made the folder.
    write_comparison(folder, sorted(runs, key=lambda run: run.name in CONTROLS))


def _frontier(folder: Path) -> None:
    from raysubset.frontier.report import report_sweep
    from raysubset.frontier.sweep import read_sweep

    sweep = read_sweep(folder)
    for line in report_sweep(sweep, _pictures(sweep.base)):
        print(line)


def _pictures(experiment: Experiment) -> Pictures | None:
    """Return the images; None where the data is no longer where it was, or is code to be run."""
    from raysubset.preparation import load_data
    from raysubset.report.pictures import pictures_of

    if code_of_data(experiment.data.model_dump()):
        return None
    try:
        return pictures_of(load_data(experiment).train)
    except (DataError, ConfigError):
        return None  # a report without pictures is better than none
