"""One trial of a frontier: a whole run, in one process, from data that is loaded already."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raysubset.chain import MANIFEST, OBSERVATIONS, damaged_file
from raysubset.engine import Outcome, Watch
from raysubset.errors import RaySubsetError
from raysubset.experiment import Experiment, read_yaml
from raysubset.files import json_bytes, write_json
from raysubset.files import read_object as object_of
from raysubset.frontier.plan import Trial
from raysubset.learn.sources import Sources
from raysubset.local_run import run_local
from raysubset.preparation import load_data, prepare
from raysubset.records import read_history
from raysubset.redaction import redacted
from raysubset.storage import Remote, is_uri, staging

TRIALS = "trials"
RESULT = {*Outcome.__dataclass_fields__, "test_class_accuracy", "test_examples"}
TRIAL, FAILED = "trial.json", "failed.json"


class Data:
    """The data of a frontier: loaded once, or once a seed where a limit draws rows by seed."""

    def __init__(self, experiment: Experiment) -> None:
        """Hold the base experiment; nothing is loaded yet."""
        self.experiment = experiment
        self._by_seed: dict[int, Sources] = {}

    def of(self, seed: int) -> Sources:
        """Return what trials of this seed are split from.

        Raises:
            ConfigError, DataError: bad data, named with its remedy.
        """
        key = self.seed_of(seed)
        if key not in self._by_seed:
            self._by_seed[key] = load_data(self.experiment.model_copy(update={"seed": key}))
        return self._by_seed[key]

    def seed_of(self, seed: int) -> int:
        """Return the seed that decides which rows are there."""
        return self.experiment.seed if self.experiment.data.limit is None else seed


def trial_folder(folder: Path, trial: Trial) -> Path:
    """Return the run folder of a trial."""
    return folder / TRIALS / trial.name


def trial_place(folder: Path | str, trial: Trial) -> Path | str:
    """Return the run folder of a trial as another process has to open it: a path or a URI."""
    place = staging.place_of(folder) if isinstance(folder, Path) else folder
    if is_uri(place):
        return str(Remote(str(place)) / TRIALS / trial.name)
    return trial_folder(Path(place), trial)


def is_finished(folder: Path, trial: Trial) -> bool:
    """Return whether exactly this trial stands finished in the folder, every file of it whole."""
    path = trial_folder(folder, trial)
    result, told = read_object(path / "result.json"), read_object(path / TRIAL)
    identity = read_object(path / "fingerprint.json")
    whole = RESULT <= result.keys() and "seconds_start" in told and "parts" in identity
    if not whole or not is_whole(path):
        return False
    try:
        stored = Experiment.of(read_yaml(path / "experiment.yaml"))
    except RaySubsetError:
        return False
    return not stored.differences(trial.experiment)


def is_whole(run: Path) -> bool:
    """Return whether every record of a finished run is what its manifests say, and in its history.

    Checkpoints and the older observations are gone by then.
    """
    manifests = sorted(run.glob(f"rounds/*/{MANIFEST}"))
    for manifest in manifests:
        files = read_object(manifest).get("files")
        if not isinstance(files, dict):
            return False
        gone = {OBSERVATIONS} - {path.name for path in manifest.parent.iterdir()}
        named = {n: d for n, d in files.items() if not n.startswith("checkpoint/")}
        if damaged_file(manifest.parent, {n: d for n, d in named.items() if n not in gone}):
            return False
    told = [line for line in read_history(run) if line["kind"] == "round"]
    return bool(manifests) and len(told) == len(manifests)


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} where there is none, or none that can be read."""
    return object_of(path) or {}


def run_trial(
    trial: Trial,
    folder: Path | str,
    sources: Sources,
    *,
    watch: Watch | None = None,
    import_from: str | None = None,
    seconds_start: float = 0.0,
    run: Callable[..., Outcome] | None = None,
) -> Outcome:
    """Run a trial to its end, from its last finished round where it was begun before.

    Args:
        trial: what to run.
        folder: of the frontier, or its URI: the trial mirrors its own folder, from any node.
        sources: the data.
        watch: who looks on; may stop the trial.
        import_from: the folder of a person's model.
        seconds_start: what starting this process took; charged to no strategy.
        run: runs what is prepared; None for `run_local`, in this process.

    Raises:
        RaySubsetError: whatever a run raises.
    """
    began = time.perf_counter()
    prepared = prepare(trial.experiment, sources, import_from)
    seconds_start += time.perf_counter() - began
    with staging.staged(trial_place(folder, trial)) as path:
        _begin(path)
        resume = (path / "experiment.yaml").is_file()
        outcome = (run or run_local)(prepared, path, resume=resume, watch=watch)
        for round_ in path.glob("rounds/*"):  # a finished trial goes on from nothing
            shutil.rmtree(round_ / "checkpoint", ignore_errors=True)
            staging.drop(round_ / "checkpoint")
        mode = "local" if run is None else "crew"
        told = {"row": trial.row, "role": trial.role, "mode": mode, "seconds_start": seconds_start}
        write_json(path / TRIAL, told | {"fraction": trial.fraction, "seed": trial.seed})
        staging.keep(path / TRIAL)
    return outcome


def _begin(path: Path) -> None:
    """Forget a failure, and a damaged trial: without checkpoints it begins anew."""
    (path / FAILED).unlink(missing_ok=True)
    staging.drop(path / FAILED)
    if (path / TRIAL).is_file() and not is_whole(path):
        shutil.rmtree(path)
        staging.drop(path)


def note(trial: Trial, folder: Path | str, name: str, value: dict[str, Any]) -> None:
    """Write a JSON file into a trial's folder, wherever that lies."""
    place = trial_place(folder, trial)
    if isinstance(folder, str) and is_uri(place):
        Remote(str(place)).write(name, json_bytes(value))
        return
    path = Path(folder) / TRIALS / trial.name
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / name, value)
    staging.keep(path / name)


def note_failure(trial: Trial, folder: Path | str, error: BaseException) -> str:
    """Record why a trial failed, and return it as a line."""
    told = redacted(str(error))
    if not isinstance(error, RaySubsetError):
        told = f"{type(error).__name__}: {told}"
    note(trial, folder, FAILED, {"row": trial.row, "seed": trial.seed, "error": told})
    return told
