"""What a selection leaves behind: the ids with their gains, and what was asked of which inputs.

DIR/selection.parquet (rank, id, label, gain, weight, key) · ids.txt|csv|json
DIR/skipped.csv (bad rows that were left out, where there are any)
DIR/selection.json (written last: a folder that has it is whole)
"""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raysubset.answers import write_ids
from raysubset.errors import RunFolderError
from raysubset.files import nearest_folder, sealed, write_json
from raysubset.learn.checkpoint import file_hash
from raysubset.learn.data import Dataset
from raysubset.learn.skipped import SKIPPED
from raysubset.listed import write_skipped
from raysubset.preparation import environment
from raysubset.records import write_table
from raysubset.selecting.ready import Ready
from raysubset.storage import staging
from raysubset.storage.staging import shown
from raysubset.strategies.selection import Selection

TABLE, RECORD = "selection.parquet", "selection.json"
IdsFormat = Literal["txt", "csv", "json"]
_SECONDS = ("scoring", "greedy", "handover")


@dataclass(frozen=True, kw_only=True)
class ClassCount:
    """What was chosen of a class.

    Attributes:
        name: of the class.
        pool: its rows that could be chosen.
        chosen: how many were.
        least: the smallest gain among them; None where nothing was scored.
        most: the largest.
    """

    name: str
    pool: int
    chosen: int
    least: float | None
    most: float | None


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What came out.

    Attributes:
        run_dir: the folder.
        ids: the file of ids.
        selection: the table of ids with gains and weights.
        strategy: what chose.
        fraction: as asked for.
        seed: as asked for.
        budget: K.
        num_pool: N after filters.
        num_validation: V.
        classes: what was chosen of each class.
        share_of_optimum: at least this share of the best possible; None where nothing was scored.
        examples_scored: pool and validation rows that went through the model.
        seconds: by stage.
    """

    run_dir: str
    ids: str
    selection: str
    strategy: str
    fraction: float
    seed: int
    budget: int
    num_pool: int
    num_validation: int
    classes: tuple[ClassCount, ...]
    share_of_optimum: float | None
    examples_scored: int
    seconds: dict[str, float]

    def told(self) -> dict[str, Any]:
        """Return it as plain values with the chosen of each class, for a job's RESULT line."""
        values = asdict(self)
        del values["classes"]
        return {**values, "counts": {c.name: c.chosen for c in self.classes}}


def check_output(path: Path) -> None:
    """Refuse a folder that is used or that cannot be written, before anything starts.

    Raises:
        RunFolderError: what stands in the way.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise _used(path)
        with tempfile.TemporaryFile(dir=nearest_folder(path)):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None


@contextmanager
def written_alone(path: Path | None) -> Generator[None]:
    """Be the one writer of a folder behind a URI, from before the work until all is written.

    Raises:
        RunFolderError: another process is; it is named.
    """
    if path is None:
        yield
        return
    staging.take(path)
    try:
        yield
    finally:
        staging.disown(path)


def write_selected(
    path: Path,
    ready: Ready,
    selection: Selection,
    *,
    ids_format: IdsFormat,
    seconds: Mapping[str, float],
    how: Mapping[str, Any],
) -> Selected:
    """Write the folder of a selection and return what came out.

    Args:
        path: a folder that `check_output` let pass.
        ready: what was asked.
        selection: what was chosen.
        ids_format: of the file of ids for other tools.
        seconds: by stage, beside those among the selection's facts.
        how: who scored, for the record.

    Raises:
        RunFolderError: it cannot be written; nothing half-made is left.
    """
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path), ExitStack() as undo:
            undo.callback(_forget, path, made)
            table = table_of(selection, ready.problem.parts.pool)
            write_table(path / TABLE, table)
            ids = write_ids(path / f"ids.{ids_format}", table, ids_format)
            write_skipped(path, ready.problem.parts)
            selected = _selected(path, ids, ready, selection, seconds)
            write_json(path / RECORD, sealed(_record(path, ready, selection, selected, how)))
            for file in (path / TABLE, ids, path / SKIPPED, path / RECORD):
                staging.keep(file)
            undo.pop_all()
    except OSError as error:
        raise _unwritable(path, error) from None
    return selected


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold an empty folder while it is written: another selection may have come in between."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the folder: it leaves no file
        if any(path.iterdir()):
            raise _used(path)
        yield
    except BlockingIOError:
        raise _used(path) from None
    finally:
        os.close(descriptor)


def _forget(path: Path, made: bool) -> None:
    """Delete what a selection wrote, while its folder is locked: it was empty before."""
    for file in path.iterdir():
        with suppress(OSError):  # what went wrong before is told
            file.unlink()
    if made:
        with suppress(OSError):
            path.rmdir()


def table_of(selection: Selection, pool: Dataset) -> pa.Table:
    """Return (rank, id, label, gain, weight, key) in the order of choice."""
    weights = np.ones(len(selection)) if selection.weights is None else selection.weights
    keys: list[str | None] = [None] * len(selection)
    if pool.keys is not None:
        keys = [pool.keys[i] for i in pool.position_of(selection.ids)]
    return pa.table(
        {
            "rank": np.arange(len(selection), dtype=np.int64),
            "id": selection.ids,
            "label": selection.labels,
            "gain": selection.gains,
            "weight": weights.astype(np.float32),
            "key": pa.array(keys, pa.string()),
        }
    )


def _selected(
    path: Path, ids: Path, ready: Ready, selection: Selection, seconds: Mapping[str, float]
) -> Selected:
    own = {stage: float(selection.facts[f"seconds_{stage}"]) for stage in _SECONDS}
    return Selected(
        run_dir=shown(path),
        ids=shown(ids),
        selection=shown(path / TABLE),
        strategy=ready.phase.strategy,
        fraction=ready.experiment.selection.fraction,
        seed=ready.experiment.seed,
        budget=len(selection),
        num_pool=len(ready.chooser.id_N),
        num_validation=ready.problem.parts.validation.num_examples,
        classes=_classes(ready, selection),
        share_of_optimum=selection.facts.get("share_of_optimum"),
        examples_scored=int(selection.facts["examples_scored"]),
        seconds={**seconds, **own},
    )


def _classes(ready: Ready, selection: Selection) -> tuple[ClassCount, ...]:
    names = ready.problem.parts.pool.class_names
    pool_C = np.bincount(ready.chooser.label_N, minlength=len(names))
    counts: list[ClassCount] = []
    for c, name in enumerate(names):
        gain_K = selection.gains[selection.labels == c]
        scored = len(gain_K) > 0 and bool(np.isfinite(gain_K).all())
        counts.append(
            ClassCount(
                name=name,
                pool=int(pool_C[c]),
                chosen=len(gain_K),
                least=float(gain_K.min()) if scored else None,
                most=float(gain_K.max()) if scored else None,
            )
        )
    return tuple(counts)


def _record(
    path: Path, ready: Ready, selection: Selection, selected: Selected, how: Mapping[str, Any]
) -> dict[str, Any]:
    names = [TABLE, selected.ids.rpartition("/")[2]]
    names += [SKIPPED] if ready.problem.parts.skipped else []
    facts = {k: v for k, v in selection.facts.items() if not k.startswith("seconds_")}
    result = asdict(selected)
    for name in ("run_dir", "ids", "selection"):
        del result[name]  # a folder may be moved; its files are named below
    return {
        "kind": "selection",
        "experiment": ready.asked,
        "identity": ready.identity,
        "inputs": list(ready.inputs),
        "round": ready.phase.round,
        "quotas": {
            "balance": ready.experiment.selection.balance,
            "chosen": {c.name: c.chosen for c in selected.classes},
        },
        "result": result,
        "facts": facts,
        "certificate": certificate(selected.share_of_optimum),
        "how": dict(how),
        "environment": environment(),
        "notes": list(ready.notes),
        "files": {name: file_hash(path / name) for name in names},
    }


def certificate(share: float | None) -> str | None:
    """Return what is proven of a choice, rounded down so that it stays true."""
    if share is None or not math.isfinite(share):
        return None
    if share <= 0:
        return "no bound: the imagined step made the modelled loss worse"
    return f"at least {math.floor(100 * share + 1e-9)} % of the best possible"


def _used(path: Path) -> RunFolderError:
    return RunFolderError(
        f"{shown(path)} is used; a selection is written into a new folder: choose another "
        "--run-dir."
    )


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"{shown(path)} cannot be written ({error.strerror}); choose another with --run-dir."
    )
