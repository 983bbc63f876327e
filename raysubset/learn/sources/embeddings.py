"""Embeddings and their labels from files, as rows that can be chosen from.

Letters: N rows, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.data import Dataset
from raysubset.learn.skipped import Skipped, refuse_mostly_bad
from raysubset.learn.sources.arrays import (
    Arrays,
    column_of,
    matrix_of,
    matrix_of_columns,
    read_arrays,
)
from raysubset.learn.sources.labels import (
    UNLABELLED,
    Classes,
    LabelColumn,
    encode,
    plain,
    refuse_missing,
)
from raysubset.learn.sources.rows import OnBadRow, shown
from raysubset.learn.sources.streams import Stream, stream_of

LABELS, IDS, KEYS = ("labels", "label"), ("ids", "id"), ("keys", "key")
EMBEDDINGS = ("embeddings", "embedding")
_ROWS_AT_A_TIME = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class RawEmbeddings:
    """What the files hold, in the order of their rows.

    Attributes:
        name: of the data, for a person.
        where: the file, with its option.
        matrix: numbers of any kind; or a stream of them, of which rows are told and not held.
            Shape: (N, H).
        label: int64 or text, missing ones as null.
        id_N: the person's own numbers, or None to number the rows from 0.
        keys: the person's own names, or None.
    """

    name: str
    where: str
    matrix: NDArray[np.generic] | Stream
    label: LabelColumn
    id_N: NDArray[np.int64] | None
    keys: tuple[str, ...] | None

    def dataset(self, classes: Classes, on_bad: OnBadRow) -> Dataset:
        """Return the rows as float32 in the order of their ids, without bad ones where skipped.

        Of a stream the content is a stand-in of one column: `fill` puts the rows in its place.

        Raises:
            DataError: rows with NaN, infinity or no label; names the first.
        """
        if on_bad == "refuse":
            refuse_missing(self.label)
        label_N = encode(self.label, classes)
        content, finite_N = self._content()
        id_N = np.arange(len(content)) if self.id_N is None else self.id_N
        bad = np.flatnonzero(~finite_N)
        if len(bad) and on_bad == "refuse":
            raise DataError(
                f"{self.where}: {len(bad):,} of {len(content):,} rows hold NaN or infinity, first "
                f"ids {shown([int(i) for i in id_N[bad]])}; repair them, or leave them out with "
                "--data.on_bad_row skip."
            )
        skipped = self._skipped(finite_N, label_N, id_N)
        refuse_mostly_bad(skipped, len(content), self.where)
        kept = np.flatnonzero(finite_N & (label_N != UNLABELLED))
        order = kept[np.argsort(id_N[kept], kind="stable")]
        if not np.array_equal(order, np.arange(len(content))):
            content = content[order]
        return Dataset(
            name=self.name,
            kind="tabular",
            content=content,
            label_N=label_N[order],
            class_names=classes.names,
            id_N=id_N[order],
            keys=None if self.keys is None else tuple(self.keys[i] for i in order),
            notes=self._notes(len(content) - len(kept), len(bad)),
            skipped=skipped,
        )

    def _skipped(
        self, finite_N: NDArray[np.bool_], label_N: NDArray[np.int64], id_N: NDArray[np.int64]
    ) -> tuple[Skipped, ...]:
        """Return the rows that are left out, in the order of their ids."""
        rows = np.flatnonzero(~finite_N | (label_N == UNLABELLED))
        return tuple(
            Skipped(
                row=int(id_N[row]),
                where=f"row {row}" + (f" ({self.keys[row]})" if self.keys else ""),
                cause="no label" if finite_N[row] else "missing or non-finite value",
                detail=self.label.where if finite_N[row] else self.where,
            )
            for row in rows[np.argsort(id_N[rows], kind="stable")].tolist()
        )

    def _content(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return (content, which rows are finite)."""
        if isinstance(self.matrix, Stream):
            one = np.zeros((1, 1), dtype=np.float32)
            return np.broadcast_to(one, (len(self.matrix), 1)), self.matrix.finite()
        with np.errstate(over="ignore"):  # float64 beyond float32 is told as infinity
            content = np.ascontiguousarray(self.matrix, dtype=np.float32)
        return content, _finite(content)

    def _notes(self, skipped: int, not_finite: int) -> tuple[str, ...]:
        notes = []
        if str(self.matrix.dtype) != "float32":
            notes.append(f"{self.where}: converted from {self.matrix.dtype} to float32")
        if skipped:
            notes.append(
                f"{self.where}: left out {skipped:,} of {len(self.matrix):,} rows ({not_finite:,} "
                "with NaN or infinity, the rest without a label)"
            )
        return tuple(notes)


def stream_embeddings(text: str, label_column: str | None) -> Stream | None:
    """Return the embeddings of a file unread, where its format can be read in tiles."""
    names = LABELS if label_column is None else (label_column,)
    return stream_of(text, EMBEDDINGS, (*names, *IDS, *KEYS))


def read_embeddings(
    text: str,
    labels: str | None,
    label_column: str | None,
    prefix: str,
    stream: Stream | None = None,
) -> RawEmbeddings:
    """Return embeddings with labels, and ids or keys where the file has them.

    Arrays (npz, safetensors): `embeddings` (N, H), `labels` (N,), optional `ids`, `keys`. Tables
    (Parquet, CSV): `embedding` as a list column, or all numeric columns; `label`, `id`, `key`.

    Args:
        text: the file, or a folder of Parquet files.
        labels: the file with the labels, where they stand apart.
        label_column: the name of the labels; None for `labels` or `label`.
        prefix: of the options, "validation-" for that part.
        stream: the embeddings, where they are not to be read at once.

    Raises:
        DataError: what is missing, damaged or of another shape; names it.
    """
    option, label_option = f"--{prefix}embeddings", f"--{prefix}labels"
    where = f"{option}={text}"
    names = LABELS if label_column is None else (label_column,)
    only = None if stream is None else (*names, *IDS, *KEYS)
    arrays = read_arrays(text, option, only)
    beside = arrays if labels is None else read_arrays(labels, label_option)
    if labels is not None and list(beside.values) == ["embeddings"]:  # a plain .npy of labels
        beside = replace(beside, values={"labels": beside.values["embeddings"]})
    name, value = beside.named(f"labels ({label_option} FILE gives them apart)", *names)
    matrix = stream or _matrix(arrays, where, names)
    column = plain(
        LabelColumn(
            values=column_of(value, f"{name!r} of {beside.where}"),
            where=f"{name!r} of {beside.where}",
            row_name=lambda row: f"row {row}",
            column=name,
        )
    )
    if len(column.values) != len(matrix):
        raise DataError(
            f"{where} has {len(matrix):,} rows and {column.where} {len(column.values):,} labels; "
            "give one label per row, in their order."
        )
    id_N, keys = _names_of_rows(arrays, len(matrix))
    stem = Path(text).stem or "embeddings"
    return RawEmbeddings(name=stem, where=where, matrix=matrix, label=column, id_N=id_N, keys=keys)


def _matrix(arrays: Arrays, where: str, labels: tuple[str, ...]) -> NDArray[np.generic]:
    found = arrays.find(*EMBEDDINGS)
    if found is None and arrays.table:
        return matrix_of_columns(arrays, (*labels, *IDS, *KEYS))
    name, value = found or arrays.named("embeddings", *EMBEDDINGS)
    return matrix_of(value, f"{name!r} of {where}")


def _names_of_rows(
    arrays: Arrays, rows: int
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Return (ids, keys): whole numbers are ids, text is keys to rows numbered from 0."""
    id_N: NDArray[np.int64] | None = None
    keys: tuple[str, ...] | None = None
    for names in (IDS, KEYS):
        if (found := arrays.find(*names)) is None:
            continue
        what = f"{found[0]!r} of {arrays.where}"
        column = column_of(found[1], what)
        if len(column) != rows or column.null_count:
            raise DataError(
                f"{what} has {len(column) - column.null_count:,} values for {rows:,} rows; give "
                "one per row."
            )
        if names == IDS and pa.types.is_integer(column.type):
            id_N = _checked_ids(column, what)
        else:
            keys = tuple(str(key) for key in column.to_pylist())
    return id_N, keys


def _checked_ids(column: pa.Array, what: str) -> NDArray[np.int64]:
    try:
        id_N = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{what} is beyond int64 ({error}); write it as text.") from None
    values, count = np.unique(id_N, return_counts=True)
    if values[0] < 0 or count.max() > 1:
        bad = [int(i) for i in values[(count > 1) | (values < 0)]]
        raise DataError(
            f"{what} holds {len(bad):,} ids that are negative or stand twice: {shown(bad)}; an id "
            "names one row."
        )
    return id_N


def _finite(content: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows are finite, a tile at a time: a mask of everything is a second copy."""
    finite_N = np.empty(len(content), dtype=np.bool_)
    for start in range(0, len(content), _ROWS_AT_A_TIME):
        tile = slice(start, start + _ROWS_AT_A_TIME)
        finite_N[tile] = np.isfinite(content[tile]).all(axis=1)
    return finite_N
