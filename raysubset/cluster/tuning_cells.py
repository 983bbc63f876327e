"""Tuning by Ray Tune: the candidates of many cells side by side, each cell judged by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raysubset.cluster.sweeping import Placed, Places, Search, fit, shared_by
from raysubset.experiment import Experiment
from raysubset.frontier.overrides import Values
from raysubset.frontier.plan import Trial
from raysubset.frontier.sweep import Sweep, Told
from raysubset.frontier.tuning import TuneCells, candidates_of, is_ended, note_stop

REDUCTION = 2
"""Of the candidates that reach a rung, the better half goes on; rungs double in length."""


def tune_on_ray(sweep: Sweep, placed: Placed, places: Places, told: Told) -> TuneCells:
    """Return what sees that every candidate of a cell ends: finished, failed or stopped early."""
    stoppable = sweep.settings.early_stop == "asha"

    def by_grid(cells: Sequence[Trial]) -> Mapping[str, Sequence[Values]]:
        listed = {c.cell: candidates_of(sweep.base, sweep.settings, c) for c in cells}
        everyone = [one for own in listed.values() for one in own]
        left = [one for one in everyone if not is_ended(sweep.folder, one)]
        if left:
            shared = shared_by(sweep, placed, places, left, stoppable=stoppable)
            fit(sweep, shared, places, told, Search(scheduler=_scheduler(sweep, shared.trial_of)))
        return {cell: [one.overrides for one in own] for cell, own in listed.items()}

    def by_optuna(cells: Sequence[Trial]) -> Mapping[str, Sequence[Values]]:
        from raysubset.cluster.optuna_cells import OptunaByCell

        searcher = OptunaByCell(sweep, cells)
        if not searcher.is_done:
            shared = shared_by(sweep, placed, places, cells, stoppable=stoppable)
            search = Search(
                scheduler=_scheduler(sweep, shared.trial_of),
                searcher=searcher,
                num_samples=len(cells) * (sweep.settings.samples or 1),
            )
            fit(sweep, shared, places, told, search)
        return searcher.drawn

    return by_optuna if sweep.settings.search == "optuna" else by_grid


def _scheduler(sweep: Sweep, trial_of: Callable[[Mapping[str, Any]], Trial]) -> Any:
    if sweep.settings.early_stop != "asha":
        return None

    def noted(trial: Trial, result: Mapping[str, Any]) -> None:
        note_stop(sweep.folder, trial, result["tuning_accuracy"], int(result["epochs"]))

    return AshaByCell(sweep.base, trial_of, noted)


class AshaByCell(FIFOScheduler):
    """Tune's ASHA, one for each cell: a row is compared with itself alone."""

    def __init__(
        self,
        base: Experiment,
        trial_of: Callable[[Mapping[str, Any]], Trial],
        noted: Callable[[Trial, Mapping[str, Any]], None],
    ) -> None:
        """Begin without any result.

        Args:
            base: how long a trial is, and its rounds: nobody is stopped before the first has ended.
            trial_of: a Tune config's trial.
            noted: hears of each trial that is stopped, with its last result.
        """
        super().__init__()
        self.length = base.training.epochs
        self.grace = min(self.length, base.selection.select_every)
        self.trial_of, self.noted = trial_of, noted
        self.by_cell: dict[str, ASHAScheduler] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial will run."""
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Say whether a trial goes on after a round."""
        decision = self._of(trial).on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self.noted(self.trial_of(trial.config), result)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A trial ended by itself, or was stopped."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """A trial will not run after all."""
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Any) -> ASHAScheduler:
        cell = self.trial_of(trial.config).cell
        if cell not in self.by_cell:
            self.by_cell[cell] = ASHAScheduler(
                time_attr="progress",
                metric="tuning_accuracy",
                mode="max",
                max_t=self.length,
                grace_period=self.grace,
                reduction_factor=REDUCTION,
            )
        return self.by_cell[cell]
