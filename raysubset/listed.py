"""Rows as a run folder lists them: which id is where, what was left out, what columns became.

RUN/parts.parquet (part, id, label, key, dropped) · RUN/skipped.csv (only where rows are bad)
RUN/transform.json (only for tables)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from raysubset.core.filters import Verdict
from raysubset.files import write_json, write_text
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts
from raysubset.learn.skipped import SKIPPED, csv_of
from raysubset.learn.transform import TRANSFORM, Transform
from raysubset.storage import disk, staging


def table_of_parts(parts: Parts, verdict: Verdict) -> pa.Table:
    """Return (part, id, label, key, dropped): which id is where, and why some cannot be chosen."""
    tables: list[pa.Table] = []
    for name in ("pool", "validation", "tuning", "test"):
        part: Dataset | None = getattr(parts, name)
        if part is None:
            continue
        reasons = verdict.reasons if name == "pool" else {}
        columns = {
            "part": pa.array([name] * part.num_examples, pa.string()),
            "id": pa.array(part.id_N),
            "label": pa.array(part.label_N),
            "key": pa.array(part.keys or [None] * part.num_examples, pa.string()),
            "dropped": pa.array([reasons.get(i) for i in part.id_N.tolist()], pa.string()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def write_skipped(folder: Path, parts: Parts) -> None:
    """Write the list of bad rows that are left out; no file where there is none."""
    if parts.skipped:
        write_text(folder / SKIPPED, csv_of(parts.skipped))


def list_once(run: Path, parts: Parts) -> None:
    """Write a run's list of bad rows, where it has none yet.

    The first round's manifest names it, and the words in it are those of whatever version of a
    library found a row bad.

    Raises:
        RunFolderError: it cannot be written.
    """
    _once(run, SKIPPED, lambda: write_skipped(run, parts))


def transform_once(run: Path, transform: Transform | None) -> None:
    """Write what a run's model takes for the columns of its table, where it is not there yet.

    Raises:
        RunFolderError: it cannot be written.
    """
    if transform is not None:
        _once(run, TRANSFORM, lambda: write_json(run / TRANSFORM, transform.to_json()))


def _once(run: Path, name: str, write: Callable[[], None]) -> None:
    try:
        if not (run / name).is_file():
            write()
            staging.keep(run / name)
    except OSError as error:
        raise disk.unwritable(run, error) from None
