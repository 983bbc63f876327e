"""Tables as float32 features: numbers as they are, text one-hot as in the train rows.

Letters: N rows, A rows asked for, F features.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.skipped import Cause, Skipped
from raysubset.learn.sources.rows import FileRows, Loaded, OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import (
    LabelRule,
    label_column,
    read_tables,
    same_columns,
    trusted_column,
)

if TYPE_CHECKING:
    from sklearn.preprocessing import OneHotEncoder

_MOST_CATEGORIES = 1000
_FEW_CATEGORIES = 50  # below it a column is never called an identifier
_CAUSE: Cause = "missing or non-finite value"


@dataclass(frozen=True, kw_only=True)
class FeaturePlan:
    """How columns become features; fitted on the train rows, used for every part."""

    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    encoder: OneHotEncoder | None
    """None where no column is text."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column name, or column=category. Length F."""
        names = {column: [column] for column in self.columns}
        names |= {
            column: [f"{column}={value}" for value in categories]
            for column, categories in self._categories().items()
        }
        return tuple(name for column in self.columns for name in names[column])

    def features(self, table: pa.Table) -> NDArray[np.float32]:
        """Return the rows as float32; NaN or Inf stays. Shape: (A, F)."""
        blocks = {
            column: _numbers(table.column(column))[:, None]
            for column in self.columns
            if column not in self.text_columns
        }
        if self.encoder is not None:
            onehot = np.asarray(self.encoder.transform(_texts(table, self.text_columns)))
            widths = [len(categories) for categories in self._categories().values()]
            pieces = np.split(onehot, np.cumsum(widths)[:-1], axis=1)
            blocks |= dict(zip(self.text_columns, pieces, strict=True))
        return np.concatenate([blocks[column] for column in self.columns], axis=1)

    def _categories(self) -> dict[str, list[str]]:
        if self.encoder is None:
            return {}
        return dict(zip(self.text_columns, self.encoder.categories_, strict=True))


def open_tabular(
    files: Mapping[Part, Sequence[Path]], rule: LabelRule, on_bad: OnBadRow
) -> dict[Part, RawPart]:
    """Return the parts of a table, encoded alike.

    Raises:
        ConfigError: no label column of the name asked for.
        DataError: a damaged file, a column that cannot be a feature, parts that differ.
    """
    tables = {part: read_tables(of_part) for part, of_part in files.items()}
    features = {part: _without_labels(table, rule) for part, (table, _) in tables.items()}
    plan = fit_features(features["train"], str(files["train"][0]))
    parts: dict[Part, RawPart] = {}
    for part, (table, rows) in tables.items():
        _refuse_other_columns(features[part], features["train"], rows, tables["train"][1])
        label = rule.column_of(table.schema, rows.files[0], part)
        trusted = rule.trusted_of(table.schema, rows.files[0], part)
        parts[part] = RawPart(
            num_rows=table.num_rows,
            label=label_column(table, label, rows) if label else None,
            load=_loader(plan, features[part], rows, on_bad),
            trusted=trusted_column(table, trusted, rows),
        )
    return parts


def fit_features(table: pa.Table, where: str) -> FeaturePlan:
    """Return how the columns of the train rows become features.

    Raises:
        DataError: names a column that is no number and no category, or that there is none.
    """
    if not table.num_columns:
        raise DataError(f"{where} has no column besides the label; nothing to learn from")
    kinds = {name: _kind(table.schema.field(name), where) for name in table.schema.names}
    texts = tuple(name for name, kind in kinds.items() if kind == "text")
    for name in texts:
        _refuse_identifier(table.column(name), name, where)
    return FeaturePlan(columns=tuple(kinds), text_columns=texts, encoder=_fit_encoder(table, texts))


def _fit_encoder(table: pa.Table, texts: tuple[str, ...]) -> OneHotEncoder | None:
    if not texts:
        return None
    from sklearn.preprocessing import OneHotEncoder  # a second to import: only where it is used

    # By column: a row that lacks one text still shows the categories of the others.
    known: Any = [np.unique(_texts(table.select([t]).drop_null(), (t,))) for t in texts]
    for name, categories in zip(texts, known, strict=True):
        if not len(categories):
            raise DataError(f"text column {name!r} is empty in every row; remove the column")
    dtype: Any = np.float32  # documented, but its stub knows float64 alone
    encoder = OneHotEncoder(
        categories=known, handle_unknown="ignore", sparse_output=False, dtype=dtype
    )
    first = np.array([[categories[0] for categories in known]], dtype=object)
    return encoder.fit(first)


def _loader(
    plan: FeaturePlan, table: pa.Table, rows: FileRows, on_bad: OnBadRow
) -> Callable[[NDArray[np.int64]], Loaded]:
    def load(row_A: NDArray[np.int64]) -> Loaded:
        asked = table.take(pa.array(row_A))
        content = plan.features(asked)
        bad_A = _bad_rows(plan, asked, content)
        if not bad_A.any():
            return Loaded(content=content, kept_A=~bad_A, feature_names=plan.feature_names)
        skipped, said = _told(plan, asked.filter(pa.array(bad_A)), row_A[bad_A], rows)
        if on_bad == "refuse":
            raise DataError(
                f"{said}; fill in or remove these values, or leave the rows out with "
                "--data.on_bad_row skip"
            )
        if bad_A.all():
            raise DataError(f"no row is left of {rows.files[0]}: {said}")
        return Loaded(
            content=content[~bad_A],
            kept_A=~bad_A,
            feature_names=plan.feature_names,
            notes=(f"skipped {int(bad_A.sum()):,} bad rows: {said}",),
            skipped=skipped,
        )

    return load


def _bad_rows(
    plan: FeaturePlan, table: pa.Table, content: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which rows hold a value that is missing or not finite. Shape: (A,)."""
    bad_A = np.asarray(~np.isfinite(content).all(axis=1))
    for column in plan.text_columns:
        bad_A = bad_A | table.column(column).is_null().to_numpy()
    return bad_A


def _told(
    plan: FeaturePlan, table: pa.Table, row_B: NDArray[np.int64], rows: FileRows
) -> tuple[tuple[Skipped, ...], str]:
    """Return each of these bad rows with its columns, and a sentence on all of them."""
    names = [rows.name(int(row)) for row in row_B]
    columns_B: list[list[str]] = [[] for _ in names]
    said: list[str] = []
    for column in plan.columns:
        values = table.column(column)
        is_text = column in plan.text_columns
        wrong_B = values.is_null().to_numpy() if is_text else ~np.isfinite(_numbers(values))
        wrong = np.flatnonzero(wrong_B).tolist()
        for place in wrong:
            columns_B[place].append(column)
        if wrong:
            where = shown([names[place] for place in wrong])
            count = f"{len(wrong):,} rows ({where})"
            said.append(f"column {column!r} is missing, NaN or Inf in {count}")
    skipped = tuple(
        Skipped(row=row, where=where, cause=_CAUSE, detail=f"column {shown(columns)}")
        for row, where, columns in zip(row_B.tolist(), names, columns_B, strict=True)
    )
    return skipped, shown(said, 3)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values = _decoded(column).cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(over="ignore"):  # what overflows float32 becomes Inf, which is refused
        return values.astype(np.float32)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    is_dictionary = pa.types.is_dictionary(column.type)
    return column.cast(column.type.value_type) if is_dictionary else column


def _texts(table: pa.Table, names: Sequence[str]) -> NDArray[np.object_]:
    columns = [pc.fill_null(table.column(n).cast(pa.large_string()), "").to_numpy() for n in names]
    return np.stack(columns, axis=1).astype(object)


def _kind(field: pa.Field, where: str) -> str:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    is_number = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if any(check(kind) for check in (*is_number, pa.types.is_decimal)):
        return "number"
    cause = "is missing in every row" if pa.types.is_null(kind) else f"has type {field.type}"
    raise DataError(
        f"{where}: column {field.name!r} {cause}; features are numbers, booleans or text: "
        "remove the column, or turn it into numbers first"
    )


def _refuse_identifier(column: pa.ChunkedArray, name: str, where: str) -> None:
    categories = pc.count_distinct(_decoded(column)).as_py()
    unique = categories > _FEW_CATEGORIES and 2 * categories > len(column)
    if categories > _MOST_CATEGORIES or unique:
        raise DataError(
            f"{where}: text column {name!r} has {categories:,} different values in "
            f"{len(column):,} rows; that is a name, not a category: remove the column, or turn it "
            "into numbers first"
        )


def _without_labels(table: pa.Table, rule: LabelRule) -> pa.Table:
    labels = rule.columns_taken(table.schema)
    return table.drop_columns(labels) if labels else table


def _refuse_other_columns(
    table: pa.Table, train: pa.Table, rows: FileRows, train_rows: FileRows
) -> None:
    where, as_in = str(rows.files[0]), str(train_rows.files[0])
    same_columns(table.schema.names, train.schema.names, where, as_in)
    for name in train.schema.names:
        kind = _kind(table.schema.field(name), where)
        wanted = _kind(train.schema.field(name), as_in)
        if kind != wanted:
            raise DataError(
                f"{where}: column {name!r} is {kind}, but {wanted} in {as_in}; write both alike"
            )
