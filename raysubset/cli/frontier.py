"""The command that answers the fraction question: frontier."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from raysubset.cli.app import app
from raysubset.cli.looking_on import screen, stoppable
from raysubset.cli.options import (
    File,
    Local,
    Options,
    Resume,
    RunDir,
    as_begun,
    resolve_over,
    settle,
    with_measured_numbers,
    worked_in,
)
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.frontier.extras import check_extras
from raysubset.frontier.settings import settings_of
from raysubset.own_code import refuse_stored_code
from raysubset.storage.staging import shown

if TYPE_CHECKING:
    from raysubset.frontier.sweep import RunTrials, Sweep, Told
    from raysubset.frontier.trial import Data
    from raysubset.frontier.tuning import TuneCells
    from raysubset.preparation import Prepared

SMALL = {"resources": {"workers": 1, "scorers": 1}}
"""A frontier has many runs: side by side they use a machine better than one spread over it."""
MOST_SEEDS = 8
"""What a search may spend on one fraction where nothing is said: its last planned look."""
Mode = Literal["local", "crew", "auto"]
Search = Literal["grid", "optuna"]
EarlyStop = Literal["none", "asha"]


@app.command
def frontier(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    fractions: Annotated[str | None, Parameter(help="For instance 0.05,0.1,0.3,0.5.")] = None,
    strategies: Annotated[str | None, Parameter(help="For instance glister,random.")] = None,
    seeds: Annotated[
        int | None, Parameter(help="Runs of each (default 5); 3 are needed to decide.")
    ] = None,
    goal: Annotated[
        Literal["faster", "smaller"] | None,
        Parameter(
            help="faster (default): every epoch visits the fraction; smaller: keep the fraction, "
            "delete the rest, train from scratch."
        ),
    ] = None,
    max_drop: Annotated[
        str | None, Parameter(help="Accuracy points below full to live with (1.0), or none.")
    ] = None,
    controls: Annotated[
        bool | None, Parameter(help="Run the controls; without them the report says so first.")
    ] = None,
    find: Annotated[
        bool | None,
        Parameter(negative="", help="Bisect towards the smallest fraction within the drop."),
    ] = None,
    max_runs: Annotated[int | None, Parameter(help="With --find: the most runs to spend.")] = None,
    tune_lr: Annotated[
        int | None, Parameter(help="Choose each row's learning rate among this many (2 to 50).")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        Parameter(
            negative="", help="FIELD=V1,V2,...: values that each row chooses from; repeatable."
        ),
    ] = None,
    search: Annotated[
        Search | None, Parameter(help="All combinations, or samples of ranges LOW..HIGH.")
    ] = None,
    samples: Annotated[
        int | None, Parameter(help="With --search optuna: candidates of each row and fraction.")
    ] = None,
    early_stop: Annotated[
        EarlyStop | None, Parameter(help="Stop candidates that fall behind the others.")
    ] = None,
    price_per_hour: Annotated[
        float | None, Parameter(help="What an hour of this machine costs, in your currency.")
    ] = None,
    trial_mode: Annotated[
        Mode, Parameter(help="A trial in one process, with a crew of its own, or by its size.")
    ] = "auto",
    run_dir: RunDir = None,
    resume: Resume = False,
    local: Local = False,
) -> Any:
    """Run strategies x fractions x seeds beside controls; say what share of the data is enough."""
    from raysubset.storage.data import data_kept

    given = {
        "fractions": fractions,
        "strategies": strategies,
        "seeds": seeds,
        "max_drop": max_drop,
        "controls": controls,
        "find": find,
        "max_runs": max_runs,
        "tune_lr": tune_lr,
        "sweep": sweep,
        "search": search,
        "samples": samples,
        "early_stop": early_stop,
        "price_per_hour": price_per_hour,
    }
    with worked_in(run_dir) as folder:
        asked = _sweep(file, _with_goal(experiment, goal), given, folder, resume, local)
        check_extras(asked.settings, local=local)
        # A limit draws other rows for each seed, and so reads the data for each.
        with data_kept(asked.base.data, when=asked.base.data.limit is not None):
            done = run_frontier(asked, trial_mode, resume=resume, local=local)
        # Told now: what stands in for a URI is gone when this ends.
        answer = shown(done.folder / "frontier.json")
        return Answered(run_dir=shown(done.folder), answer=answer, trials=len(done.rows()))


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a frontier left, for whoever called the command.

    Attributes:
        run_dir: its folder or URI.
        answer: its frontier.json, by path or URI.
        trials: how many are finished.
    """

    run_dir: str
    answer: str
    trials: int


def run_frontier(sweep: Sweep, trial_mode: Mode, *, resume: bool, local: bool) -> Sweep:
    """Run what is missing of a frontier with a person looking on, then report it."""
    from raysubset.frontier.disk import bytes_needed, check_disk
    from raysubset.frontier.sweep import check_sweep, is_begun, left_of, open_folder, run_here
    from raysubset.frontier.trial import Data
    from raysubset.frontier.tuning_text import left_to_run

    console, data = Console(markup=False), Data(sweep.base)
    first = check_sweep(sweep, data)
    if not is_begun(sweep):
        first = with_measured_numbers(first, None, local=local)
        sweep = sweep.computing_as(first.experiment)
    runs = left_to_run(sweep)  # once: it reads and checks every trial that is there
    most = runs if sweep.settings.max_runs is None else min(runs, sweep.settings.max_runs)
    at_once = 1 if local else os.cpu_count() or 1
    needed = bytes_needed(left_of(sweep, sweep.trials), first, at_once, most)
    check_disk(sweep.folder, needed)
    announce = partial(_announce, console, sweep, first, runs)
    with stoppable(sweep.folder):
        if local:
            shown = lambda trial: screen(console, quiet=True).showing(trial.name)  # noqa: E731
            with open_folder(sweep, resume=resume):
                teller = announce("one after the other in this process")
                _go(sweep, run_here(sweep, data, shown, teller))
        else:
            _run_on_ray(announce, sweep, data, trial_mode, resume)
    _report(console, sweep, data)
    return sweep


def _run_on_ray(
    announce: Callable[[str], Told], sweep: Sweep, data: Data, mode: Mode, resume: bool
) -> None:
    from raysubset.cluster.sweeping import Placed, run_with_tune, sweep_session
    from raysubset.cluster.tuning_cells import tune_on_ray
    from raysubset.frontier.sweep import open_folder

    with sweep_session(sweep.base, mode) as places, open_folder(sweep, resume=resume):
        kind = "in one process each" if places.mode == "local" else "with a crew each"
        teller = announce(f"{places.at_once} at a time, {kind}")
        placed = Placed(data)
        tune = tune_on_ray(sweep, placed, places, teller)
        _go(sweep, run_with_tune(sweep, placed, places, teller), tune)


def _go(sweep: Sweep, run_trials: RunTrials, tune: TuneCells | None = None) -> None:
    """Run all that is missing, or what a search asks for."""
    from raysubset.frontier.finding import run_search
    from raysubset.frontier.sweep import run_sweep

    if sweep.settings.find:
        run_search(sweep, run_trials)
    else:
        run_sweep(sweep, run_trials, tune)


def _sweep(
    file: str | None,
    experiment: Experiment | None,
    given: dict[str, Any],
    folder: Path | None,
    resume: bool,
    local: bool,
) -> Sweep:
    """Return the sweep of a file, or of the folder to be resumed, and the options given."""
    from raysubset.frontier.sweep import Sweep, read_sweep
    from raysubset.frontier.tuning import with_tuning_part
    from raysubset.preparation import new_folder
    from raysubset.storage.data import name_of

    _refuse_single(experiment)
    if resume and folder is None:
        raise ConfigError("--resume needs --run-dir, the folder of the frontier to continue.")
    stored = read_sweep(folder) if resume and folder else None
    if stored and folder and file is None:
        refuse_stored_code(stored.base.model_dump(mode="json"), experiment, shown(folder))
    # A file given with --resume must say what was begun: a difference is shown and refused.
    begun = stored.base.model_dump(mode="json") if stored and file is None else None
    base = resolve_over(SMALL, file, experiment, begun)
    base = settle(as_begun(base, stored.base) if stored else base, local=local)
    own = {name: value for name, value in given.items() if value is not None}
    if str(own.get("max_drop", "")).lower() == "none":
        own["max_drop"] = None
    before = stored.settings.model_dump(mode="json") if stored else {}
    if own.get("find") and not before:
        own.setdefault("seeds", MOST_SEEDS)
    settings = settings_of({**before, **own})
    name = base.data.path or base.data.format
    folder = folder or new_folder(name_of(name), "frontier")
    return Sweep(folder=folder, base=with_tuning_part(base, settings), settings=settings)


def _with_goal(experiment: Experiment | None, goal: str | None) -> Experiment | None:
    """Return the options given, with what a fraction means: it stands in the experiment."""
    if goal is None:
        return experiment
    own = {} if experiment is None else experiment.model_dump(mode="json", exclude_unset=True)
    selection = {**own.get("selection", {}), "goal": goal}
    return Experiment.of({**own, "selection": selection})


def _refuse_single(experiment: Experiment | None) -> None:
    """Refuse an option that a frontier would overrule in every trial."""
    given = experiment.selection.model_fields_set if experiment is not None else set[str]()
    for one, many in (("fraction", "fractions"), ("strategy", "strategies")):
        if one in given:
            raise ConfigError(
                f"--{one} is for one run, and a frontier has many; did you mean --{many}?"
            )


def _announce(console: Console, sweep: Sweep, first: Prepared, left: int, how: str) -> Told:
    """Print what is going to run; return what tells of each trial that ended."""
    from raysubset.frontier.plan_text import plan_lines
    from raysubset.frontier.watching import Teller

    known = None if sweep.settings.find else left
    for line in plan_lines(sweep, first, left, how):
        console.print(line, highlight=False, soft_wrap=True)
    return Teller(sweep, console, known).told


def _report(console: Console, sweep: Sweep, data: Data) -> None:
    """Write the report and print the table, the answer and what failed."""
    from raysubset.frontier.report import report_sweep
    from raysubset.report.pictures import pictures_of

    for line in report_sweep(sweep, pictures_of(data.of(sweep.base.seed).train)):
        console.print(line, highlight=False, soft_wrap=True)
    told = f"report: {shown(sweep.folder / 'report.html')}"
    console.print(told, highlight=False, soft_wrap=True)
