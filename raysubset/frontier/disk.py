"""Disk space that a run or a frontier needs, counted before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from raysubset.errors import RunFolderError
from raysubset.files import nearest_folder
from raysubset.frontier.plan import ADAPTIVE, Trial
from raysubset.preparation import Prepared
from raysubset.storage.staging import shown, staging_of

_PART_BYTES = 24  # of a row in parts.parquet: id, label, part, a short key
_CHOICE_BYTES = 32  # of a row in selection.parquet
_OTHER_BYTES = 300_000  # of a trial: history, metrics, manifests, event files
_STATES = 2  # weights and momentum in a checkpoint


def bytes_needed(
    trials: Sequence[Trial], first: Prepared, at_once: int, runs: int | None = None
) -> int:
    """Return about how many bytes these trials leave or hold at one time.

    Args:
        trials: what is left to run.
        first: one of them, ready: its data and model are those of all.
        at_once: trials side by side, each with its checkpoints; a finished trial keeps none.
        runs: how many runs there will be; candidates of a tuned frontier are more than its trials,
            and a search makes fewer. None: as many as trials.
    """
    parts, pool = first.identity["parts"], int(first.identity["pool"])
    rows = sum(int(parts[name]) for name in ("pool", "validation", "tuning", "test"))
    kept = sum(_PART_BYTES * rows + _chosen_bytes(trial, pool) + _OTHER_BYTES for trial in trials)
    if runs is not None and trials:
        kept = -(-kept * runs // len(trials))
    resources = first.experiment.resources
    checkpoint = 4 * _STATES * first.num_parameters
    # Beside those that are kept: one that is being written, and the epochs kept of its round.
    held = resources.keep_checkpoints + 2
    return kept + checkpoint * held * min(at_once, len(trials))


def run_bytes(run: Prepared) -> int:
    """Return about how many bytes one run leaves or holds at one time."""
    experiment = run.experiment
    trial = Trial(
        row=experiment.selection.strategy,
        role="strategy",
        fraction=experiment.selection.fraction,
        seed=experiment.seed,
        experiment=experiment,
    )
    return bytes_needed([trial], run, 1)


def left_to_write(run: Prepared, folder: Path) -> int:
    """Return about how many bytes a run has still to write into its folder."""
    there = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    # At least the next checkpoint, beside the one before: both are there until it is committed.
    return max(run_bytes(run) - there, 2 * 4 * _STATES * run.num_parameters)


def check_disk(
    folder: Path,
    needed: int,
    what: str = "this frontier",
    less: str = "run fewer --fractions or --seeds",
) -> None:
    """Refuse what would fill its disk.

    Args:
        folder: where it is written; behind a URI, its local copy.
        needed: bytes.
        what: is written.
        less: how a person asks for less of it.

    Raises:
        RunFolderError: both numbers, and the remedy.
    """
    free = shutil.disk_usage(nearest_folder(folder)).free
    if free < needed:
        behind = staging_of(folder) is not None
        where = f"{folder}, the local copy of {shown(folder)}" if behind else str(folder)
        other = "set TMPDIR elsewhere" if behind else "choose another --run-dir"
        raise RunFolderError(
            f"{what} needs about {_size(needed)} in {where}, and {_size(free)} are free there; "
            f"make room, {other}, or {less}."
        )


def _chosen_bytes(trial: Trial, pool: int) -> int:
    """Return the bytes of a trial's choices: one a round, or one an epoch where it draws anew."""
    epochs, every = trial.experiment.training.epochs, trial.experiment.selection.select_every
    times = epochs if trial.experiment.selection.strategy == ADAPTIVE else -(-epochs // every)
    return round(_CHOICE_BYTES * trial.fraction * pool * times)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
