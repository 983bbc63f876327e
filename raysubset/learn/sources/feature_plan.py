"""How a table's columns become float32 features: numbers as they are, categories one-hot.

Which columns there are, and which categories, say all train rows: so the features are the same for
every seed and limit. Nothing else of a held-out row enters; numbers are standardised later, by the
mean and spread of the pool alone (`learn.normalize`).

Letters: N rows, A rows asked for, F features.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.columns import Column, Kind
from raysubset.learn.sources.roles import CATEGORICAL_OPTION, DROP_OPTION, KEY_OPTION

if TYPE_CHECKING:
    from sklearn.preprocessing import OneHotEncoder

_MOST_CATEGORIES = 1000
_FEW_CATEGORIES = 50  # below it a column is never called an identifier
_NUMBER_TYPES = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal,
)
_TIME_TYPES = (pa.types.is_temporal, pa.types.is_duration)


@dataclass(frozen=True, kw_only=True)
class FeaturePlan:
    """How columns become features; fitted on the train rows, used for every part."""

    columns: tuple[Column, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column name, or column=category. Length F."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def categorical(self) -> tuple[Column, ...]:
        """The columns that are one-hot."""
        return tuple(column for column in self.columns if column.kind == "category")

    @cached_property
    def encoder(self) -> OneHotEncoder | None:
        """scikit-learn's encoder of the categories; None where there are none."""
        return _encoder(self.categorical)

    def features(self, table: pa.Table) -> NDArray[np.float32]:
        """Return the rows as float32; NaN or Inf stays. Shape: (A, F)."""
        blocks = {
            column.name: numbers(table.column(column.name))[:, None]
            for column in self.columns
            if column.kind == "number"
        }
        if self.encoder is not None:
            names = [column.name for column in self.categorical]
            onehot = np.asarray(self.encoder.transform(_texts(table, names)))
            widths = [len(column.categories) for column in self.categorical]
            pieces = np.split(onehot, np.cumsum(widths)[:-1], axis=1)
            blocks |= dict(zip(names, pieces, strict=True))
        return np.concatenate([blocks[column.name] for column in self.columns], axis=1)


def fit_features(table: pa.Table, categorical: Sequence[str], where: str) -> FeaturePlan:
    """Return how the columns of the train rows become features.

    Args:
        table: the train rows, without labels, keys and what is left out.
        categorical: columns that are one-hot whatever their type; text is in any case.
        where: the file, for errors.

    Raises:
        DataError: names a column that is no number and no category, or that there is none.
    """
    if not table.num_columns:
        raise DataError(f"{where} has no column besides the label; nothing to learn from")
    kinds = {
        name: kind_of(table.schema.field(name), categorical, where) for name in table.schema.names
    }
    return FeaturePlan(
        columns=tuple(
            Column(name=name, kind=kind)
            if kind == "number"
            else _category(table.column(name), name, where)
            for name, kind in kinds.items()
        )
    )


def kind_of(field: pa.Field, categorical: Sequence[str], where: str) -> Kind:
    """Return what a column is as a feature.

    Raises:
        DataError: it can be none; names column, type and remedy.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "category"
    if any(check(kind) for check in _NUMBER_TYPES):
        return "category" if field.name in categorical else "number"
    cause = "is missing in every row" if pa.types.is_null(kind) else f"has type {field.type}"
    how = "fill it in" if pa.types.is_null(kind) else "turn it into numbers first"
    if any(check(kind) for check in _TIME_TYPES):
        how = "turn it into numbers first (days since a date, month, weekday, hour)"
    raise DataError(
        f"{where}: column {field.name!r} {cause}; features are numbers, booleans or text: {how}, "
        f"or leave the column out: {DROP_OPTION} {field.name}"
    )


def numbers(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return a column of numbers or booleans; null becomes NaN. Shape: float32 (A,)."""
    values = decoded(column).cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):  # what overflows float32 becomes Inf, which is refused
        return values.astype(np.float32)


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary encoding."""
    is_dictionary = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_dictionary else column


def as_categories(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text: 3 and 3.0 are one category; NaN and Inf are missing."""
    column = decoded(column)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        values = column.cast(pa.float64(), safe=False)
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, pa.float64()))
        try:
            column = values.cast(pa.int64())
        except pa.ArrowInvalid:  # fractions: in train rows refused, elsewhere unseen
            column = values
    return column.cast(pa.large_string())


def _category(column: pa.ChunkedArray, name: str, where: str) -> Column:
    values = pc.unique(as_categories(column).drop_null()).to_pylist()
    if not values:
        raise DataError(
            f"{where}: column {name!r} is empty in every row; leave it out: {DROP_OPTION} {name}"
        )
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        _refuse_fractions(values, name, where)
    _refuse_identifier(len(values), len(column), name, where)
    is_text = pa.types.is_string(kind := decoded(column).type) or pa.types.is_large_string(kind)
    order = None if is_text or pa.types.is_boolean(kind) else int
    return Column(name=name, kind="category", categories=tuple(sorted(values, key=order)))


def _refuse_fractions(values: Sequence[str], name: str, where: str) -> None:
    odd = next((value for value in values if not value.lstrip("-").isdigit()), None)
    if odd is not None:
        raise DataError(
            f"{CATEGORICAL_OPTION}={name}: column {name!r} of {where} holds fractions such as "
            f"{odd}; a category is text or a whole number: leave the column out of the option"
        )


def names_as_numbers(table: pa.Table, plan: FeaturePlan) -> tuple[str, ...]:
    """Return what to tell of whole numbers that differ in every row: they may be names."""
    whole = [
        column.name
        for column in plan.columns
        if column.kind == "number"
        and pa.types.is_integer(table.schema.field(column.name).type)
        and table.num_rows > _FEW_CATEGORIES
        and pc.count_distinct(table.column(column.name)).as_py() == table.num_rows
    ]
    return tuple(
        f"column {name!r} has another whole number in each of {table.num_rows:,} rows, and is a "
        f"feature; if it names the rows: {KEY_OPTION} {name}, or {DROP_OPTION} {name}"
        for name in whole
    )


def _refuse_identifier(categories: int, rows: int, name: str, where: str) -> None:
    unique = categories > _FEW_CATEGORIES and 2 * categories > rows
    if categories > _MOST_CATEGORIES or unique:
        key = f"; where it names each row once: {KEY_OPTION} {name}" if categories == rows else ""
        raise DataError(
            f"{where}: text column {name!r} has {categories:,} different values in {rows:,} rows; "
            f"that is a name, not a category: leave it out with {DROP_OPTION} {name}, or turn it "
            f"into numbers first{key}"
        )


def _encoder(columns: Sequence[Column]) -> OneHotEncoder | None:
    if not columns:
        return None
    from sklearn.preprocessing import OneHotEncoder  # a second to import: only where it is used

    known: Any = [np.array(column.categories, dtype=object) for column in columns]
    dtype: Any = np.float32  # documented, but its stub knows float64 alone
    encoder = OneHotEncoder(
        categories=known, handle_unknown="ignore", sparse_output=False, dtype=dtype
    )
    first = np.array([[categories[0] for categories in known]], dtype=object)
    return encoder.fit(first)


def _texts(table: pa.Table, names: Sequence[str]) -> NDArray[np.object_]:
    columns = [pc.fill_null(as_categories(table.column(n)), "").to_numpy() for n in names]
    return np.stack(columns, axis=1).astype(object)
