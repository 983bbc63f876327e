"""Labels of any type as classes 0..C-1: the distinct sorted values of the train rows.

Letters: N rows, C classes.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import DataError

_NAMED_AT_MOST = 10
_FEW_CLASSES = 50  # up to here rows may be few without anybody having named the wrong column
UNLABELLED = -1


@dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """Labels as they stand in a file, and how a person finds them there."""

    values: pa.Array
    where: str
    """Such as: column 'label' of /data/train.csv."""
    row_name: Callable[[int], str]
    names: tuple[str, ...] | None = None
    """Names of the integer labels 0, 1, ... where the file declares them."""
    column: str | None = None
    """Its name in a table; None for class folders and built-in data."""
    option: str = "--data.label_column"
    """What a person names it with."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The classes of the train rows, in the order that numbers them."""

    values: pa.Array
    """int64 or string, ascending. Shape: (C,)."""
    names: tuple[str, ...]
    where: str


def plain(column: LabelColumn) -> LabelColumn:
    """Return the labels as int64 or string, missing ones as null.

    Raises:
        DataError: labels that are no class numbers or names; names the first rows and values.
    """
    values = column.values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_boolean(kind):
        return replace(column, values=values.cast(pa.int64()), names=("False", "True"))
    if pa.types.is_integer(kind):
        return replace(column, values=_non_negative(column, values))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = values.cast(pa.large_string())
        blank = pc.equal(pc.utf8_trim_whitespace(text), "")
        return replace(column, values=pc.if_else(blank, pa.scalar(None, text.type), text))
    if pa.types.is_null(kind):
        raise DataError(f"{column.where} is empty in every row; name a column with labels")
    first = pc.indices_nonzero(values.is_valid()).slice(0, 3).to_pylist()
    shown = "; ".join(f"{column.row_name(row)}: {values[row].as_py()!r}" for row in first)
    raise DataError(
        f"{column.where} has type {kind} ({shown}); labels are integers from 0, text or booleans: "
        f"{_not_classes(kind)}convert the column, or name another one with {column.option}"
    )


def _not_classes(kind: pa.DataType) -> str:
    """Return what is said of values that are targets of another kind of learning."""
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "regression is not supported (there are no classes): cut the values into classes, "
    if pa.types.is_nested(kind):
        return "several labels for one row are not supported (multi-label): keep one of them, "
    return ""


def missing_rows(column: LabelColumn) -> NDArray[np.int64]:
    """Return the row numbers without a label, of a column that `plain` returned."""
    return pc.indices_nonzero(column.values.is_null()).to_numpy().astype(np.int64)


def refuse_missing(column: LabelColumn) -> None:
    """Refuse labels that are missing.

    Raises:
        DataError: names the first ten rows.
    """
    rows = missing_rows(column)
    if len(rows):
        named = ", ".join(column.row_name(int(row)) for row in rows[:_NAMED_AT_MOST])
        raise DataError(
            f"{column.where}: {len(rows):,} of {len(column.values):,} labels are missing "
            f"(first: {named}); fill them in, or drop these rows with --data.on_bad_row skip"
        )


def find_classes(column: LabelColumn) -> Classes:
    """Return the classes of the train labels that `plain` returned.

    Raises:
        DataError: fewer than two classes, or a number that the file gives no name to.
    """
    values = pc.unique(column.values.drop_null())
    values = values.take(pc.sort_indices(values))
    if len(values) < 2:
        only = f" ({values[0].as_py()!r})" if len(values) else ""
        raise DataError(
            f"{column.where} has {len(values)} class{only} in {len(column.values):,} rows; "
            "learning needs two or more: check --data.label_column"
        )
    labelled = len(column.values) - column.values.null_count
    if len(values) > _FEW_CLASSES and 2 * len(values) > labelled:
        raise DataError(
            f"{column.where} has {len(values):,} classes in {labelled:,} rows; that is a name of "
            "rows, not a class: name the column of the labels with --data.label_column"
        )
    return Classes(values=values, names=_names(column, values), where=column.where)


def encode(column: LabelColumn, classes: Classes) -> NDArray[np.int64]:
    """Return the class of each row, UNLABELLED where the label is missing. Shape: int64 (N,).

    Raises:
        DataError: a class that the train rows lack, or labels of another type than theirs.
    """
    values, of_train = column.values, classes.values
    if values.type != of_train.type:
        raise DataError(
            f"{column.where} has labels of type {values.type}, the train labels ({classes.where}) "
            f"have {of_train.type}; write both in one way"
        )
    index = pc.index_in(values, value_set=of_train)
    strange = values.filter(pc.and_(index.is_null(), values.is_valid()))
    if len(strange):
        counts = sorted((c["values"].as_py(), c["counts"].as_py()) for c in strange.value_counts())
        named = ", ".join(f"{value!r} ({count:,} rows)" for value, count in counts[:_NAMED_AT_MOST])
        first = column.row_name(pc.index(values, strange[0]).as_py())
        raise DataError(
            f"{column.where} has classes that the train rows lack: {named}; first: {first}. The "
            f"train rows "
            f"({classes.where}) have {len(of_train)} classes: {', '.join(classes.names[:20])}. "
            "Add train rows of them or drop these rows"
        )
    return pc.fill_null(index, UNLABELLED).to_numpy().astype(np.int64)


def _non_negative(column: LabelColumn, values: pa.Array) -> pa.Array:
    try:
        numbers = values.cast(pa.int64())
    except pa.ArrowInvalid as error:  # uint64 above 2^63 is an id or a hash, not a class
        raise DataError(f"{column.where} has labels beyond int64: {error}") from error
    bad = pc.indices_nonzero(pc.less(numbers, 0)).to_pylist()
    if bad:
        shown = "; ".join(f"{column.row_name(row)}: {numbers[row].as_py()}" for row in bad[:3])
        raise DataError(
            f"{column.where} has {len(bad):,} negative labels ({shown}); the allowed range is 0 "
            "and up: renumber the classes, or write them as text"
        )
    return numbers


def _names(column: LabelColumn, values: pa.Array) -> tuple[str, ...]:
    plain_values = values.to_pylist()
    if column.names is None or not pa.types.is_integer(values.type):
        return tuple(str(value) for value in plain_values)
    if (largest := plain_values[-1]) >= len(column.names):
        first = column.row_name(pc.index(column.values, values[-1]).as_py())
        raise DataError(
            f"{column.where} has label {largest} ({first}), but its file declares only "
            f"{len(column.names)} class names: the allowed range is 0..{len(column.names) - 1}; "
            "correct the labels or the names"
        )
    return tuple(column.names[value] for value in plain_values)
