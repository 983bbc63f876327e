"""Parquet and CSV files as Arrow tables; every failure names its file."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.files import did_you_mean
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.roles import Roles
from raysubset.learn.sources.rows import FileRows, Part, shown

DEFAULT_LABEL = "label"
TRUSTED_OPTION = "--data.validation_label_column"


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Turn what goes wrong inside into a DataError that names the file."""
    try:
        yield
    # ValueError: a damaged footer can hold names that are no UTF-8
    except (pa.ArrowException, OSError, ValueError) as error:
        kind = "CSV" if path.suffix.lower() == ".csv" else "Parquet"
        raise DataError(
            f"{path} cannot be read as {kind}: {error}; the file is damaged, incomplete or of "
            "another format: fetch or write it again"
        ) from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """Return an open Parquet file whose page checksums, where written, are verified.

    Raises:
        DataError: damaged or no Parquet; names the file.
    """
    with reading(path):
        return pq.ParquetFile(path, page_checksum_verification=True)


def schema_of(path: Path) -> pa.Schema:
    """Return names and types of a file's columns, its rows unread where it is Parquet.

    Raises:
        DataError: unreadable, or two columns with one name.
    """
    if path.suffix.lower() == ".csv":
        schema = read_table(path).schema
    else:
        with open_parquet(path) as file:
            schema = file.schema_arrow
    _refuse_twins(schema, path)
    return schema


def read_table(
    path: Path, columns: Sequence[str] | None = None, text: Sequence[str] = ()
) -> pa.Table:
    """Return a whole Parquet or CSV file, or some of its columns.

    Args:
        path: of the file.
        columns: the ones to read; None for all.
        text: those that a CSV file gives as they are written: 007 is no 7.

    Raises:
        DataError: damaged; names the file.
    """
    if path.suffix.lower() == ".csv":
        with reading(path):
            # a missing cell is missing in every column: an empty text would become a category
            convert = pa_csv.ConvertOptions(
                strings_can_be_null=True,
                include_columns=list(columns or ()),
                column_types=dict.fromkeys(text, pa.string()),
            )
            table = pa_csv.read_csv(path, convert_options=convert)
    else:
        with open_parquet(path) as file:
            table = read_parquet(file, path, columns)
    with reading(path):  # a name that is no UTF-8 shows when it is read
        _refuse_twins(table.schema, path)
    return table


def read_parquet(
    file: pq.ParquetFile, path: Path, columns: Sequence[str] | None, group: int | None = None
) -> pa.Table:
    """Return columns of an open Parquet file, or of one row group; all for None.

    Raises:
        DataError: damaged; names the file.
    """
    names = None if columns is None else list(columns)
    with reading(path):
        if group is None:
            table, wanted = file.read(columns=names), file.metadata.num_rows
        else:
            table = file.read_row_group(group, columns=names)
            wanted = file.metadata.row_group(group).num_rows
        table.validate(full=True)  # without checksums a flipped bit gives text that is no UTF-8
        if table.num_rows != wanted:
            raise ValueError(f"{table.num_rows} rows where its footer says {wanted}")
    return table


def read_tables(
    files: Sequence[Path], columns: Sequence[str] | None = None, text: Sequence[str] = ()
) -> tuple[pa.Table, FileRows]:
    """Return several files with the same columns as one table, rows in file order.

    Args as of `read_table`.

    Raises:
        DataError: a damaged file, one whose columns are not those of the first, or no row.
    """
    tables = [read_table(file, columns, text) for file in files]
    joined = tables[0]
    for file, table in zip(files[1:], tables[1:], strict=True):
        same_columns(table.schema.names, joined.schema.names, f"{file}", f"{files[0]}")
        try:
            joined = pa.concat_tables([joined, table], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(
                f"{file}: a column has another type than in {files[0]}: {error}; write both alike"
            ) from error
    rows = FileRows.count(files, [table.num_rows for table in tables])
    if not rows.ends[-1]:
        raise DataError(f"{shown(files, 3)} holds no row")
    return joined, rows


def _refuse_twins(schema: pa.Schema, path: Path) -> None:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise DataError(f"{path} has two columns named {shown(twice)}; rename one")


def same_columns(names: Sequence[str], wanted: Sequence[str], where: str, as_in: str) -> None:
    """Refuse columns that are not the wanted ones, in whatever order.

    Raises:
        DataError: names the missing and the extra columns.
    """
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing or extra:
        said = [f"lacks {shown(missing)}"] if missing else []
        said += [f"has {shown(extra)} besides"] if extra else []
        raise DataError(
            f"{where} {' and '.join(said)}, unlike {as_in}; all files need the same columns"
        )


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """Which column of a file holds its labels."""

    column: str | None
    """The column that a person named; None for `label`."""
    trusted: str | None = None
    """The column with the labels of held-out train rows; it stands where the train labels do."""
    beside: bool = False
    """Whether the train labels stand in a file beside the rows, where `column` then belongs."""
    roles: Roles = Roles()
    """What the other columns are."""

    def column_of(self, schema: pa.Schema, path: Path, part: Part = "train") -> str | None:
        """Return the column with the labels; None where train rows have theirs beside them.

        Raises:
            ConfigError: there is no such column; lists the columns.
        """
        asked = (self.column, DEFAULT_LABEL) if self.beside else (self.column or DEFAULT_LABEL,)
        found = next((name for name in asked if name in schema.names), None)
        if found is not None or (self.beside and part == "train"):
            return found
        cause = "" if self.column is None else f"--data.label_column={self.column}: "
        raise ConfigError(
            f"{cause}{path} has no column {asked[-1]!r}; its columns are "
            f"{shown(schema.names, 30)}. Name the one with the labels: --data.label_column NAME"
        )

    def trusted_of(self, schema: pa.Schema, path: Path, part: Part = "train") -> str | None:
        """Return the column with trusted labels; None where none is asked for, or not here.

        Raises:
            DataError: there is no such column; lists the columns.
        """
        if self.trusted is None or self.beside or part != "train":
            return None
        if self.trusted not in schema.names:
            raise DataError(
                f"{TRUSTED_OPTION}={self.trusted}: {path} has no such column; "
                f"{did_you_mean(self.trusted, schema.names)}"
            )
        return self.trusted

    def columns_taken(self, schema: pa.Schema) -> list[str]:
        """Return the columns that hold labels, so that none of them becomes a feature."""
        asked = {self.column, DEFAULT_LABEL} if self.beside else {self.column or DEFAULT_LABEL}
        asked = {name for name in (*asked, self.trusted) if name is not None}
        return [name for name in schema.names if name in asked]


def label_column(table: pa.Table, name: str, rows: FileRows) -> LabelColumn:
    """Return one column of a table as labels, with the class names that its schema declares."""
    others = len(rows.files) - 1
    more = f" and {others} more" if others else ""
    return LabelColumn(
        values=table.column(name).combine_chunks(),
        where=f"column {name!r} of {rows.files[0]}{more}",
        row_name=rows.name,
        names=declared_names(table.schema, name),
        column=name,
    )


def trusted_column(table: pa.Table, name: str | None, rows: FileRows) -> LabelColumn | None:
    """Return the column with trusted labels, None for none."""
    return None if name is None else replace(label_column(table, name, rows), option=TRUSTED_OPTION)


def declared_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the class names that the Hugging Face metadata of a schema declares, if any."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        features = json.loads(text)["info"]["features"]
        names = features[column]["names"]
    except (ValueError, KeyError, TypeError):  # other layouts exist; names are a courtesy
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
