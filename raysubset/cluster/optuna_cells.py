"""Candidates drawn by Optuna: one study for each cell, one candidate of it at a time.

So a study depends on its seed and on its own results alone: cells run side by side, and whoever
resumes draws the same candidates again and tells it what is on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from raysubset.frontier.candidates import Axis, axes_for, axes_of
from raysubset.frontier.overrides import Values
from raysubset.frontier.plan import Trial
from raysubset.frontier.sweep import Sweep
from raysubset.frontier.tuning import Tried, is_ended, tried_of, with_values

METRIC = "tuning_accuracy"


class OptunaByCell(Searcher):
    """Tune's Optuna search, one for each cell."""

    def __init__(self, sweep: Sweep, cells: Sequence[Trial]) -> None:
        """Draw the first candidate of every cell that is not on disk."""
        super().__init__()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.studies = [_Study(sweep, cell) for cell in cells]
        self._running: dict[str, _Study] = {}

    @property
    def is_done(self) -> bool:
        """Whether all samples of all cells are drawn, and none of them waits to be run."""
        return all(study.waiting is None for study in self.studies)

    @property
    def drawn(self) -> dict[str, list[Values]]:
        """Cell -> its candidates in the order in which they were drawn, each once."""
        return {study.cell.cell: study.drawn for study in self.studies}

    def suggest(self, trial_id: str) -> Any:
        """Return the config of a candidate; None where every cell waits for a result."""
        busy = list(self._running.values())
        free = [i for i, s in enumerate(self.studies) if s.waiting is not None and s not in busy]
        if not free:
            more = any(study.waiting is not None and study.left for study in busy)
            return None if more else Searcher.FINISHED
        place = min(free, key=lambda i: len(self.studies[i].drawn))
        self._running[trial_id] = self.studies[place]
        return {"trial": place, "values": dict(self.studies[place].waiting or {})}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tell a study nothing before a candidate has ended."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell a study what its candidate gave, and draw its next."""
        study = self._running.pop(trial_id)
        study.tell(None if error else (result or {}).get(METRIC))

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: the run folders are the record, and a study is drawn again from them."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""


class _Study:
    """The study of one cell, always one candidate ahead.

    Attributes:
        cell: a trial of the first seed.
        drawn: the candidates so far, each once.
        waiting: the candidate that is to be run, or runs; None where no sample is left.
        left: how many samples come after that.
    """

    def __init__(self, sweep: Sweep, cell: Trial) -> None:
        self.cell, self.folder = cell, sweep.folder
        self.drawn: list[Values] = []
        self.waiting: Values | None = None
        self.left = sweep.settings.samples or 0
        self._accuracy: dict[str, float | None] = {}
        axes = axes_for(cell.experiment.selection.strategy, axes_of(sweep.base, sweep.settings))
        seed = hashlib.sha256(f"{sweep.base.seed}:{cell.cell}".encode()).digest()[:4]
        self._search = OptunaSearch(
            space=_space(axes), metric=METRIC, mode="max", seed=int.from_bytes(seed, "big")
        )
        self._draw()

    def tell(self, accuracy: float | None) -> None:
        """Take what the waiting candidate gave (None: it failed), and draw on."""
        assert self.waiting is not None
        self._accuracy[self._candidate(self.waiting).name] = accuracy
        self._report(accuracy)
        self._draw()

    def _draw(self) -> None:
        """Draw until a candidate has to be run; those whose end is known are told at once."""
        self.waiting = None
        while self.left:
            self.left -= 1
            values = self._search.suggest(str(self.left))
            candidate = self._candidate(values or {})
            if candidate.overrides not in self.drawn:
                self.drawn.append(candidate.overrides)
            known = self._known(candidate)
            if known is None:
                self.waiting = candidate.overrides
                return
            self._report(known.tuning_accuracy)

    def _known(self, candidate: Trial) -> Tried | None:
        if candidate.name in self._accuracy:
            accuracy = self._accuracy[candidate.name]
            return Tried(values=candidate.overrides, tuning_accuracy=accuracy)
        return tried_of(self.folder, candidate) if is_ended(self.folder, candidate) else None

    def _candidate(self, values: Values) -> Trial:
        return with_values(self.cell, values)

    def _report(self, accuracy: float | None) -> None:
        result = None if accuracy is None else {METRIC: accuracy}
        self._search.on_trial_complete(str(self.left), result, error=accuracy is None)


def _space(axes: Sequence[Axis]) -> dict[str, Any]:
    """Return Optuna's distributions, field by field."""
    from optuna import distributions

    space: dict[str, Any] = {}
    for axis in axes:
        if not axis.is_range:
            space[axis.field] = distributions.CategoricalDistribution(axis.values)
            continue
        kind = distributions.IntDistribution if axis.whole else distributions.FloatDistribution
        space[axis.field] = kind(*axis.values, log=axis.by_log)
    return space
