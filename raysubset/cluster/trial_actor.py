"""The warm process of a sweep: a Tune actor that runs one trial after the other.

A trial with one rank and one scorer is a whole run inside its Tune actor (LocalPool and
LocalTrainer, the same ids as with a crew): an empty fit() costs more than such a trial. A trial
with more ranks starts a crew of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ray import tune

from raysubset.cluster.blocks import carried
from raysubset.cluster.names import run_id
from raysubset.cluster.ray_run import run_ray
from raysubset.cluster.stoppable_trial import Report, StoppableTrial
from raysubset.engine import Outcome, Watch
from raysubset.frontier.plan import Trial
from raysubset.frontier.trial import note_failure, run_trial
from raysubset.frontier.tuning import with_values


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What every trial's actor gets: the sources are refs, put once by the driver."""

    folder: Path | str
    trials: tuple[Trial, ...]
    sources: Mapping[int, Any]
    import_from: str
    mode: Literal["local", "crew"]
    began: float
    stoppable: bool = False

    def trial_of(self, config: Mapping[str, Any]) -> Trial:
        """Return the trial of a Tune config: by its number, with the values that were drawn."""
        return with_values(self.trials[int(config["trial"])], config.get("values", {}))


class TrialActor(tune.Trainable):
    """Runs one trial a step, or a round a step where it may be stopped; the process stays warm."""

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        """Take the first trial, and what all trials share."""
        assert shared is not None
        self.shared, self.trial = shared, shared.trial_of(config)
        self.start_s = max(0.0, time.time() - shared.began)
        self.running: StoppableTrial | None = None

    def __repr__(self) -> str:
        """Return what the dashboard calls this actor: its sweep, for trials come and go in it."""
        return f"raysubset-trials {run_id(str(self.shared.folder))}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End a trial that Tune stopped, and take the next; this process is warm now."""
        self.cleanup()
        self.trial, self.start_s = self.shared.trial_of(new_config), 0.0
        return True

    def cleanup(self) -> None:
        """End a trial that Tune stopped, in good order: its crew goes home."""
        running, self.running = self.running, None
        if running is not None:
            running.stop()

    def step(self) -> dict[str, Any]:
        """Run the trial; its failure is noted in its folder and told, and stops no other."""
        try:
            told = self._next_round() if self.shared.stoppable else self._run(None)
        except Exception as error:  # one trial's failure, whatever it is, is its own
            self.running = None
            return {"done": True, "failed": note_failure(self.trial, self.shared.folder, error)}
        length = float(self.trial.experiment.training.epochs)
        if isinstance(told, Report):
            return _as_result(told.tuning_accuracy, told.epochs, told.share * length)
        self.running = None
        result = _as_result(told.tuning_accuracy, told.epochs, length)
        return {**result, "done": True, "failed": None}

    def _next_round(self) -> Report | Outcome:
        if self.running is None:
            wait_s = self.trial.experiment.resources.call_timeout_s
            self.running = StoppableTrial(self._run, self.trial.name, wait_s)
        return self.running.next()

    def _run(self, watch: Watch | None) -> Outcome:
        shared = self.shared
        return run_trial(
            self.trial,
            shared.folder,
            carried(shared.sources[self.trial.seed]),
            watch=watch,
            import_from=shared.import_from,
            seconds_start=self.start_s,
            run=run_ray if shared.mode == "crew" else None,
        )


def _as_result(tuning_accuracy: float | None, epochs: int, progress: float) -> dict[str, Any]:
    """Return what Tune hears; a trial without a tuning part reports no figure at all."""
    if tuning_accuracy is None:
        return {"epochs": epochs}
    return {"tuning_accuracy": tuning_accuracy, "epochs": epochs, "progress": progress}
