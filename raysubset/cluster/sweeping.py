"""A sweep by Ray Tune: warm actors that each run one trial after the other."""

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

from raysubset.cluster.room import Nodes, beside_other_trials, device_of, places, wanted_scorers
from raysubset.cluster.session import all_nodes, ray_session, refuse_overlap
from raysubset.cluster.trial_actor import Shared, TrialActor
from raysubset.errors import CrewLost, RoomError
from raysubset.experiment import Experiment, ResourceSettings
from raysubset.frontier.plan import Trial
from raysubset.frontier.sweep import RunTrials, Sweep, Told
from raysubset.frontier.trial import Data, note_failure, trial_folder
from raysubset.storage.staging import fetch, place_of

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
        nodes = all_nodes(experiment.resources)
        places = plan_places(experiment.resources, nodes, mode)
        if places.mode == "crew":
            refuse_overlap(experiment, beside_other_trials(experiment.resources, nodes).placement)
        yield places


def plan_places(
    asked: ResourceSettings, there: Nodes | Mapping[str, float], mode: TrialMode
) -> Places:
    """Return where trials go, counted before anything starts: Tune itself would wait for ever.

    Args:
        asked: resources of one trial.
        there: every node's resources, as for `plan_room`.
        mode: "auto" makes a trial of one rank and one scorer local.

    Raises:
        RoomError: not even one trial fits; both numbers are named.
    """
    nodes: Nodes = [there] if isinstance(there, Mapping) else there
    device = device_of(asked, nodes)
    unit = "GPU" if device == "cuda" else "CPU"
    in_place = beside_other_trials(asked, nodes).placement == "crew"
    scorers = 0 if in_place else wanted_scorers(asked)
    if mode == "local" or (mode == "auto" and asked.ranks == 1 and scorers <= 1):
        per = {"CPU": float(asked.threads_per_rank)}
        if device == "cuda":
            per["GPU"] = 1.0
        at_once = sum(min(int(n.get(k, 0.0) // need) for k, need in per.items()) for n in nodes)
        _refuse_none(at_once, per[unit], nodes, unit)
        return Places(mode="local", at_once=at_once, resources=per, waiting=2 * at_once)
    at_once = places(nodes, device) // (asked.ranks + scorers)
    _refuse_none(at_once, float(asked.ranks + scorers), nodes, unit)
    # The crew has a placement group of its own; the trial that starts it costs no CPU.
    own = {"node:__internal_head__": 0.001}
    return Places(mode="crew", at_once=at_once, resources=own)


def _refuse_none(at_once: int, need: float, nodes: Nodes, unit: str) -> None:
    if at_once == 0:
        there = sum(node.get(unit, 0.0) for node in nodes)
        raise RoomError(
            f"one trial needs {need:g} {unit}s, and the cluster has {there:g}; lower "
            "--resources.workers or --resources.scorers, or add nodes."
        )


@dataclass(frozen=True, kw_only=True)
class Search:
    """How Tune goes through trials, where it is not simply all of them.

    Attributes:
        scheduler: who stops trials; None: nobody.
        searcher: who draws configs; None: every trial once.
        num_samples: the most that the searcher draws.
    """

    scheduler: Any = None
    searcher: Any = None
    num_samples: int = 1


class Placed:
    """The data of a frontier in the object store: put once, whoever runs trials on it."""

    def __init__(self, data: Data) -> None:
        """Hold the data; nothing is put yet."""
        self.data = data
        self._refs: dict[int, Any] = {}

    def of(self, trials: Sequence[Trial]) -> dict[int, Any]:
        """Return seed -> the ref of its sources."""
        for trial in trials:
            key = self.data.seed_of(trial.seed)
            if key not in self._refs:
                self._refs[key] = ray.put(self.data.of(trial.seed))
        return {t.seed: self._refs[self.data.seed_of(t.seed)] for t in trials}


def shared_by(
    sweep: Sweep,
    placed: Placed,
    places: Places,
    trials: Sequence[Trial],
    *,
    stoppable: bool = False,
) -> Shared:
    """Return what the actors of these trials get."""
    return Shared(
        folder=place_of(sweep.folder),
        trials=tuple(trials),
        sources=placed.of(trials),
        import_from=os.getcwd(),
        mode=places.mode,
        began=time.time(),
        stoppable=stoppable,
    )


def run_with_tune(sweep: Sweep, data: Data | Placed, places: Places, told: Told) -> RunTrials:
    """Return what runs trials by Tune on the Ray that is connected; data is put there once."""
    placed = data if isinstance(data, Placed) else Placed(data)

    def run_all(trials: Sequence[Trial]) -> None:
        if trials:
            fit(sweep, shared_by(sweep, placed, places, trials), places, told)

    return run_all


def fit(
    sweep: Sweep, shared: Shared, places: Places, told: Told, search: Search | None = None
) -> None:
    """Run trials by Tune to their ends; a failed one is noted, told, and stops no other."""
    # Ours: the command line owns Ctrl-C, and a trial's record is its run folder.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new one prints boxes at verbose=0
    state, how = sweep.folder / _STATE, search or Search()
    every = {"trial": tune.grid_search(list(range(len(shared.trials))))}
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(TrialActor, shared=shared), dict(places.resources)
        ),
        param_space={} if how.searcher else every,
        tune_config=tune.TuneConfig(
            max_concurrent_trials=places.at_once + places.waiting,
            reuse_actors=True,
            num_samples=how.num_samples,
            scheduler=how.scheduler,
            search_alg=how.searcher,
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        ),
        run_config=_run_config(sweep, shared, told, state),
    )
    try:
        with _sigterm_gets_through():
            tuner.fit()
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _run_config(sweep: Sweep, shared: Shared, told: Told, state: Path) -> tune.RunConfig:
    return tune.RunConfig(
        name="sweep",
        storage_path=str(state),
        verbose=0,
        callbacks=[_Teller(shared, sweep.folder, told)],
        failure_config=tune.FailureConfig(
            max_failures=sweep.base.resources.max_failures, fail_fast=False
        ),
        # The run folder is the checkpoint; Tune would ask a class for one at its end.
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )


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

    def __init__(self, shared: Shared, folder: Path, told: Told) -> None:
        self.shared, self.folder, self.told = shared, folder, told

    def __getstate__(self) -> dict[str, Any]:
        """Leave the listener behind: Tune pickles its callbacks, to be able to go on without us."""
        return {"shared": self.shared, "folder": self.folder, "told": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        ended = self._of(trial)
        fetch(trial_folder(self.folder, ended))
        self.told(ended, (trial.last_result or {}).get("failed"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        lost = self._of(trial)
        error = CrewLost(
            "its process ended too often (out of memory?); run it again with --resume."
        )
        self.told(lost, note_failure(lost, self.folder, error))

    def _of(self, trial: Any) -> Trial:
        return self.shared.trial_of(trial.config)
