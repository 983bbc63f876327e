"""The person's own names of rows: a key column, or file and row where there are several files."""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from raysubset.errors import DataError
from raysubset.learn.sources.roles import KEY_OPTION
from raysubset.learn.sources.rows import FileRows, shown

_NAMED = 3

KeyOf = Callable[[int], str]
"""Row number of a part -> the person's own name of the row."""


def keys_in(table: pa.Table, name: str, rows: FileRows) -> KeyOf:
    """Return the names that a key column gives; unique in their part.

    Args:
        table: with that column.
        name: of the column: text or integers.
        rows: where the table's rows stand.

    Raises:
        DataError: another type, a row without a key, or keys of more than one row; all named.
    """
    where = f"{KEY_OPTION}={name}: column {name!r} of {rows.files[0]}"
    text = _as_text(table.column(name), where)
    bare = pc.indices_nonzero(text.is_null()).to_pylist()
    if bare:
        first = shown([rows.name(row) for row in bare[:_NAMED]])
        raise DataError(
            f"{where} is empty in {len(bare):,} rows (first: {first}); fill them in, or leave the "
            "option out: rows are then known by their number"
        )
    _refuse_collisions(text, where, rows)
    return lambda row: text[row].as_py()


def keys_by_file(rows: FileRows) -> KeyOf | None:
    """Return "file:row" as keys of several files, rows from 0; None for one, where ids say it."""
    if len(rows.files) == 1:
        return None
    top = os.path.commonpath([path.parent for path in rows.files])
    names = [path.relative_to(top).as_posix() for path in rows.files]

    def key(row: int) -> str:
        file, own = rows.place(row)
        return f"{names[file]}:{own}"

    return key


def _as_text(column: pa.ChunkedArray, where: str) -> pa.Array:
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_integer(kind):
        return values.cast(pa.large_string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = values.cast(pa.large_string())
        blank = pc.equal(pc.utf8_trim_whitespace(text), "")
        return pc.if_else(blank, pa.scalar(None, text.type), text)
    cause = "is empty in every row" if pa.types.is_null(kind) else f"has type {kind}"
    raise DataError(f"{where} {cause}; keys are text or whole numbers: name another column")


def _refuse_collisions(text: pa.Array, where: str, rows: FileRows) -> None:
    counts = text.value_counts()
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if not len(twice):
        return
    told = [
        f"{key.as_py()!r} ({shown([rows.name(row) for row in _rows_with(text, key)], _NAMED)})"
        for key in twice[:_NAMED]
    ]
    more = f" and {len(twice) - _NAMED:,} more" if len(twice) > _NAMED else ""
    raise DataError(
        f"{where} gives {len(twice):,} keys to more than one row: {'; '.join(told)}{more}. A key "
        "names one row: make them unique, name another column, or leave the option out: rows are "
        "then known by their number"
    )


def _rows_with(text: pa.Array, key: pa.Scalar) -> list[int]:
    return pc.indices_nonzero(pc.equal(text, key)).to_pylist()
