"""Answers out of a run folder: when and why an id was chosen, and the ids for other tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from raysubset.chain import MANIFEST, PARTS
from raysubset.errors import ConfigError, RunFolderError
from raysubset.files import read_object, refuse_links_out
from raysubset.keyed import IN_ORDER, rows_named
from raysubset.learn.skipped import no_formula
from raysubset.records import read_history, read_pool_keys, read_table, write_table
from raysubset.schedule import PROXY
from raysubset.storage.addresses import is_uri, without_credentials
from raysubset.storage.staging import shown

Format = Literal["txt", "csv", "json", "parquet"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One time that an id was chosen.

    Attributes:
        round: which round.
        strategy: what chose.
        epochs: which epochs trained on it, as "10-19".
        rank: its place in the order of choice, from 1.
        budget: how many were chosen.
        gain: the score by which it was taken; None where nothing was scored.
    """

    round: int
    strategy: str
    epochs: str
    rank: int
    budget: int
    gain: float | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a run knows of an id.

    Attributes:
        id: the id.
        part: "pool", "validation", "tuning" or "test".
        label: its class.
        key: the person's own name for it, or None.
        dropped: why the filters dropped it, or None.
        choices: when it was chosen.
        rounds: how many rounds the run has.
    """

    id: int
    part: str
    label: str
    key: str | None
    dropped: str | None
    choices: list[Choice]
    rounds: int


def explain(run: str | Path, id_: int | None = None, *, key: str | None = None) -> Explanation:
    """Return in which rounds an example was chosen, at which rank and gain.

    Args:
        run: the run folder.
        id_: the example's global row number.
        key: the person's own name of it (an image's path, a table's key), instead of the id.

    Raises:
        RunFolderError: no run there.
        ConfigError: neither or both given; an id or a key that the run does not know (the nearest
            are named), or a key of several rows.

    Example:
        >>> explain("runs/demo", key="cat/0001.png").choices
    """
    path = require_run(run)
    parts = whole(read_table(path / PARTS), path / PARTS, "part", "id", "label", "key", "dropped")
    rows = _asked(parts, id_, key)
    # Ids of a separate test file number its own rows; the pool's meaning comes first.
    rows.sort(key=lambda row: IN_ORDER.index(row["part"]))
    done = committed_rounds(path)
    row = rows[0]
    choices = [c for number in done for c in _choices(path, number, row["id"])]
    return Explanation(
        id=row["id"],
        part=row["part"],
        label=labels_of(path, [row["label"]])[0],
        key=row["key"],
        dropped=row["dropped"],
        choices=choices if row["part"] == "pool" else [],
        rounds=len(done),
    )


def _asked(parts: pa.Table, id_: int | None, key: str | None) -> list[dict[str, Any]]:
    """Return the rows that a person asked for by an id or a key."""
    if key is not None and id_ is None:
        return rows_named(parts, key)
    if id_ is None or key is not None:
        raise ConfigError("give --id NUMBER or --key KEY, one of the two.")
    rows = _rows_of(parts, id_)
    if not rows:
        last = int(parts["id"].to_numpy().max())
        raise ConfigError(f"id {id_} is not in this run; its ids lie between 0 and {last:,}.")
    return rows


def export(
    run: str | Path, format_: Format, *, round_: int | None = None, output: str | None = None
) -> Path:
    """Write the ids of a round (default: the last) in the order of choice; return the file."""
    path = require_run(run)
    table = _with_keys(path, chosen_in(path, round_))
    if output and is_uri(output):
        raise ConfigError(f"--output={without_credentials(output)}: give a local path.")
    number = table["round"][0].as_py()
    target = Path(output) if output else path / f"ids-round-{number:04d}.{format_}"
    if not output:
        refuse_links_out(path, "run folder", shown(path))
    return write_ids(target, table, format_)


def chosen_in(run: Path, round_: int | None) -> pa.Table:
    """Return the ids of a round (None: the last finished one), in the order of choice.

    Raises:
        ConfigError: it is not finished, or not there.
    """
    done = committed_rounds(run)
    number = done[-1] if round_ is None and done else round_
    if number not in done:
        known = f"0 to {done[-1]}" if done else "none yet"
        raise ConfigError(f"round {number} is not in {shown(run)}; finished rounds: {known}.")
    path = run / "rounds" / f"{number:04d}" / "selection.parquet"
    return whole(read_table(path), path, "round", "id")


def whole(table: pa.Table, path: Path, *names: str) -> pa.Table:
    """Return a table that has these columns.

    Raises:
        RunFolderError: it lacks one, or has no row.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing or not table.num_rows:
        lacks = f"has no column {missing[0]!r}" if missing else "has no row"
        raise RunFolderError(f"{shown(path)} is damaged: it {lacks}; see raysubset verify.")
    return table


def labels_of(run: Path, label_N: Sequence[int]) -> list[str]:
    """Return the class names of class numbers.

    Raises:
        RunFolderError: nothing says what the classes are called.
    """
    path = run / "fingerprint.json"
    classes = (read_object(path) or {}).get("classes")
    if not isinstance(classes, list) or not all(0 <= label < len(classes) for label in label_N):
        raise RunFolderError(
            f"{shown(path)} is missing or damaged, so nothing says what the classes are called; "
            "see raysubset verify."
        )
    return [str(classes[label]) for label in label_N]


def write_ids(target: Path, table: pa.Table, format_: Format) -> Path:
    """Write chosen ids in the order of choice, for another tool; return the file."""
    try:
        _WRITERS[format_](target, table)
    except OSError as error:
        raise RunFolderError(f"{shown(target)} cannot be written ({error.strerror}).") from None
    return target


def _with_keys(path: Path, table: pa.Table) -> pa.Table:
    """Add the person's own names of the rows, where a choice of an older run lacks them."""
    keys = None if "key" in table.column_names else read_pool_keys(path / PARTS)
    return table if keys is None else table.append_column("key", keys.named(table["id"].to_numpy()))


def require_run(run: str | Path) -> Path:
    """Return the folder of a run, or say that there is none."""
    path = Path(run)
    if not (path / "experiment.yaml").is_file():
        inner = sorted(p.parent.name for p in path.glob("*/experiment.yaml"))
        hint = (
            f"; it holds runs: {', '.join(inner)} (give {shown(path / inner[0])})" if inner else ""
        )
        raise RunFolderError(f"{shown(path)} holds no run (no experiment.yaml){hint}.")
    return path


def committed_rounds(run: Path) -> list[int]:
    """Return the numbers of the rounds whose manifest is there."""
    return sorted(int(p.parent.name) for p in run.glob(f"rounds/[0-9]*/{MANIFEST}"))


def _choices(path: Path, number: int, id_: int) -> list[Choice]:
    table = read_table(path / "rounds" / f"{number:04d}" / "selection.parquet")
    slices = len(np.unique(table["epoch"].to_numpy()))
    budget = table.num_rows // slices
    line = next(
        entry
        for entry in read_history(path)
        if entry["kind"] == "round" and entry["round"] == number
    )
    if line["strategy"] == PROXY:
        return []  # it saw the whole pool to be able to choose
    return [
        Choice(
            round=number,
            strategy=line["strategy"],
            epochs=_epochs(row["epoch"], row["epoch"] if slices > 1 else line["epochs"] - 1),
            rank=row["rank"] + 1,
            budget=budget,
            gain=row["gain"] if row["gain"] == row["gain"] else None,
        )
        for row in _rows_of(table, id_)
    ]


def _rows_of(table: pa.Table, id_: int) -> list[dict[str, Any]]:
    return table.take(np.flatnonzero(table["id"].to_numpy() == id_)).to_pylist()


def _epochs(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}-{last}"


def _write_text(target: Path, table: pa.Table) -> None:
    target.write_text("".join(f"{i}\n" for i in table["id"].to_pylist()), encoding="utf-8")


def _write_csv(target: Path, table: pa.Table) -> None:
    """Write the table; a key that a spreadsheet would run as a formula gets a quote before it."""
    if "key" in table.column_names:
        keys = [key if key is None else no_formula(key) for key in table["key"].to_pylist()]
        place = table.column_names.index("key")
        table = table.set_column(place, "key", pa.array(keys, pa.string()))
    with open(target, "wb") as file:
        pa_csv.write_csv(table, file)


def _write_json(target: Path, table: pa.Table) -> None:
    ids: dict[str, Any] = {"ids": table["id"].to_pylist()}
    if "key" in table.column_names and table["key"].null_count < table.num_rows:
        ids["keys"] = table["key"].to_pylist()
    if "round" in table.column_names:  # a one-shot selection belongs to none
        ids = {"round": table["round"][0].as_py(), **ids}
    target.write_text(json.dumps(ids) + "\n", encoding="utf-8")


_WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "txt": _write_text,
    "csv": _write_csv,
    "json": _write_json,
    "parquet": write_table,
}
