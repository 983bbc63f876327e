"""Gradient factors on a disk: written range by range, opened as a view of the files.

FOLDER/ids, labels, residuals, embeddings: plain numbers, row after row, little-endian.
FOLDER/factors.json: what they are (written last: a folder that has it is whole). No pickle.
Shape letters: N rows, B rows of a range, C classes, H embedding width.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from raysubset.core.factors import TILE_ROWS, GradientFactors
from raysubset.errors import DataError
from raysubset.files import write_json
from raysubset.learn.rows import tensor_of

HEADER = "factors.json"
Number = Literal["float32", "float16", "bfloat16", "int64"]
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An array in a file, from some byte on.

    Attributes:
        path: of the file; in a header, relative to its folder where it lies there.
        dtype: of its numbers; numpy has no bfloat16, so that lies there as uint16.
        shape: rows first.
        offset: bytes before the first number.
    """

    path: str
    dtype: Number
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return _plain(self.dtype).itemsize * int(np.prod(self.shape[1:]))

    def array(self, rows: slice = slice(None)) -> np.ndarray:
        """Return some rows as a read-only view of the file; bfloat16 as uint16.

        Raises:
            DataError: the file is shorter than it should be.
        """
        wanted = self.offset + self.row_bytes * self.shape[0]
        if os.path.getsize(self.path) < wanted:
            raise DataError(
                f"{self.path} has {os.path.getsize(self.path):,} bytes and should have {wanted:,}: "
                "it was cut short; write it again."
            )
        if 0 in self.shape:  # nothing to map
            return np.zeros(self.shape, dtype=_plain(self.dtype))[rows]
        every = np.memmap(self.path, _plain(self.dtype), "r", self.offset, self.shape)
        return np.asarray(every[rows])

    def tensor(self, rows: slice = slice(None)) -> Tensor:
        """Return some rows as a view of the file."""
        tensor = tensor_of(self.array(rows))
        return tensor.view(torch.bfloat16) if self.dtype == "bfloat16" else tensor


@dataclass(frozen=True, kw_only=True)
class MappedFactors:
    """Factors that lie in files.

    Attributes:
        ids, labels, residuals, embeddings: the arrays; ids ascend.
        tile_rows: see `GradientFactors`.
    """

    ids: Stored
    labels: Stored
    residuals: Stored
    embeddings: Stored
    tile_rows: int

    @property
    def num_examples(self) -> int:
        """N."""
        return self.ids.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all rows."""
        each = (self.ids, self.labels, self.residuals, self.embeddings)
        return self.num_examples * sum(stored.row_bytes for stored in each)

    def rows(self, start: int = 0, stop: int | None = None) -> GradientFactors:
        """Return some rows, or all, as views of the files."""
        rows = slice(start, stop)
        return GradientFactors(
            ids_N=self.ids.tensor(rows),
            label_N=self.labels.tensor(rows),
            residual_NC=self.residuals.tensor(rows),
            embedding_NH=self.embeddings.tensor(rows),
            tile_rows=self.tile_rows,
        )

    def cuts(self, shards: int) -> list[tuple[int, int]]:
        """Return the rows [start, stop) of each shard: whole runs of tiles, some may be empty.

        A row is then always in a tile of the same rows, however many shards there are: same bits.
        """
        tiles = -(-self.num_examples // self.tile_rows)
        edges = [
            min(self.num_examples, tiles * s // shards * self.tile_rows) for s in range(shards)
        ]
        return list(zip(edges, [*edges[1:], self.num_examples], strict=True))


class FactorWriter:
    """Writes factors into a folder, range by range, in any order of ranges.

    with FactorWriter(folder, rows=N, classes=C, width=H, residuals="bfloat16") as writer:
        writer.write(start, factors)
    mapped = open_factors(folder)
    """

    def __init__(
        self,
        folder: Path,
        *,
        rows: int,
        classes: int,
        width: int,
        residuals: Number = "float32",
        embeddings: Number | Stored = "float32",
        tile_rows: int | None = None,
    ) -> None:
        """Make the files at their full size.

        Args:
            folder: a new or empty one.
            rows: N.
            classes: C.
            width: H.
            residuals: how they are stored.
            embeddings: how they are stored; or where they lie already, and are not written.
            tile_rows: None for as many as keep a tile's float32 copy below half a gigabyte.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.rows = folder, rows
        lies = isinstance(embeddings, Stored)
        self.mapped = MappedFactors(
            ids=_in(folder, "ids", "int64", (rows,)),
            labels=_in(folder, "labels", "int64", (rows,)),
            residuals=_in(folder, "residuals", residuals, (rows, classes)),
            embeddings=embeddings
            if isinstance(embeddings, Stored)
            else _in(folder, "embeddings", embeddings, (rows, width)),
            tile_rows=tile_rows or tile_rows_of(classes, width),
        )
        self._written = 0
        self._files: dict[str, BinaryIO] = {}
        self._names = ("ids", "labels", "residuals", *(() if lies else ("embeddings",)))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Open the files."""
        for name in self._names:
            stored: Stored = getattr(self.mapped, name)
            file = self._open.enter_context(open(stored.path, "wb"))
            file.truncate(stored.row_bytes * self.rows)
            self._files[name] = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Close the files, and write the header where all rows are there."""
        self._open.close()
        if kind is not None:
            return
        assert self._written == self.rows, f"{self._written} of {self.rows} rows were written"
        arrays = {name: asdict(getattr(self.mapped, name)) for name in _ARRAYS}
        for stored in arrays.values():
            path = Path(stored["path"])
            stored["path"] = path.name if path.parent == self.folder else str(path.absolute())
        write_json(
            self.folder / HEADER,
            {"format": _FORMAT, "tile_rows": self.mapped.tile_rows, "arrays": arrays},
        )

    def write(self, start: int, factors: GradientFactors) -> None:
        """Write the rows from `start` on; embeddings that lie elsewhere are not looked at."""
        given = (factors.ids_N, factors.label_N, factors.residual_NC, factors.embedding_NH)
        for name, tensor in zip(_ARRAYS, given, strict=True):
            if name not in self._files:
                continue
            stored: Stored = getattr(self.mapped, name)
            if tensor.shape[1:] != stored.shape[1:]:
                raise DataError(f"{name} of shape {tuple(tensor.shape)} do not fit {stored.shape}.")
            self._files[name].seek(start * stored.row_bytes)
            self._files[name].write(numbers(tensor, stored.dtype).data)
        self._written += factors.num_examples


_ARRAYS = ("ids", "labels", "residuals", "embeddings")


def open_factors(folder: Path) -> MappedFactors:
    """Return the factors of a folder; nothing is read yet.

    Raises:
        DataError: no whole folder of factors, or one that is damaged.
    """
    try:
        header = json.loads((folder / HEADER).read_text())
        arrays = {
            name: Stored(
                path=str(folder / value["path"]),  # an absolute path stays what it is
                dtype=value["dtype"],
                shape=tuple(int(n) for n in value["shape"]),
                offset=int(value["offset"]),
            )
            for name, value in header["arrays"].items()
        }
        known = all(stored.dtype in get_args(Number) for stored in arrays.values())
        if header["format"] != _FORMAT or not known:
            raise ValueError("another format")
        return MappedFactors(**arrays, tile_rows=int(header["tile_rows"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder} holds no whole gradient factors ({type(error).__name__}: {error}); write "
            "them again."
        ) from None


def tile_rows_of(classes: int, width: int) -> int:
    """Return how many rows a tile has: TILE_ROWS, fewer where rows are wide.

    A power of two; the float32 copies and products of a tile stay below about half a gigabyte.
    """
    rows = TILE_ROWS
    while rows > 1024 and rows * 4 * (3 * classes + width) > 1 << 29:
        rows //= 2
    return rows


def numbers(tensor: Tensor, dtype: Number) -> np.ndarray:
    """Return a tensor as the array that is stored: contiguous, bfloat16 as uint16."""
    wanted: torch.dtype = getattr(torch, dtype)
    tensor = tensor.detach().cpu().to(wanted).contiguous()
    return (tensor.view(torch.uint16) if dtype == "bfloat16" else tensor).numpy()


def _in(folder: Path, name: str, dtype: Number, shape: tuple[int, ...]) -> Stored:
    return Stored(path=str(folder / name), dtype=dtype, shape=shape)


def _plain(dtype: Number) -> np.dtype:
    return np.dtype("<u2" if dtype == "bfloat16" else dtype).newbyteorder("<")
