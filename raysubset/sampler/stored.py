"""Ids from where they were written: a run, the folder of a selection, or a Parquet file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pyarrow as pa

from raysubset.answers import committed_rounds, require_run
from raysubset.chain import MANIFEST
from raysubset.errors import ConfigError, RaySubsetError, RunFolderError
from raysubset.experiment import Experiment
from raysubset.files import read_object
from raysubset.learn.checkpoint import file_hash
from raysubset.preparation import ON_VALIDATION
from raysubset.records import read_table
from raysubset.sampler.chosen import Chosen
from raysubset.schedule import PROXY
from raysubset.storage.addresses import is_uri, refuse_bad_uri
from raysubset.storage.staging import fetch_files, shown, staged

TABLE, RECORD, EXPERIMENT = "selection.parquet", "selection.json", "experiment.yaml"


def read_stored(place: str | PathLike[str], round_: int | None, *, with_keys: bool) -> Chosen:
    """Return what a run's round, a selection or a Parquet file chose.

    Args:
        place: a folder or a .parquet file; a path or a URI.
        round_: of a run; None for the last that is finished.
        with_keys: read the person's own names of the rows too.

    Raises:
        RunFolderError: nothing of the kind there, or damaged. ConfigError: no such round.
    """
    place = place if isinstance(place, str) else Path(place)
    outer, name = _parent_of(place)
    if name.endswith(".parquet"):
        with _at_hand(outer, [name]) as folder:
            return _of_file(folder / name, round_, with_keys=with_keys)
    with _at_hand(place, [RECORD, TABLE]) as folder:
        if (folder / RECORD).is_file():
            _refuse_changed(folder, RECORD, TABLE)
            return _of_file(folder / TABLE, round_, with_keys=with_keys)
    with _at_hand(place, None) as folder:
        return _of_run(folder, round_, with_keys=with_keys)


@contextmanager
def _at_hand(place: str | Path, names: list[str] | None) -> Generator[Path]:
    """Give a folder of this machine: with some of its files, or with all records of a run."""
    with staged(place, write=False, whole=names is None) as folder:
        fetch_files([folder / name for name in names or []])
        try:
            yield folder
        except RaySubsetError as error:  # what reads it knows the path only
            error.message = error.message.replace(str(folder), shown(folder))
            raise


def _parent_of(place: str | Path) -> tuple[str | Path, str]:
    if not is_uri(place):
        return Path(place).parent, Path(place).name
    refuse_bad_uri(str(place))
    parts = urlsplit(str(place))
    outer, _, name = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=outer)), name


def _of_file(path: Path, round_: int | None, *, with_keys: bool) -> Chosen:
    if round_ is not None:
        raise ConfigError(f"{shown(path)} has no rounds; leave round={round_} out.")
    if not path.is_file():
        raise RunFolderError(f"{shown(path)}: there is no such file.")
    table = read_table(path)
    keys = table["key"] if with_keys and "key" in table.column_names else None
    return _of_table(table, shown(path), keys=_named(table["id"], keys) if keys else None)


def _of_run(folder: Path, round_: int | None, *, with_keys: bool) -> Chosen:
    if folder.is_file():
        raise RunFolderError(
            f"{shown(folder)} is a file; give a run folder, a selection.parquet, or the ids "
            "themselves (of a text file: numpy.loadtxt(file, dtype=int))."
        )
    if not folder.is_dir():
        raise RunFolderError(f"{shown(folder)}: there is no such folder.")
    require_run(folder)
    strategy = _options(folder).get("strategy")
    if strategy in ON_VALIDATION:
        raise ConfigError(
            f"{shown(folder)} is of {strategy}, a control that trains on validation rows; its "
            "ids are no subset of the train rows. Give the run of another strategy."
        )
    number = _round_of(folder, round_)
    inner = folder / "rounds" / f"{number:04d}"
    _refuse_changed(inner, MANIFEST, TABLE)
    table, keys = read_table(inner / TABLE), None
    if with_keys:
        parts = read_table(folder / "parts.parquet")
        pool = parts.filter(np.array(parts["part"].to_pylist()) == "pool")
        keys = _named(pool["id"], pool["key"])
    return _of_table(table, f"{shown(folder)}, round {number}", keys=keys)


def _options(folder: Path) -> dict[str, Any]:
    """Return the section `selection` of a run's options."""
    section = Experiment.read(folder / EXPERIMENT).get("selection")
    return section if isinstance(section, dict) else {}


def _round_of(folder: Path, round_: int | None) -> int:
    """Return which round is meant: one that is finished, and that chose something."""
    done = committed_rounds(folder)
    chose = [number for number in done if _strategy_of(folder, number) != PROXY]
    if round_ is None and chose:
        return chose[-1]
    if round_ in chose:
        return int(round_)
    if round_ in done or (round_ is None and done):
        told = "only trained the proxy, on all rows; nothing was chosen in it"
        raise ConfigError(
            f"round {done[-1] if round_ is None else round_} of {shown(folder)} {told}."
        )
    known = f"{chose[0]} to {chose[-1]}" if chose else "none yet"
    asked = "it" if round_ is None else f"round {round_}"
    raise ConfigError(f"{shown(folder)}: {asked} is not finished; finished rounds: {known}.")


def _strategy_of(folder: Path, number: int) -> Any:
    return (read_object(folder / "rounds" / f"{number:04d}" / "metrics.json") or {}).get("strategy")


def _refuse_changed(folder: Path, record: str, name: str) -> None:
    """Refuse a file that is not what the record beside it names by SHA-256."""
    files = (read_object(folder / record) or {}).get("files")
    digest = files.get(name) if isinstance(files, dict) else None
    path = folder / name
    if digest is None or not path.is_file() or file_hash(path) != digest:
        raise RunFolderError(
            f"{shown(path)} is missing or not what {record} recorded; put it back, or look at the "
            "whole folder: raysubset verify."
        )


def _of_table(table: pa.Table, origin: str, *, keys: dict[int, str] | None) -> Chosen:
    """Return a table's ids: one slice for each of its epochs, or one in all."""
    names = table.column_names
    if "id" not in names or not pa.types.is_integer(table["id"].type) or table["id"].null_count:
        raise RunFolderError(
            f"{origin} has no column of row numbers called id (columns: {', '.join(names)}); give "
            "a selection.parquet, a run folder, or the ids themselves."
        )
    epochs = table["epoch"].to_numpy() if "epoch" in names else np.zeros(table.num_rows, np.int32)
    slices, count_E = np.unique(epochs, return_counts=True)
    if len(set(count_E.tolist())) > 1:
        raise RunFolderError(f"{origin} has epochs of {min(count_E):,} to {max(count_E):,} ids.")
    order = np.argsort(epochs, kind="stable")
    shape = (max(1, len(slices)), -1)
    weights = table["weight"].to_numpy()[order] if "weight" in names else np.ones(1)
    plain = bool(np.all(weights == 1))
    return Chosen(
        ids_EK=table["id"].to_numpy()[order].astype(np.int64).reshape(shape),
        weights_EK=None if plain else weights.astype(np.float32).reshape(shape),
        origin=origin,
        key_of=keys,
    )


def _named(ids: pa.ChunkedArray, keys: pa.ChunkedArray) -> dict[int, str] | None:
    """Return id -> key; None where the data has no keys."""
    pairs = zip(ids.to_pylist(), keys.to_pylist(), strict=True)
    return {i: key for i, key in pairs if key is not None} or None
