"""Records: the tables and lines of a run folder, written whole and read with their checksums."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysubset.core.observations import Observations
from raysubset.errors import RunFolderError
from raysubset.files import finite, write_atomically
from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection


def write_selection(path: Path, selection: Selection, phase: Phase) -> None:
    """Write the chosen ids as Parquet with page checksums; one row per id and epoch's slice."""
    size, slices = len(selection), selection.epochs
    weights = np.ones(len(selection.ids)) if selection.weights is None else selection.weights
    table = pa.table(
        {
            "round": np.full(len(selection.ids), phase.round, dtype=np.int32),
            "epoch": np.repeat(np.arange(slices, dtype=np.int32) + phase.epochs.start, size),
            "rank": np.tile(np.arange(size, dtype=np.int64), slices),
            "id": selection.ids,
            "label": selection.labels,
            "gain": selection.gains,
            "weight": weights.astype(np.float32),
        }
    )
    write_table(path, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically, with page checksums."""
    write_atomically(path, lambda p: pq.write_table(table, p, write_page_checksum=True))


def read_table(path: Path) -> pa.Table:
    """Return a Parquet file of a run folder; a `RunFolderError` names a damaged one."""
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise RunFolderError(f"{path} cannot be read: {reason}") from None


def write_observations(path: Path, observations: Observations) -> None:
    """Write what training saw as safetensors."""
    from safetensors.torch import save_file

    write_atomically(path, lambda p: save_file(vars(observations), p))


def read_observations(path: Path) -> Observations:
    """Return what training saw; the caller checked the file's hash."""
    from safetensors.torch import load_file

    return Observations(**load_file(path))


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's history; a last line cut short by a crash is left out."""
    lines: list[dict[str, Any]] = []
    history = path / "history.jsonl"
    told = history.read_text(encoding="utf-8", errors="replace") if history.is_file() else ""
    for text in told.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("round"), int):
            lines.append(line)
    return lines


def history_lines(number: int, metrics: Mapping[str, Any], epochs: list[dict[str, Any]]) -> str:
    """Return a round's lines of history.jsonl: one per epoch, then the round's own."""
    lines = [{"kind": "epoch", "round": number, **record} for record in epochs]
    lines.append({"kind": "round", "round": number, **metrics})
    return "".join(json.dumps(finite(line)) + "\n" for line in lines)
