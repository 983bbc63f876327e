"""Disk space that a frontier needs, counted before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from raysubset.errors import RunFolderError
from raysubset.files import nearest_folder
from raysubset.frontier.plan import ADAPTIVE, Trial
from raysubset.preparation import Prepared

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


def check_disk(folder: Path, needed: int) -> None:
    """Refuse a frontier that would fill its disk.

    Raises:
        RunFolderError: both numbers, and the remedy.
    """
    free = shutil.disk_usage(nearest_folder(folder)).free
    if free < needed:
        raise RunFolderError(
            f"this frontier needs about {_size(needed)} in {folder}, and {_size(free)} are free "
            "there; make room, choose another --run-dir, or run fewer --fractions or --seeds."
        )


def _chosen_bytes(trial: Trial, pool: int) -> int:
    """Return the bytes of a trial's choices: one a round, or one an epoch where it draws anew."""
    epochs, every = trial.experiment.training.epochs, trial.experiment.selection.select_every
    times = epochs if trial.experiment.selection.strategy == ADAPTIVE else -(-epochs // every)
    return round(_CHOICE_BYTES * trial.fraction * pool * times)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
