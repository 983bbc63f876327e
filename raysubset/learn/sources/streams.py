"""Embeddings that are read a tile at a time, whatever their file's format: never all at once.

Letters: N rows, B rows of a tile, H embedding width.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.rows import tensor_of
from raysubset.learn.sources.arrays import Arrays, matrix_of, matrix_of_columns
from raysubset.learn.sources.files import tables_in
from raysubset.learn.sources.tables import open_parquet, reading, schema_of

TILE_BYTES = 64 << 20
_SAFE: dict[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
}
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, DataError)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """A matrix in a file.

    Attributes:
        name: of the array or column; "" where columns are the matrix.
        shape: (N, H).
        dtype: as a person reads it.
        read: gives the rows in their order, some at a time, of any number type.
    """

    name: str
    shape: tuple[int, int]
    dtype: str
    read: Callable[[int], Iterator[NDArray[Any]]]

    def __len__(self) -> int:
        """The number of rows, N."""
        return self.shape[0]

    @property
    def num_bytes(self) -> int:
        """What it takes in float32."""
        return 4 * self.shape[0] * self.shape[1]

    def tiles(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield (rows, their float32 values), in order.

        Raises:
            DataError: fewer or more rows than the file's header says, or of another width.
        """
        rows, at = max(1, TILE_BYTES // (4 * self.shape[1])), 0
        for tile in self.read(rows):
            if tile.shape[1:] != self.shape[1:]:
                raise DataError(f"row {at:,} has {tile.shape[1:]} numbers, not {self.shape[1]:,}.")
            with np.errstate(over="ignore"):  # float64 beyond float32 is told as infinity
                yield slice(at, at + len(tile)), np.ascontiguousarray(tile, dtype=np.float32)
            at += len(tile)
        if at != self.shape[0]:
            raise DataError(f"{at:,} rows are there, where the header says {self.shape[0]:,}.")

    def finite(self) -> NDArray[np.bool_]:
        """Return which rows are finite. Shape: (N,)."""
        finite_N = np.empty(len(self), dtype=np.bool_)
        for rows, tile in self.tiles():
            finite_N[rows] = np.isfinite(tile).all(axis=1)
        return finite_N


def stream_of(text: str, names: Sequence[str], beside: Sequence[str]) -> Stream | None:
    """Return the embeddings of a file, nothing of them read.

    Args:
        text: .npy, .npz, .safetensors, Parquet or a folder of Parquet files.
        names: what the embeddings may be called.
        beside: a table's columns that are no embeddings.

    Returns:
        None for another format and for what cannot be read: reading it whole says what is wrong.
    """
    path = Path(text).expanduser()
    ways = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet}
    way = _parquet if path.is_dir() else ways.get(path.suffix.lower())
    if way is None:
        return None
    try:
        found = way(path, names, beside)
    except _BROKEN:
        return None
    return found if found is not None and math.prod(found.shape) else None


def _npy(path: Path, names: Sequence[str], _: Sequence[str]) -> Stream | None:
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return _mapped(names[0], array)


def _npz(path: Path, names: Sequence[str], _: Sequence[str]) -> Stream | None:
    with zipfile.ZipFile(path) as archive:
        member = next((n for n in names if f"{n}.npy" in archive.namelist()), None)
        if member is None:
            return None
        info = archive.getinfo(f"{member}.npy")
        with archive.open(info) as file:
            shape, fortran, dtype = _header(file)
    if fortran or len(shape) != 2 or dtype.kind not in "fiu":
        return None
    if info.compress_type == zipfile.ZIP_STORED:
        with open(path, "rb") as file:
            file.seek(info.header_offset + 26)  # the lengths of a local header's name and extra
            lengths = np.frombuffer(file.read(4), "<u2")
            file.seek(info.header_offset + 30 + int(lengths.sum()))
            _header(file)
            offset = file.tell()
        return _mapped(member, np.memmap(path, dtype, "r", offset, shape))

    def read(rows: int) -> Iterator[NDArray[Any]]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            _header(file)
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                data = file.read(count * shape[1] * dtype.itemsize)
                yield np.frombuffer(data, dtype).reshape(-1, shape[1])

    return Stream(name=member, shape=shape, dtype=str(dtype), read=read)


def _header(file: IO[bytes]) -> tuple[Any, bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(file)


def _safetensors(path: Path, names: Sequence[str], _: Sequence[str]) -> Stream | None:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, 100 << 20)))
    name = next((n for n in names if n in header), None)
    if name is None or header[name]["dtype"] not in _SAFE:
        return None
    found = header[name]
    shape, start = tuple(found["shape"]), 8 + size + found["data_offsets"][0]
    array = np.memmap(path, _SAFE[found["dtype"]], "r", start, shape)
    return _mapped(name, array, brain=found["dtype"] == "BF16")


def _mapped(name: str, array: NDArray[Any], *, brain: bool = False) -> Stream | None:
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        return None

    def read(rows: int) -> Iterator[NDArray[Any]]:
        for start in range(0, len(array), rows):
            tile = np.asarray(array[start : start + rows])
            yield tensor_of(tile).view(torch.bfloat16).float().numpy() if brain else tile

    dtype = "float32" if brain else str(array.dtype)  # as reading it whole tells it
    return Stream(name=name, shape=(len(array), array.shape[1]), dtype=dtype, read=read)


def _parquet(path: Path, names: Sequence[str], beside: Sequence[str]) -> Stream | None:
    files = tables_in(path, (".parquet",))
    schema = schema_of(files[0])
    name = next((n for n in names if n in schema.names), "")
    columns = [name] if name else [n for n in schema.names if n not in beside]

    def read(rows: int) -> Iterator[NDArray[Any]]:
        for file in files:
            with open_parquet(file) as opened, reading(file):
                for batch in opened.iter_batches(rows, columns=columns):
                    yield _matrix(pa.Table.from_batches([batch]), name, f"{file}")

    count = 0
    for file in files:
        with open_parquet(file) as opened:
            count += opened.metadata.num_rows
    first = next(read(1))
    return Stream(name=name, shape=(count, first.shape[1]), dtype=str(first.dtype), read=read)


def _matrix(table: pa.Table, name: str, where: str) -> NDArray[Any]:
    values = {n: table.column(n).combine_chunks() for n in table.schema.names}
    if name:
        return matrix_of(values[name], f"{name!r} of {where}")
    return matrix_of_columns(Arrays(where=where, values=values, table=True), ())
