"""Named arrays of a file: npz, npy, safetensors, Parquet or CSV, read without running its code.

Letters: N rows, H embedding width.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.sources.files import TABLE_SUFFIXES, existing_path, not_empty, tables_in
from raysubset.learn.sources.rows import shown
from raysubset.learn.sources.tables import read_tables, schema_of

ARRAY_SUFFIXES = (".npz", ".npy", ".safetensors")
_DAMAGED = (
    *(ValueError, OSError, EOFError, KeyError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, RuntimeError),  # encrypted, or an unknown compression
    MemoryError,  # a header that promises more than there is
)
"""What numpy raises at a file that is not whole."""
_HOW = "embeddings (N, H), labels (N,), optional ids or keys (N,)"


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """What a file holds, by name.

    Attributes:
        where: the file, as a person gave it.
        values: name -> numpy array, or a table's column as it stands there.
        table: whether they are the columns of a table.
    """

    where: str
    values: dict[str, Any]
    table: bool = False

    def find(self, *names: str) -> tuple[str, Any] | None:
        """Return (name, value) of the first of these names that is there, or None."""
        return next(((name, self.values[name]) for name in names if name in self.values), None)

    def named(self, what: str, *names: str) -> tuple[str, Any]:
        """Return (name, value) of the first of these names that is there.

        Raises:
            DataError: none is; lists what is there.
        """
        found = self.find(*names)
        if found is None:
            kind = "columns" if self.table else "arrays"
            raise DataError(
                f"{self.where} has no {what} (looked for {' or '.join(names)}); its {kind} are "
                f"{shown(list(self.values), 30) or 'none'}. Wanted: {_HOW}."
            )
        return found


def read_arrays(text: str, option: str, only: Sequence[str] | None = None) -> Arrays:
    """Return the named arrays at a path.

    Args:
        text: .npz, .npy (its array is `embeddings`), .safetensors, Parquet or CSV, or a folder of
            Parquet files, which are read in the order of their names.
        option: what an error calls it with.
        only: the names to read, where they are there; None for all.

    Raises:
        DataError: nothing there, damaged, of another format, or with objects inside.
    """
    path = existing_path(text, option)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in TABLE_SUFFIXES:
        files = not_empty(tables_in(path, TABLE_SUFFIXES))
        there = None if only is None else [n for n in schema_of(files[0]).names if n in only]
        table, _ = read_tables(files, there)
        columns = {n: table.column(n).combine_chunks() for n in table.schema.names}
        return Arrays(where=text, values=columns, table=True)
    if suffix not in ARRAY_SUFFIXES:
        known = ", ".join((*ARRAY_SUFFIXES, *TABLE_SUFFIXES))
        raise DataError(f"{option}={text} is none of {known}; convert it to one of them.")
    not_empty([path])
    read = _safetensors if suffix == ".safetensors" else _numpy
    return Arrays(where=text, values=read(path, only))


def _numpy(path: Path, only: Sequence[str] | None) -> dict[str, Any]:
    try:
        # Pickles could run code, so an array of objects is refused. npy is mapped, not copied.
        if not _is_zip(path):
            loaded = np.load(path, allow_pickle=False, mmap_mode="r")
            return {"embeddings": loaded} if only is None else {}
        # numpy leaves a damaged file open that it opened itself
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files if only is None or name in only}
    except _DAMAGED as error:
        remedy = (
            "write text as a fixed-width array (dtype 'U'), numbers as numbers"
            if "allow_pickle" in str(error)
            else "the file is damaged or of another format: write it again"
        )
        cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise DataError(f"{path} cannot be read as numpy ({cause}); {remedy}.") from None


def _is_zip(path: Path) -> bool:
    """Return whether a file begins as npz does, whatever it is called and however it ends."""
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def _safetensors(path: Path, only: Sequence[str] | None) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if only is None or name in only]
            tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path} cannot be read as safetensors ({reason}); the file is damaged or of another "
            "format: write it again."
        ) from None
    # numpy has no bfloat16 and no float8; float32 holds their every value.
    wide = {n: t.float() for n, t in tensors.items() if _narrow(t)}
    return {name: wide.get(name, tensor).numpy() for name, tensor in tensors.items()}


def _narrow(tensor: Any) -> bool:
    return f"{tensor.dtype}".startswith(("torch.bfloat16", "torch.float8"))


def matrix_of(value: Any, what: str) -> NDArray[Any]:
    """Return an array or a list column as a matrix of numbers. Shape: (N, H).

    Raises:
        DataError: another shape, rows of different widths, missing values, no numbers.
    """
    array = _stacked(value, what) if isinstance(value, pa.Array) else np.asarray(value)
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{what} has shape {array.shape}; it must be (rows, width), not empty.")
    if array.dtype.kind not in "fiu":
        raise DataError(f"{what} has type {array.dtype}; it must hold numbers.")
    return array


def matrix_of_columns(arrays: Arrays, leave_out: Sequence[str]) -> NDArray[Any]:
    """Return a table's numeric columns as a matrix, in their order. Shape: (N, H).

    Raises:
        DataError: a column that is no number, or no column at all.
    """
    columns = {n: v for n, v in arrays.values.items() if n not in leave_out}
    odd = [n for n, v in columns.items() if not _is_number(v.type)]
    if odd or not columns:
        raise DataError(
            f"{arrays.where} has no list column 'embedding', and "
            + (f"the columns {shown(odd)} are no numbers" if odd else "no other column")
            + "; give the embedding as one list column, or as numeric columns alone beside "
            "label and id."
        )
    return np.stack([_numbers(v, f"column {n!r} of {arrays.where}") for n, v in columns.items()], 1)


def vector_of(value: Any, what: str) -> NDArray[Any]:
    """Return an array or a column of numbers. Shape: (N,).

    Raises:
        DataError: another shape, missing values, no numbers.
    """
    array = _numbers(value, what) if isinstance(value, pa.Array) else np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise DataError(f"{what} has shape {array.shape} and type {array.dtype}; wanted: (N,).")
    return array


def column_of(value: Any, what: str) -> pa.Array:
    """Return labels, ids or keys as an Arrow array of one dimension.

    Raises:
        DataError: another shape, or something that is no column.
    """
    if isinstance(value, pa.Array):
        return value
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "biufU":
        raise DataError(
            f"{what} has shape {array.shape} and type {array.dtype}; it must be one whole number "
            "or text per row, (N,)."
        )
    return pa.array(array.astype(array.dtype.newbyteorder("=")))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _stacked(column: pa.Array, what: str) -> NDArray[Any]:
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not (lists or pa.types.is_fixed_size_list(kind)) or not _is_number(kind.value_type):
        raise DataError(f"{what} has type {kind}; it must be a list of numbers per row.")
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    values = column.flatten()
    if column.null_count or values.null_count or len(widths) > 1:
        raise DataError(
            f"{what} has rows of {len(widths)} different widths or missing values; every row needs "
            "as many numbers."
        )
    return values.to_numpy(zero_copy_only=False).reshape(len(column), -1)


def _numbers(column: pa.Array, what: str) -> NDArray[Any]:
    if column.null_count or not _is_number(column.type):
        raise DataError(f"{what} has type {column.type} and {column.null_count} missing values.")
    return column.to_numpy(zero_copy_only=False)
