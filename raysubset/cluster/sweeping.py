"""A sweep by Ray Tune: warm actors that each run one trial after the other.

A trial with one rank and one scorer is a whole run inside its Tune actor (LocalPool and
LocalTrainer, the same ids as with a crew): an empty fit() costs more than such a trial. A trial
with more ranks starts a crew of its own.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray import tune

from raysubset.cluster.ray_run import run_ray
from raysubset.cluster.session import ray_session
from raysubset.errors import CrewLost, RoomError
from raysubset.experiment import Experiment, ResourceSettings
from raysubset.frontier.plan import Trial
from raysubset.frontier.sweep import RunTrials, Sweep, Told
from raysubset.frontier.trial import Data, note_failure, run_trial

logger = logging.getLogger(__name__)
TrialMode = Literal["local", "crew", "auto"]
_STATE = ".tune"


@dataclass(frozen=True, kw_only=True)
class Places:
    """How trials are laid on a cluster.

    Attributes:
        mode: "local" (a trial is its actor) or "crew" (the trial starts ranks and scorers).
        at_once: how many trials run side by side.
        resources: what Tune reserves for one.
        waiting: how many more stand ready: Tune keeps an actor only where a trial waits for it.
    """

    mode: Literal["local", "crew"]
    at_once: int
    resources: Mapping[str, float]
    waiting: int = 0


@contextmanager
def sweep_session(experiment: Experiment, mode: TrialMode) -> Generator[Places]:
    """Connect to a cluster, or start a private Ray, and say where trials go.

    Raises:
        RoomError: no Ray, or no room for a single trial.
    """
    with ray_session(experiment):
        yield plan_places(experiment.resources, ray.cluster_resources(), mode)


def plan_places(asked: ResourceSettings, there: Mapping[str, float], mode: TrialMode) -> Places:
    """Return where trials go, counted before anything starts: Tune itself would wait for ever.

    Args:
        asked: resources of one trial.
        there: `ray.cluster_resources()`.
        mode: "auto" makes a trial of one rank and one scorer local.

    Raises:
        RoomError: not even one trial fits; both numbers are named.
    """
    small = asked.workers == 1 and asked.scorers == 1
    gpus = there.get("GPU", 0.0) if asked.device != "cpu" else 0.0
    if mode == "local" or (mode == "auto" and small):
        per = {"CPU": float(asked.threads_per_rank)}
        if asked.device == "cuda" or gpus >= 1:
            per["GPU"] = 1.0
        at_once = _at_once(per, there)
        return Places(mode="local", at_once=at_once, resources=per, waiting=2 * at_once)
    size = float(asked.workers + (0 if asked.placement == "crew" else asked.scorers))
    per = {"CPU": size}
    if asked.device == "cuda" or gpus >= asked.workers:
        per["GPU"] = size
    # The crew has a placement group of its own; the trial that starts it costs no CPU.
    own = {"node:__internal_head__": 0.001}
    return Places(mode="crew", at_once=_at_once(per, there), resources=own)


def _at_once(per: Mapping[str, float], there: Mapping[str, float]) -> int:
    counts = {name: int(there.get(name, 0.0) // need) for name, need in per.items()}
    name = min(counts, key=lambda n: counts[n])
    if counts[name] == 0:
        raise RoomError(
            f"one trial needs {per[name]:g} {name}s, and the cluster has "
            f"{there.get(name, 0.0):g}; lower --resources.workers or --resources.scorers, or add "
            "nodes."
        )
    return counts[name]


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What every trial's actor gets: the sources are refs, put once by the driver."""

    folder: Path
    trials: tuple[Trial, ...]
    sources: Mapping[int, Any]
    import_from: str
    mode: Literal["local", "crew"]
    began: float


class TrialActor(tune.Trainable):
    """Runs one trial a step; Tune hands the same process trial after trial."""

    def setup(self, config: dict[str, Any], shared: _Shared | None = None) -> None:
        """Take the first trial, and what all trials share."""
        assert shared is not None
        self.shared, self.index = shared, int(config["trial"])
        self.start_s = max(0.0, time.time() - shared.began)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial; this process is warm now."""
        self.index, self.start_s = int(new_config["trial"]), 0.0
        return True

    def step(self) -> dict[str, Any]:
        """Run the trial; its failure is noted in its folder and told, and stops no other."""
        shared, trial = self.shared, self.shared.trials[self.index]
        try:
            run_trial(
                trial,
                shared.folder,
                ray.get(shared.sources[trial.seed]),
                import_from=shared.import_from,
                seconds_start=self.start_s,
                run=run_ray if shared.mode == "crew" else None,
            )
        except Exception as error:  # one trial's failure, whatever it is, is its own
            return {"done": True, "failed": note_failure(trial, shared.folder, error)}
        return {"done": True, "failed": None}


def run_with_tune(sweep: Sweep, data: Data, places: Places, told: Told) -> RunTrials:
    """Return what runs trials by Tune on the Ray that is connected; data is put there once."""
    refs: dict[int, Any] = {}

    def run_all(trials: Sequence[Trial]) -> None:
        if not trials:
            return
        for trial in trials:
            key = data.seed_of(trial.seed)
            refs.setdefault(key, None)
            if refs[key] is None:
                refs[key] = ray.put(data.of(trial.seed))
        shared = _Shared(
            folder=sweep.folder,
            trials=tuple(trials),
            sources={t.seed: refs[data.seed_of(t.seed)] for t in trials},
            import_from=os.getcwd(),
            mode=places.mode,
            began=time.time(),
        )
        _fit(sweep, shared, places, told)

    return run_all


def _fit(sweep: Sweep, shared: _Shared, places: Places, told: Told) -> None:
    # Ours: the command line owns Ctrl-C, and a trial's record is its run folder.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints boxes at verbose=0
    state = sweep.folder / _STATE
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialActor, shared=shared), dict(places.resources)
        ),
        param_space={"trial": tune.grid_search(list(range(len(shared.trials))))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=places.at_once + places.waiting,
            reuse_actors=True,
            num_samples=1,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(state),
            verbose=0,
            callbacks=[_Teller(shared, told)],
            failure_config=tune.FailureConfig(
                max_failures=sweep.base.resources.max_failures, fail_fast=False
            ),
            # The run folder is the checkpoint; Tune would ask a class for one at its end.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        with _sigterm_gets_through():
            tuner.fit()
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def _sigterm_gets_through() -> Generator[None]:
    """Deliver SIGTERM as KeyboardInterrupt: Tune catches every Exception around what it calls."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard: list[int] = []

    def interrupt(number: int, _: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if heard:
            before(heard[0], None)  # raises what the owner of the signal makes of it
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class _Teller(tune.Callback):
    """Tells the driver of each trial that ended."""

    def __init__(self, shared: _Shared, told: Told) -> None:
        self.shared, self.told = shared, told

    def __getstate__(self) -> dict[str, Any]:
        """Leave the listener behind: Tune pickles its callbacks, to be able to go on without us."""
        return {"shared": self.shared, "told": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.told(self._of(trial), (trial.last_result or {}).get("failed"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        lost = self._of(trial)
        error = CrewLost(
            "its process ended too often (out of memory?); run it again with --resume."
        )
        self.told(lost, note_failure(lost, self.shared.folder, error))

    def _of(self, trial: Any) -> Trial:
        return self.shared.trials[int(trial.config["trial"])]
