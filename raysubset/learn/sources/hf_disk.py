"""Folders of Hugging Face's `save_to_disk`, read by pyarrow alone: no extra, no code of theirs.

FOLDER/dataset_dict.json names the splits, each a folder of its own; or FOLDER is the only one.
SPLIT/state.json names the Arrow streams data-*.arrow; dataset_info.json says what columns mean.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysubset.errors import DataError
from raysubset.files import read_object
from raysubset.learn.sources.files import not_empty
from raysubset.learn.sources.rows import FileRows, shown
from raysubset.learn.sources.tables import same_columns

SPLITS, STATE = "dataset_dict.json", "state.json"
_INFO = "dataset_info.json"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How an Arrow stream ends: without it, a file cut between two batches would pass for whole."""
_AGAIN = "save it again with save_to_disk"
_KEY = b"huggingface"


def is_saved(folder: Path) -> bool:
    """Return whether `save_to_disk` made this folder."""
    try:
        return any((folder / name).is_file() for name in (SPLITS, STATE))
    except (OSError, ValueError):  # a name that no file system takes
        return False


def features_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what Hugging Face's metadata says of the columns, by name; {} for nothing."""
    try:
        features = json.loads((schema.metadata or {})[_KEY])["info"]["features"]
    except (ValueError, KeyError, TypeError):  # other layouts exist
        return {}
    return features if isinstance(features, dict) else {}


def read_saved(folder: Path) -> dict[str, tuple[pa.Table, FileRows]]:
    """Return the splits of a saved folder: name -> its rows, mapped and not yet in memory.

    A single dataset is the split `train`.

    Raises:
        DataError: no such folder, or one with files that are missing or damaged; names the file.
    """
    if (folder / SPLITS).is_file():
        names = _json(folder / SPLITS).get("splits")
        if not isinstance(names, list) or not names or not all(map(_is_plain, names)):
            raise DataError(f"{folder / SPLITS} names no splits; {_AGAIN}")
        return {name: _read_split(folder / name) for name in names}
    return {"train": _read_split(folder)}


def _read_split(folder: Path) -> tuple[pa.Table, FileRows]:
    state = _json(folder / STATE)
    if state.get("_indices_data_files"):
        raise DataError(
            f"{folder} keeps its rows behind an index, as old versions of datasets wrote it; load "
            "it there, and save dataset.flatten_indices()"
        )
    entries = state.get("_data_files")
    listed = entries if isinstance(entries, list) else []
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    if not names or not all(map(_is_plain, names)):
        raise DataError(f"{folder / STATE} names no data files in its folder; {_AGAIN}")
    files = [folder / str(name) for name in names]
    if gone := [file.name for file in files if not file.is_file()]:
        raise DataError(f"{folder} lacks {shown(gone)}, which its {STATE} names; copy all of it")
    return _joined(not_empty(files), _json(folder / _INFO).get("features"))


def _joined(files: tuple[Path, ...], features: object) -> tuple[pa.Table, FileRows]:
    tables = [_read_stream(file) for file in files]
    for file, table in zip(files[1:], tables[1:], strict=True):
        same_columns(table.schema.names, tables[0].schema.names, f"{file}", f"{files[0]}")
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise DataError(f"{files[0].parent}: its files differ in a column: {error}") from error
    if not table.num_rows:
        raise DataError(f"{files[0].parent} holds no row")
    if not features_of(table.schema) and isinstance(features, dict):
        said = json.dumps({"info": {"features": features}}).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: said})
    return table, FileRows.count(files, [table.num_rows for table in tables])


def _read_stream(path: Path) -> pa.Table:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - len(_END)))
            whole = file.read() == _END
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
            table = reader.read_all()
        table.validate(full=True)
        if not whole:
            raise ValueError("it has no end")
    # ValueError: a damaged header can hold names that are no UTF-8
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(
            f"{path} cannot be read as an Arrow stream: {error}; the file is damaged or "
            f"incomplete: copy it again, or {_AGAIN}"
        ) from error
    return table


def _is_plain(name: object) -> bool:
    """Return whether a text is the name of something in a folder, and no way out of it."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _json(path: Path) -> dict[str, Any]:
    value = read_object(path)
    if value is None:
        raise DataError(f"{path} is missing or no JSON object; copy the whole folder, or {_AGAIN}")
    return value
