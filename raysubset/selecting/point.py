"""A point of a run: the weights after one of its rounds, and what it was a run of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from raysubset.answers import require_run
from raysubset.chain import committed_chain, damaged_file, read_metrics
from raysubset.errors import RunFolderError
from raysubset.experiment import Experiment
from raysubset.learn.checkpoint import WEIGHTS, CheckpointRef, read_weights
from raysubset.ledger import EXPERIMENT
from raysubset.storage.staging import fetch_files, is_there


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """The end of a round.

    Attributes:
        run: the run folder.
        round: which round ended here.
        next_epoch: the run's number of the epoch that would come next.
        data: the fingerprint of its parts.
        weights: the model's state.
        digest: SHA-256 of the weights' file.
    """

    run: Path
    round: int
    next_epoch: int
    data: str
    weights: dict[str, Tensor]
    digest: str


def is_of_run(path: Path) -> bool:
    """Return whether a path names a run folder of ours, or one of its rounds."""
    return not path.is_file() and (_run_of(path)[0] / EXPERIMENT).is_file()


def stored_values(checkpoint: str | None) -> dict[str, Any]:
    """Return the experiment of a checkpoint that is a run of ours, nested; {} for any other.

    Where the run ran is left out, but for the threads that its sums depend on.
    """
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    if path is None or not is_of_run(path):
        return {}
    values = Experiment.read(_run_of(path)[0] / EXPERIMENT)
    here = values.pop("resources", {})
    threads = {k: v for k, v in here.items() if k == "threads_per_rank"}
    return {**values, "resources": threads} if threads else values


def read_point(path: Path) -> Point:
    """Return the point at a run folder (its newest weights) or at one of its rounds.

    Its manifests name every file by SHA-256 in a chain; weights that they do not vouch for are
    refused.

    Raises:
        RunFolderError: no run, no such round, no weights kept of it, or damaged ones.
    """
    run, number = _run_of(path)
    require_run(run)
    data = _data_of(run)
    chain = [manifest for _, manifest in committed_chain(run / "rounds", data)]
    kept = [m["round"] for m in chain if is_there(_checkpoint(run, m["round"]) / WEIGHTS)]
    if not kept:
        raise RunFolderError(f"{run} has no finished round with weights; let it run first.")
    number = kept[-1] if number is None else number
    if number not in kept:
        raise RunFolderError(
            f"{run} keeps no weights of round {number}; it has those of {_listed(kept)}. A run "
            "keeps more with --resources.keep_checkpoints."
        )
    files = chain[number]["files"]
    weights, metrics = files[f"checkpoint/{WEIGHTS}"], files["metrics.json"]
    folder = run / "rounds" / f"{number:04d}"
    if damaged_file(folder, {"metrics.json": metrics}):
        raise RunFolderError(
            f"{folder / 'metrics.json'} is not what its manifest recorded; take another round."
        )
    fetch_files([_checkpoint(run, number) / WEIGHTS])
    ref = CheckpointRef(path=str(_checkpoint(run, number)), files={WEIGHTS: weights})
    return Point(
        run=run,
        round=number,
        next_epoch=int(read_metrics(folder).get("epochs", 0)),
        data=data,
        weights=read_weights(ref),
        digest=weights,
    )


def _run_of(path: Path) -> tuple[Path, int | None]:
    """Return the run folder of a path, and the round that it names."""
    path = path.absolute()
    if path.name == "checkpoint":
        path = path.parent
    if path.name.isdigit() and path.parent.name == "rounds":
        return path.parent.parent, int(path.name)
    return path, None


def _checkpoint(run: Path, number: int) -> Path:
    return run / "rounds" / f"{number:04d}" / "checkpoint"


def _data_of(run: Path) -> str:
    path = run / "fingerprint.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["data"])
    except (OSError, ValueError, KeyError, TypeError):
        raise RunFolderError(
            f"{path} is missing or damaged, so nothing says which data the weights belong to; "
            "give the weights' file itself, with the data and model by options."
        ) from None


def _listed(numbers: list[int]) -> str:
    word = "round" if len(numbers) == 1 else "rounds"
    return f"{word} {', '.join(str(number) for number in numbers)}"
