"""Images in Parquet files, in the layout of the Hugging Face hub: columns `image` and `label`."""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.sources.pixels import Encoded, decode_images
from raysubset.learn.sources.row_keys import KeyOf, keys_by_file, keys_in
from raysubset.learn.sources.rows import FileRows, Loaded, OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import (
    LabelRule,
    label_column,
    open_parquet,
    read_parquet,
    read_table,
    read_tables,
    schema_of,
    trusted_column,
)

_IMAGE_COLUMNS = ("image", "img")
_BATCH = 64  # images decoded by one task: enough to hide its cost, few enough to share


def image_column_of(schema: pa.Schema) -> str | None:
    """Return the column with encoded images, None where there is none."""
    return next((n for n in _IMAGE_COLUMNS if n in schema.names and _is_image(schema, n)), None)


def open_parquet_images(
    files: Mapping[Part, Sequence[Path]], rule: LabelRule, on_bad: OnBadRow
) -> dict[Part, RawPart]:
    """Return the parts of a source of Parquet files with images, their labels read.

    Raises:
        ConfigError: no label column of the name asked for.
        DataError: a damaged file, one without images, columns that change between files.
    """
    return {part: _open_part(part, of_part, rule, on_bad) for part, of_part in files.items()}


def _open_part(part: Part, files: Sequence[Path], rule: LabelRule, on_bad: OnBadRow) -> RawPart:
    schemas = [schema_of(file) for file in files]
    image = image_column_of(schemas[0])
    if image is None:
        raise DataError(
            f"{files[0]} has no column {' or '.join(_IMAGE_COLUMNS)} with encoded images (binary, "
            f"or a struct of bytes and path); its columns are {_columns(schemas[0])}"
        )
    label = rule.column_of(schemas[0], files[0], part)
    trusted = rule.trusted_of(schemas[0], files[0], part)
    if part == "train":
        rule.roles.check(schemas[0].names, rule.columns_taken(schemas[0]), str(files[0]))
    key = rule.roles.key_in(schemas[0].names)
    wanted = list(dict.fromkeys(name for name in (label, trusted, key) if name))
    for file, schema in zip(files, schemas, strict=True):
        if image_column_of(schema) != image or not set(wanted) <= set(schema.names):
            raise DataError(
                f"{file} has columns {_columns(schema)}, unlike {files[0]}, which has "
                f"{_columns(schemas[0])}; all files need the same columns"
            )
    table, rows = read_tables(files, wanted)
    own = keys_in(table, key, rows) if key else None
    return RawPart(
        num_rows=rows.ends[-1],
        label=label_column(table, label, rows) if label else None,
        load=_loader(rows, schemas[0], image, on_bad, own),
        trusted=trusted_column(table, trusted, rows),
        keys=lambda: _own_keys(rows, schemas[0], image, own),
    )


def _own_keys(
    rows: FileRows, schema: pa.Schema, column: str, own: KeyOf | None
) -> tuple[str, ...] | None:
    """Return the person's own key of every row, or its path; None for neither."""
    row_N = np.arange(rows.ends[-1])
    is_struct = pa.types.is_struct(schema.field(column).type)
    return _keys(own, row_N) or (_paths(rows, column, row_N) if is_struct else None)


def _loader(
    rows: FileRows, schema: pa.Schema, column: str, on_bad: OnBadRow, own: KeyOf | None
) -> Callable[[NDArray[np.int64]], Loaded]:
    is_struct = pa.types.is_struct(schema.field(column).type)

    def load(row_A: NDArray[np.int64]) -> Loaded:
        keys = _keys(own, row_A)
        if keys is None and is_struct:
            keys = _paths(rows, column, row_A)
        batches = _batches(rows, f"{column}.bytes" if is_struct else column, row_A)

        def name_of(place: int) -> str:
            key = f" ({keys[place]})" if keys and keys[place] else ""
            return f"{rows.name(int(row_A[place]))}{key}"

        loaded = decode_images(batches, row_A, name_of, on_bad)
        return loaded.with_keys(_keys(keys_by_file(rows), row_A) if keys is None else keys)

    return load


def _keys(key_of: KeyOf | None, row_A: NDArray[np.int64]) -> tuple[str, ...] | None:
    return None if key_of is None else tuple(key_of(row) for row in row_A.tolist())


def _batches(rows: FileRows, leaf: str, row_A: NDArray[np.int64]) -> Iterator[list[Encoded]]:
    """Yield the encoded images in row order, one row group in memory at a time."""
    start = 0
    for path in rows.files:
        with open_parquet(path) as file:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                first, last = np.searchsorted(row_A, [start, end])
                if first < last:  # a limit leaves whole groups unread
                    table = read_parquet(file, path, [leaf], group)
                    values = _values(table, leaf).take(pa.array(row_A[first:last] - start))
                    encoded = list(enumerate(values.to_pylist(), start=int(first)))
                    yield from (encoded[i : i + _BATCH] for i in range(0, len(encoded), _BATCH))
                start = end


def _paths(rows: FileRows, column: str, row_A: NDArray[np.int64]) -> tuple[str, ...] | None:
    leaf = f"{column}.path"
    tables = [read_table(path, [leaf]) for path in rows.files]
    if not all(table.num_columns for table in tables):  # a struct of bytes alone
        return None
    paths = pa.concat_arrays([_values(table, leaf).combine_chunks() for table in tables])
    if paths.null_count == len(paths):
        return None
    return tuple(pc.fill_null(paths.take(pa.array(row_A)), "").to_pylist())


def _values(table: pa.Table, leaf: str) -> pa.ChunkedArray:
    """Return the one column that was read, out of its struct; a null struct gives null."""
    column = table.column(0)
    return pc.struct_field(column, leaf.split(".")[1]) if "." in leaf else column


def _is_image(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    if pa.types.is_struct(kind):
        kind = next((field.type for field in kind if field.name == "bytes"), pa.null())
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _columns(schema: pa.Schema) -> str:
    return shown([f"{field.name} ({field.type})" for field in schema], 30)
