"""Train labels in a file of their own: row by row, or by the data's own keys.

Letters: N train rows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.files import TABLE_SUFFIXES, did_you_mean, not_empty, tables_in
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.numpy_files import NUMPY_SUFFIXES, labels_in
from raysubset.learn.sources.rows import FileRows, RawPart, shown
from raysubset.learn.sources.tables import (
    LabelRule,
    label_column,
    read_tables,
    schema_of,
    trusted_column,
)
from raysubset.learn.sources.trusted import refuse_nowhere

KEY_OPTION = "--data.labels_key"


def with_column(labels: str | None, column: str | None) -> tuple[str | None, str | None]:
    """Return (file, column) of --data.labels FILE:COLUMN and --data.label_column.

    What is there under the whole name is a file; a drive letter (C:x) and what holds a slash after
    its last colon (s3://bucket/x) name no column.

    Raises:
        ConfigError: two columns that differ.

    Example:
        with_column("y.csv:species", None) == ("y.csv", "species")
    """
    if labels is None:
        return None, column
    file, colon, named = labels.rpartition(":")
    is_column = colon and named and len(file) > 1 and not set(named) & set("/\\")
    if not is_column or os.path.lexists(labels):
        return labels, column
    if column not in (None, named):
        raise ConfigError(
            f"--data.labels={labels} names the column {named!r}, and --data.label_column={column} "
            "another one; give one of them"
        )
    return file, named


def labels_beside(
    train: RawPart, labels: Path, rule: LabelRule, key: str | None
) -> tuple[RawPart, tuple[str, ...]]:
    """Return the train rows with the labels of a file, and what to tell of them.

    Args:
        train: the train rows.
        labels: Parquet, CSV, .npy or .npz.
        rule: which column holds them.
        key: the file's column with the keys of the rows; None where row i labels train row i.

    Raises:
        ConfigError: a column that is not there, or keys where the data has none.
        DataError: another number of rows, keys that are missing, or that name two rows.
    """
    if labels.suffix.lower() in NUMPY_SUFFIXES:
        if rule.trusted is not None:
            refuse_nowhere(rule.trusted, str(labels))
        if key is not None:
            raise ConfigError(f"{KEY_OPTION}={key}: {labels} has no columns; give a CSV or Parquet")
        column = labels_in(labels, rule.column)
        _refuse_other_length(labels, len(column.values), train)
        return _labelled(train, column, None), ()
    files = not_empty(tables_in(labels, TABLE_SUFFIXES))
    schema, rule = schema_of(files[0]), replace(rule, beside=False)
    name, trusted = rule.column_of(schema, files[0]), rule.trusted_of(schema, files[0])
    assert name is not None, "a rule without labels beside finds a column or refuses"
    if key is not None and key not in schema.names:
        raise ConfigError(
            f"{KEY_OPTION}={key}: {files[0]} has no such column; {did_you_mean(key, schema.names)}"
        )
    wanted = dict.fromkeys(n for n in (name, trusted, key) if n is not None)
    table, rows = read_tables(files, list(wanted), () if key is None else (key,))
    label = label_column(table, name, rows)
    second = trusted_column(table, trusted, rows)
    if key is None:
        _refuse_other_length(labels, table.num_rows, train)
        return _labelled(train, label, second), ()
    joined = _Joined.of(table.column(key), rows, train, labels, key)
    return _labelled(train, joined.by(label), second and joined.by(second)), joined.notes


def _refuse_other_length(labels: Path, rows: int, train: RawPart) -> None:
    if rows != train.num_rows:
        raise DataError(
            f"--data.labels={labels} has {rows:,} rows for {train.num_rows:,} "
            "train rows; it needs one row per train row, in their order"
        )


def _labelled(train: RawPart, label: LabelColumn, trusted: LabelColumn | None) -> RawPart:
    if label.names is None and train.label is not None:
        label = replace(label, names=train.label.names)
    return replace(train, label=label, trusted=trusted)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Joined:
    """Which row of the file each train row has its label from."""

    taken: pa.Array
    """Row number in the file, null for a train row that it lacks. Shape: (N,)."""
    keys: tuple[str, ...]
    """Of the train rows. Length N."""
    where: str
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, column: pa.ChunkedArray, rows: FileRows, train: RawPart, labels: Path, key: str
    ) -> _Joined:
        """Match the keys of a file with those of the train rows.

        Raises:
            ConfigError: the train rows have no keys.
            DataError: a key missing or twice in the file, two train rows of one key, or no match.
        """
        option, keys = f"{KEY_OPTION}={key}", train.keys()
        if keys is None:
            raise ConfigError(
                f"{option}: the train rows have no keys (paths of images); leave it out, and give "
                "one label per train row in their order"
            )
        theirs = [None if value is None else str(value) for value in column.to_pylist()]
        if None in theirs:
            first = rows.name(theirs.index(None))
            raise DataError(f"{option}: the key is missing in {first}; fill it in or drop the row")
        _refuse_twice(theirs, f"{option}: {labels}")
        _refuse_twice(keys, f"{option}: the train rows")
        row_of = {each: row for row, each in enumerate(theirs)}
        taken = [row_of.get(each) for each in keys]
        if all(row is None for row in taken):
            raise DataError(
                f"{option}: no key of {labels} (such as {theirs[0]!r}) is one of the train rows "
                f"(such as {keys[0]!r}); write them as the data has them"
            )
        known = set(keys)
        over = [each for each in theirs if each not in known]
        note = f"ignored {len(over):,} keys of {labels}, which no train row has: {shown(over, 3)}"
        return cls(
            taken=pa.array(taken, pa.int64()),
            keys=keys,
            where=str(labels),
            notes=(note,) if over else (),
        )

    def by(self, column: LabelColumn) -> LabelColumn:
        """Return a column of the file in the order of the train rows."""
        return replace(column, values=column.values.take(self.taken), row_name=self.row_name)

    def row_name(self, row: int) -> str:
        """Return how a person finds the label of a train row."""
        return f"{self.where} key {self.keys[row]}"


def _refuse_twice(keys: Sequence[str | None], where: str) -> None:
    twice = [(each, count) for each, count in Counter(keys).most_common(3) if count > 1]
    if twice:
        said = ", ".join(f"{each!r} ({count:,} rows)" for each, count in twice)
        raise DataError(f"{where}: a key names one row, and here stand {said}; make keys unique")
