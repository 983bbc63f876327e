"""Tables as float32 features, encoded as their train rows say; every odd row and value is named.

Letters: N rows, A rows asked for, F features.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.columns import Column, Kind, differences, features_of
from raysubset.learn.skipped import Cause, Skipped
from raysubset.learn.sources.feature_plan import (
    FeaturePlan,
    as_categories,
    fit_features,
    kind_of,
    names_as_numbers,
    numbers,
)
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.roles import DROP_OPTION
from raysubset.learn.sources.row_keys import KeyOf, keys_by_file, keys_in
from raysubset.learn.sources.rows import FileRows, Loaded, OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import (
    LabelRule,
    label_column,
    read_tables,
    same_columns,
    trusted_column,
)

_CAUSE: Cause = "missing or non-finite value"
_MOST_UNSEEN = 2  # one row of this many; beyond it a column is written in another way
_NAMED = 3


def open_tabular(
    files: Mapping[Part, Sequence[Path]], rule: LabelRule, on_bad: OnBadRow
) -> dict[Part, RawPart]:
    """Return the parts of a table, encoded alike.

    Raises:
        ConfigError: no label column of the name asked for, or another option's column.
        DataError: a damaged file, a column that cannot be a feature, parts that differ, keys that
            are no keys.
    """
    text = () if rule.roles.key is None else (rule.roles.key,)
    tables = {part: read_tables(of_part, text=text) for part, of_part in files.items()}
    return open_tables(tables, rule, on_bad)


def open_tables(
    tables: Mapping[Part, tuple[pa.Table, FileRows]], rule: LabelRule, on_bad: OnBadRow
) -> dict[Part, RawPart]:
    """Return the parts of tables that are read already, wherever they come from.

    Raises:
        ConfigError, DataError: see `open_tabular`.
    """
    names, where = tables["train"][0].schema.names, str(tables["train"][1].files[0])
    rule.roles.check(names, rule.columns_taken(tables["train"][0].schema), where)
    features = {part: _without_others(table, rule) for part, (table, _) in tables.items()}
    plan = _plan(features["train"], rule, where)
    parts: dict[Part, RawPart] = {}
    for part, (table, rows) in tables.items():
        _refuse_other_columns(features[part], features["train"], rule, rows, tables["train"][1])
        label = rule.column_of(table.schema, rows.files[0], part)
        trusted = rule.trusted_of(table.schema, rows.files[0], part)
        key = rule.roles.key_in(table.schema.names)
        own = None if key is None else keys_in(table, key, rows)
        reader = _Reader(
            plan=plan, table=features[part], rows=rows, part=part, on_bad=on_bad, own=own
        )
        parts[part] = RawPart(
            kind="tabular",
            num_rows=table.num_rows,
            label=reader.named(label_column(table, label, rows)) if label else None,
            load=reader.load,
            notes=names_as_numbers(features[part], plan) if part == "train" else (),
            trusted=(found := trusted_column(table, trusted, rows)) and reader.named(found),
            keys=reader.keys,
        )
    return parts


def _plan(table: pa.Table, rule: LabelRule, where: str) -> FeaturePlan:
    """Return how columns become features: as a run did, where the table has to be like its."""
    fitted, categorical = rule.roles.fitted, rule.roles.categorical
    if fitted is None:
        return fit_features(table, categorical, where)
    told = differences(fitted, _kinds(table, categorical, where))
    if told:
        raise DataError(
            f"{where} has not the columns that the run was made with: {'; '.join(told)}. Bring "
            f"them back (their order is free; what is new is left out by {DROP_OPTION} NAME), or "
            "start a new run"
        )
    return FeaturePlan(columns=fitted)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """The rows of one part."""

    plan: FeaturePlan
    table: pa.Table
    rows: FileRows
    part: Part
    on_bad: OnBadRow
    own: KeyOf | None
    """The person's own keys, where a column has them."""

    def name(self, row: int) -> str:
        """Return how a person finds a row: file, number and, where there is one, key."""
        key = "" if self.own is None else f" ({self.own(row)})"
        return f"{self.rows.name(row)}{key}"

    def named(self, column: LabelColumn) -> LabelColumn:
        """Return the labels with rows called as here."""
        return replace(column, row_name=self.name)

    def keys(self) -> tuple[str, ...] | None:
        """Return the person's own key of every row; None where no column has them."""
        return None if self.own is None else tuple(map(self.own, range(self.table.num_rows)))

    def load(self, row_A: NDArray[np.int64]) -> Loaded:
        """Return the features of rows; the bad ones are refused, or left out."""
        asked = self.table.take(pa.array(row_A))
        content = self.plan.features(asked)
        bad_A = _bad_rows(self.plan, asked, content)
        skipped: tuple[Skipped, ...] = ()
        notes: tuple[str, ...] = ()
        if bad_A.any():
            skipped, said = self._told(asked.filter(pa.array(bad_A)), row_A[bad_A])
            self._refuse(bad_A, said)
            notes = (f"skipped {int(bad_A.sum()):,} bad rows: {said}",)
            asked, content = asked.filter(pa.array(~bad_A)), content[~bad_A]
        key = self.own or keys_by_file(self.rows)
        loaded = Loaded(
            content=content,
            kept_A=~bad_A,
            feature_names=self.plan.feature_names,
            columns=self.plan.columns,
            notes=(*notes, *self._unseen(asked, content)),
            skipped=skipped,
        )
        return loaded.with_keys(None if key is None else [key(row) for row in row_A.tolist()])

    def _refuse(self, bad_A: NDArray[np.bool_], said: str) -> None:
        if self.on_bad == "refuse":
            raise DataError(
                f"{said}; fill in or remove these values, or leave the rows out with "
                "--data.on_bad_row skip"
            )
        if bad_A.all():
            raise DataError(f"no row is left of {self.rows.files[0]}: {said}")

    def _told(self, table: pa.Table, row_B: NDArray[np.int64]) -> tuple[tuple[Skipped, ...], str]:
        """Return each of these bad rows with its columns, and a sentence on all of them."""
        names = [self.name(int(row)) for row in row_B]
        columns_B: list[list[str]] = [[] for _ in names]
        said: list[str] = []
        for column in self.plan.columns:
            wrong = np.flatnonzero(_wrong(column, table)).tolist()
            for place in wrong:
                columns_B[place].append(column.name)
            if wrong:
                where = shown([names[place] for place in wrong])
                count = f"{len(wrong):,} rows ({where})"
                said.append(f"column {column.name!r} is missing, NaN or Inf in {count}")
        skipped = tuple(
            Skipped(row=row, where=where, cause=_CAUSE, detail=f"column {shown(columns)}")
            for row, where, columns in zip(row_B.tolist(), names, columns_B, strict=True)
        )
        return skipped, shown(said, 3)

    def _unseen(self, table: pa.Table, content: NDArray[np.float32]) -> list[str]:
        """Return a note on each column with categories that no train row has.

        Raises:
            DataError: most rows have one: the column is written in another way than in train.
        """
        places, notes = features_of(self.plan.columns), list[str]()
        for column in self.plan.categorical:
            unseen_K = ~content[:, places[column.name]].any(axis=1)
            if not unseen_K.any():
                continue
            values = as_categories(table.column(column.name)).filter(pa.array(unseen_K))
            said = _unseen_told(column, values, len(content))
            if _MOST_UNSEEN * len(values) > len(content):
                raise DataError(
                    f"{self.rows.files[0]} ({self.part}): {said}. The train rows have "
                    f"{shown([repr(c) for c in column.categories], 5)}: write both alike, or "
                    f"leave the column out: {DROP_OPTION} {column.name}"
                )
            notes.append(f"{said}; these rows have zeros in place of its categories")
        return notes


def _unseen_told(column: Column, values: pa.ChunkedArray, rows: int) -> str:
    counts = [(c["values"].as_py(), c["counts"].as_py()) for c in values.value_counts()]
    counts.sort(key=lambda pair: (-pair[1], pair[0]))
    named = shown([f"{value!r} ({count:,} rows)" for value, count in counts], _NAMED)
    return (
        f"column {column.name!r}: {len(values):,} of {rows:,} rows hold categories that no train "
        f"row has: {named}"
    )


def _bad_rows(
    plan: FeaturePlan, table: pa.Table, content: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return which rows hold a value that is missing or not finite. Shape: (A,)."""
    bad_A = np.asarray(~np.isfinite(content).all(axis=1))
    for column in plan.categorical:
        bad_A = bad_A | _wrong(column, table)
    return bad_A


def _wrong(column: Column, table: pa.Table) -> NDArray[np.bool_]:
    """Return in which rows a column is missing, NaN or Inf. Shape: (A,)."""
    values = table.column(column.name)
    if column.kind == "number":
        return ~np.isfinite(numbers(values))
    return np.asarray(as_categories(values).is_null().to_numpy())


def _without_others(table: pa.Table, rule: LabelRule) -> pa.Table:
    """Return the columns that can be features."""
    others = {*rule.columns_taken(table.schema), *rule.roles.left_out}
    return table.drop_columns([name for name in table.schema.names if name in others])


def _kinds(table: pa.Table, categorical: Sequence[str], where: str) -> dict[str, Kind]:
    schema = table.schema
    return {name: kind_of(schema.field(name), categorical, where) for name in schema.names}


def _refuse_other_columns(
    table: pa.Table, train: pa.Table, rule: LabelRule, rows: FileRows, train_rows: FileRows
) -> None:
    where, as_in = str(rows.files[0]), str(train_rows.files[0])
    same_columns(table.schema.names, train.schema.names, where, as_in)
    mine = _kinds(table, rule.roles.categorical, where)
    wanted = _kinds(train, rule.roles.categorical, as_in)
    for name, kind in wanted.items():
        if mine[name] != kind:
            said = {"category": "text", "number": "number"}
            raise DataError(
                f"{where}: column {name!r} is {said[mine[name]]}, but {said[kind]} in {as_in}; "
                "write both alike"
            )
