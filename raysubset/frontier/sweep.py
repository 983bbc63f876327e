"""The sweep: what is left to run of a frontier, in which order, and what it left behind."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import yaml

from raysubset.engine import Watch
from raysubset.errors import RunFolderError, Stopped
from raysubset.experiment import Experiment, read_yaml
from raysubset.files import forget_unfinished, take_lock, write_json, write_text
from raysubset.frontier.checking import check_trials
from raysubset.frontier.plan import Trial, check_goal, equal_time_trials, goal_of, trials_of
from raysubset.frontier.settings import FrontierSettings, settings_of
from raysubset.frontier.table import TrialRow, rows_in
from raysubset.frontier.trial import (
    Data,
    is_finished,
    note_failure,
    read_object,
    run_trial,
    trial_folder,
)
from raysubset.frontier.tuning import (
    RunTrials,
    TuneCells,
    Tuned,
    applied,
    cells_of,
    grid_tuner,
    read_tuned,
    tune_missing,
)
from raysubset.preparation import ON_VALIDATION, Prepared
from raysubset.storage import staging
from raysubset.storage.disk import unwritable
from raysubset.storage.staging import shown

FRONTIER, SHARES = "frontier.yaml", "equal_time.json"
_TUNING = ("sweep", "tune_lr", "search", "samples", "early_stop")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A frontier to be run in a folder.

    Attributes:
        folder: where everything of it lies.
        base: the experiment that every trial changes.
        settings: which trials there are.
    """

    folder: Path
    base: Experiment
    settings: FrontierSettings

    def computing_as(self, first: Experiment) -> Sweep:
        """Return the sweep with the precision and layout of its first trial in every other."""
        names = ("precision", "channels_last")
        training = self.base.training.model_copy(
            update={name: getattr(first.training, name) for name in names}
        )
        return replace(self, base=self.base.model_copy(update={"training": training}))

    @property
    def planned(self) -> list[Trial]:
        """The trials that are known before any has run, with what their cells chose by now."""
        return applied(self.untuned, read_tuned(self.folder))

    @property
    def untuned(self) -> list[Trial]:
        """The trials that are known before any has run, as the experiment itself has them."""
        return trials_of(self.base, self.settings)

    @property
    def equal_time(self) -> list[Trial]:
        """Adaptive random at equal time; nothing before the strategy has been timed."""
        if not self.settings.controls or goal_of(self.base) == "smaller":
            return []
        shares = _kept_shares(self.folder)
        known = {f: shares[f"{f:.12g}"] for f in self.settings.fractions if f"{f:.12g}" in shares}
        trials = equal_time_trials(self.base, self.settings, known)
        return applied(trials, read_tuned(self.folder))

    @property
    def trials(self) -> list[Trial]:
        """All trials that are known by now."""
        return [*self.planned, *self.equal_time]

    @property
    def tuned(self) -> dict[str, Tuned]:
        """Cell -> what it tried and chose, of the cells that have chosen, in the table's order."""
        known = read_tuned(self.folder)
        return {t.cell: known[t.cell] for t in self.trials if t.cell in known}

    def rows(self) -> list[TrialRow]:
        """Return the rows of the trials that are finished."""
        return rows_in(self.folder, self.trials)


Told = Callable[[Trial, str | None], None]
"""Called with a trial that ended, and why it failed (None: it did not)."""


def check_sweep(sweep: Sweep, data: Data) -> Prepared:
    """Refuse before any work what a trial would be refused for; return the first trial, ready.

    Raises:
        ConfigError, DataError, ModelError, BudgetError: named with the remedy.
    """
    check_goal(sweep.base, sweep.settings)
    trials = [trial for trial in sweep.untuned if trial.seed == sweep.base.seed]
    first = check_trials(sweep.base, sweep.settings, trials, data)
    _check_data(sweep, first)
    return first


def _check_data(sweep: Sweep, first: Prepared) -> None:
    """Refuse other data than the trials of the folder were run on: they would share a table."""
    for trial in sweep.trials:
        if trial.seed != sweep.base.seed or trial.experiment.selection.strategy in ON_VALIDATION:
            continue
        path = trial_folder(sweep.folder, trial) / "fingerprint.json"
        stored = read_object(path).get("data")
        if stored is not None and stored != first.identity["data"]:
            raise RunFolderError(
                f"{shown(sweep.folder)} was begun on other data, so it cannot be resumed:\n"
                f"  data: {stored} -> {first.identity['data']}\n"
                "Give the same data and labels, or another --run-dir."
            )


@contextmanager
def open_folder(sweep: Sweep, *, resume: bool) -> Generator[None]:
    """Make the folder, or take up one of the same experiment, and hold it for this process.

    Other fractions, strategies or seeds are more trials of the same frontier; another experiment,
    or another choice of candidates, is another frontier.

    Raises:
        RunFolderError: a used folder without `resume`, one of another experiment (the difference
            is shown), of something else, or one that cannot be written.
    """
    try:
        lock = _take_up(sweep, resume)
    except OSError as error:
        raise unwritable(sweep.folder, error, "frontier folder") from None
    with lock:
        try:
            yield
        finally:
            staging.leave(sweep.folder)


def _take_up(sweep: Sweep, resume: bool) -> IO[str]:
    folder, stored = sweep.folder, sweep.folder / FRONTIER
    if stored.is_file():
        _check_same(sweep, stored, resume)
    elif folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise RunFolderError(
            f"{shown(folder)} is not empty and holds no frontier; choose another --run-dir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = take_lock(folder, "frontier folder", shown(folder))
    forget_unfinished(folder)
    staging.take(folder)
    values = {
        "experiment": sweep.base.model_dump(mode="json"),
        "frontier": sweep.settings.model_dump(mode="json"),
    }
    write_text(stored, yaml.safe_dump(values, sort_keys=False))
    staging.keep(stored)
    return lock


def is_begun(sweep: Sweep) -> bool:
    """Return whether the folder holds this frontier, or another one, already."""
    return (sweep.folder / FRONTIER).is_file()


def read_sweep(folder: str | Path) -> Sweep:
    """Return the sweep that a folder was begun with.

    Raises:
        RunFolderError: it holds none.
    """
    path = Path(folder).absolute()
    if not (path / FRONTIER).is_file():
        raise RunFolderError(f"{shown(path)} holds no frontier (no {FRONTIER}); check the path.")
    values = read_yaml(path / FRONTIER)
    if not all(isinstance(values.get(name), dict) for name in ("experiment", "frontier")):
        raise RunFolderError(
            f"{shown(path / FRONTIER)} is damaged (it lacks the sections experiment and frontier); "
            "put it back, or start again in another --run-dir."
        )
    settings = settings_of(values["frontier"])
    return Sweep(folder=path, base=Experiment.of(values["experiment"]), settings=settings)


def run_sweep(sweep: Sweep, run_trials: RunTrials, tune: TuneCells | None = None) -> None:
    """Run what is missing, then adaptive random with the time that the strategies took.

    Args:
        sweep: the frontier.
        run_trials: runs trials; one that fails is noted in its folder and does not stop the others.
        tune: sees that every candidate of a cell ends; None for a whole grid by `run_trials`.
    """
    tune = tune or grid_tuner(sweep.folder, sweep.base, sweep.settings, run_trials)
    tune_missing(sweep.folder, sweep.base, sweep.settings, sweep.untuned, tune)
    run_trials(left_of(sweep, _decided(sweep, sweep.planned)))
    if not sweep.settings.controls or goal_of(sweep.base) == "smaller":
        return
    _keep_shares(sweep)
    tune_missing(sweep.folder, sweep.base, sweep.settings, sweep.equal_time, tune)
    run_trials(left_of(sweep, _decided(sweep, sweep.equal_time)))


def left_of(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that are not finished."""
    return [trial for trial in trials if not is_finished(sweep.folder, trial)]


def _decided(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose cells have chosen, or had nothing to choose."""
    cells = {cell.cell for cell in cells_of(sweep.base, sweep.settings, trials)}
    waiting = cells - read_tuned(sweep.folder).keys()
    return [trial for trial in trials if trial.cell not in waiting]


def run_here(
    sweep: Sweep,
    data: Data,
    watch_of: Callable[[Trial], AbstractContextManager[Watch]],
    told: Told,
) -> RunTrials:
    """Return what runs trials one after the other in this process."""

    def run_all(trials: Sequence[Trial]) -> None:
        for trial in trials:
            failure = None
            try:
                with watch_of(trial) as watch:
                    run_trial(trial, sweep.folder, data.of(trial.seed), watch=watch)
            except Stopped:
                raise
            except Exception as error:  # one trial's failure, whatever it is, is its own
                failure = note_failure(trial, sweep.folder, error)
            staging.fetch(trial_folder(sweep.folder, trial))
            told(trial, failure)

    return run_all


def selection_shares(rows: Sequence[TrialRow]) -> dict[float, float]:
    """Return fraction -> seconds of selection over seconds of training, of the dearest strategy.

    The mean over seeds of the strategy that spends most on selecting: adaptive random at equal
    time is a control of the strategy, and a generous one of the cheaper ones.
    """
    shares: dict[float, float] = {}
    scored = [r for r in rows if r.role == "strategy" and r.seconds_scoring > 0]
    for fraction, name in sorted({(r.fraction, r.row) for r in scored}):
        own = [r for r in scored if (r.fraction, r.row) == (fraction, name)]
        share = float(np.mean([r.seconds_selection / r.seconds_training for r in own]))
        shares[fraction] = max(share, shares.get(fraction, 0.0))
    return shares


def _kept_shares(folder: Path) -> dict[str, float]:
    """Return what was written down; a damaged file is measured anew."""
    return {
        fraction: share
        for fraction, share in read_object(folder / SHARES).items()
        if isinstance(share, (int, float)) and share >= 0
    }


def _keep_shares(sweep: Sweep) -> None:
    """Write down what equal time means, once: pairs of later seeds must train as long."""
    path, known = sweep.folder / SHARES, _kept_shares(sweep.folder)
    measured = selection_shares(rows_in(sweep.folder, sweep.planned))
    new = {f"{fraction:.12g}": share for fraction, share in measured.items()}
    if new.keys() - known.keys():
        write_json(path, {**new, **known})
        staging.keep(path)


def _check_same(sweep: Sweep, stored: Path, resume: bool) -> None:
    before = read_sweep(stored.parent)
    lines = before.base.differences(sweep.base)
    for name in _TUNING:
        values = getattr(before.settings, name), getattr(sweep.settings, name)
        if values[0] != values[1]:
            lines.append(f"frontier.{name}: {values[0]} -> {values[1]}")
    name, differs = shown(sweep.folder), "".join(f"\n  {line}" for line in lines)
    if not resume:
        raise RunFolderError(
            f"{name} holds a frontier; add --resume to continue it, or choose another "
            "--run-dir." + (f" It differs from this one:{differs}" if differs else "")
        )
    if lines:
        raise RunFolderError(
            f"{name} belongs to another frontier, so it cannot be resumed:{differs}\n"
            "Give the same options, or another --run-dir."
        )
