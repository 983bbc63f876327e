"""Whether a used run folder is this run: what differs, in lines for a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.chain import ENVIRONMENT, FINGERPRINT, PARTS
from raysubset.chain import EXPERIMENT as EXPERIMENT
from raysubset.errors import RunFolderError
from raysubset.experiment import Experiment
from raysubset.files import read_object
from raysubset.records import read_table
from raysubset.storage.staging import shown, staging_of

# Options that change where a run runs, not what it gives: a resumed run may differ in them.
FREE_ON_RESUME = (
    "resources.scorers",
    "resources.placement",
    "resources.start_timeout_s",
    "resources.autoscaler_timeout_s",
    "resources.call_timeout_s",
    "resources.max_failures",
    "resources.keep_checkpoints",
    "resources.checkpoint_every_s",
)


def refuse_foreign(path: Path) -> None:
    """Refuse a folder of something else; what a run left that was killed at its begin is ours.

    Raises:
        RunFolderError: it is not empty and holds no run.
    """
    if not path.is_dir() or (path / EXPERIMENT).is_file():
        return
    try:
        # Hidden entries (a lock, a temporary file, Ray's own state) are no run.
        visible = {p.name for p in path.iterdir() if not p.name.startswith(".")}
        # Made first, and empty until the experiment is there; a store has no empty folders.
        rounds = path / "rounds"
        begun = rounds.is_dir() or staging_of(path) is not None
        if begun and not any(rounds.glob("*")):
            visible -= {ENVIRONMENT, FINGERPRINT, PARTS, "rounds"}
    except OSError as error:
        raise RunFolderError(
            f"run folder {shown(path)} cannot be read ({error.strerror}); choose another with "
            "--run-dir."
        ) from None
    if visible:
        raise RunFolderError(
            f"{shown(path)} is not empty and holds no run; choose another --run-dir."
        )


def refuse_other(
    path: Path,
    experiment: Experiment,
    identity: Mapping[str, Any],
    *,
    resume: bool,
    parts: Callable[[], pa.Table] | None,
) -> None:
    """Refuse a used folder without `resume`, or of another run.

    Args:
        path: the run folder.
        experiment: the resolved config.
        identity: of the data and model at hand.
        resume: the folder is to be continued.
        parts: gives which id belongs to which part, of the data at hand.

    Raises:
        RunFolderError: with what differs.
    """
    differences = [
        *config_differences(path / EXPERIMENT, experiment),
        *data_differences(path / FINGERPRINT, identity),
    ]
    if parts is not None and any(line.startswith("data data:") for line in differences):
        differences += row_differences(path / PARTS, parts())
    told = "".join(f"\n  {line}" for line in differences)
    if not resume:
        raise RunFolderError(
            f"run folder {shown(path)} is used; add --resume to continue it, or choose another "
            "--run-dir." + (f" It differs from this run:{told}" if told else "")
        )
    if differences:
        raise RunFolderError(
            f"run folder {shown(path)} belongs to another run, so it cannot be resumed:{told}\n"
            "Give the same options and data, or another --run-dir."
        )


def config_differences(stored: Path, asked: Experiment) -> list[str]:
    """Return what differs between a stored experiment and the one asked for.

    Args:
        stored: its YAML.
        asked: resolved.
    """
    lines = Experiment.of(Experiment.read(stored)).differences(asked)
    return [line for line in lines if not line.startswith(FREE_ON_RESUME)]


def data_differences(stored: Path, identity: Mapping[str, Any]) -> list[str]:
    """Return what differs between a stored fingerprint and the data (and model) at hand.

    Raises:
        RunFolderError: the file is damaged.
    """
    before = read_object(stored) if stored.is_file() else {}
    if before is None:
        raise RunFolderError(
            f"{shown(stored)} is damaged (no JSON object), so this run cannot be resumed; choose "
            "another --run-dir."
        )
    mine = json.loads(json.dumps(identity))
    keys = [k for k in {**before, **mine} if before.get(k) != mine.get(k)]
    return [f"data {key}: {before.get(key)} -> {mine.get(key)}" for key in sorted(keys)]


def row_differences(stored: Path, parts: pa.Table) -> list[str]:
    """Return which rows of changed data are others, by id; what a fingerprint cannot tell.

    Args:
        stored: parts.parquet of the run; without one, nothing is told.
        parts: the same table of the data at hand.
    """
    if not stored.is_file():
        return []
    (before, key), (now, now_key) = _by_id(read_table(stored)), _by_id(parts)
    _, at, now_at = np.intersect1d(key, now_key, assume_unique=True, return_indices=True)
    gone, new = len(key) - len(at), len(now_key) - len(at)
    lines = [f"rows: {gone:,} are gone, {new:,} are new"] if gone or new else []
    before, now = before.take(at), now.take(now_at)
    for name in ("label", "key", "part"):
        lines += _column_difference(name, before, now)
    return lines or ["rows: ids, labels and keys are the same, so contents differ"]


def _by_id(parts: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return rows in the order of ids, with a key of each; a part of its own repeats ids."""
    parts = parts.sort_by([("id", "ascending"), ("part", "ascending")])
    ids = parts["id"].to_numpy()
    return parts, 4 * ids + np.arange(len(ids)) - np.searchsorted(ids, ids)


def _column_difference(name: str, before: pa.Table, now: pa.Table) -> list[str]:
    """Return a line with the first of the rows that have another value in a column."""
    pairs = zip(before[name].to_pylist(), now[name].to_pylist(), strict=True)
    other = [(at, *pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]]
    if not other:
        return []
    at, old, new = other[0]
    return [
        f"rows: {len(other):,} of {len(before):,} have another {name}, first id "
        f"{before['id'][at]}: {old} -> {new}"
    ]
