"""Trusted labels: a second column of the train rows, for those of them that are held out.

Letters: N rows of the source, M rows of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import ConfigError, DataError
from raysubset.learn.data import Dataset
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.labels import UNLABELLED, Classes, LabelColumn, encode, plain
from raysubset.learn.sources.rows import OnBadRow, shown
from raysubset.learn.sources.tables import TRUSTED_OPTION


@dataclass(frozen=True, kw_only=True, eq=False)
class Trusted:
    """Labels that train rows get when they are held out; the pool never sees them."""

    label_N: NDArray[np.int64]
    """Class of each row of the source, by id; UNLABELLED where the column has none."""
    column: str
    instead_of: str
    """The column with the labels of the pool."""
    where: str
    row_name: Callable[[int], str]
    """A method of a value, as every table's is: Ray carries it to the trials of a frontier."""
    on_bad: OnBadRow

    def relabelled(self, held: Mapping[str, Dataset]) -> tuple[dict[str, Dataset], list[str]]:
        """Return parts held out of the train rows with trusted labels, and what to tell of them.

        Args:
            held: the parts, in the order to name them, labelled as the pool is.

        Raises:
            DataError: a row without a trusted label (left out where bad rows are skipped), or a
                part of such rows alone.
        """
        parts: dict[str, Dataset] = {}
        notes: list[str] = []
        other = rows = 0
        for name, part in held.items():
            label_M = self.label_N[part.id_N]
            kept = np.flatnonzero(label_M != UNLABELLED)
            unlabelled = self._unlabelled(part, kept)
            notes += self._without(name, part, unlabelled)
            before, label_M = part.label_N[kept], label_M[kept]
            other, rows = other + int((label_M != before).sum()), rows + len(kept)
            lost = (*part.skipped, *unlabelled)
            parts[name] = replace(part.at(kept, part.notes, lost), label_N=label_M)
            notes += self._classes_lost(name, part, parts[name])
        told = (
            f"{', '.join(held)}: trusted labels, from {self.column}; {other:,} of {rows:,} "
            f"({100 * other / rows:.1f} %) differ from {self.instead_of}, which the pool keeps"
        )
        return parts, [told, *notes]

    def _without(self, name: str, part: Dataset, missing: Sequence[Skipped]) -> list[str]:
        """Refuse rows without a trusted label, or return the note that they are left out."""
        if not missing:
            return []
        named = shown([bad.where for bad in missing])
        if self.on_bad == "refuse":
            raise DataError(
                f"{self.where}: {len(missing):,} of {part.num_examples:,} {name} rows have no "
                f"label there (first: {named}); fill them in, or leave these rows out of "
                f"{name} with --data.on_bad_row skip"
            )
        if len(missing) == part.num_examples:
            raise DataError(
                f"{self.where}: none of the {len(missing):,} {name} rows has a label there "
                f"(first: {named}); hold out a larger share, or drop {TRUSTED_OPTION}"
            )
        return [
            f"{name}: left out {len(missing):,} of {part.num_examples:,} rows, which have no label "
            f"in {self.column} (first: {named})"
        ]

    def _unlabelled(self, part: Dataset, kept: NDArray[np.int64]) -> list[Skipped]:
        """Return the rows without a trusted label, in a form for the list of rows left out."""
        rows = np.delete(part.id_N, kept).tolist()
        named = [(row, self.row_name(row)) for row in rows]
        return [
            Skipped(row=row, where=where, cause="no trusted label", detail=self.where)
            for row, where in named
        ]

    def _classes_lost(self, name: str, before: Dataset, after: Dataset) -> list[str]:
        """Return the note that a class is gone: parts are drawn by the labels of the pool."""
        gone = np.flatnonzero((before.class_count_C > 0) & (after.class_count_C == 0))
        names = [after.class_names[c] for c in gone]
        said = f"{name}: no row of {len(gone):,} classes by {self.column}: {shown(names)}"
        return [said] if names else []


def trusted_labels(
    column: LabelColumn, train: LabelColumn, classes: Classes, on_bad: OnBadRow
) -> Trusted:
    """Return the trusted labels of all rows of the source, in the classes of the train labels.

    Args:
        column: the trusted labels, as they stand in a file.
        train: the train labels, as `plain` returned them.
        classes: of the train labels.
        on_bad: what a held-out row without a trusted label does.

    Raises:
        DataError: labels of another type or with other names than the train labels, or a class
            that the train rows lack.
    """
    assert column.column and train.column, "trusted labels stand in a table, beside the others"
    ready = plain(column)
    label_N = encode(ready, classes)
    if pa.types.is_integer(ready.values.type):
        _refuse_other_names(ready, train, classes)
    return Trusted(
        label_N=label_N,
        column=column.column,
        instead_of=train.column,
        where=column.where,
        row_name=column.row_name,
        on_bad=on_bad,
    )


def refuse_nowhere(option: str, where: str) -> None:
    """Refuse trusted labels of data that has no table for them to stand in.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        f"{TRUSTED_OPTION}={option}: {where} has no table with such a column; give the Parquet or "
        "CSV file that has it, a row per train row in their order: --data.labels FILE"
    )


def refuse_nothing_held_out(option: str) -> None:
    """Refuse trusted labels that no row would get.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        f"{TRUSTED_OPTION}={option} would change nothing: every part beside the pool has files of "
        "its own and keeps their labels. Drop the option, or hold rows out of the train rows: "
        "--data.validation 0.1"
    )


def _refuse_other_names(column: LabelColumn, train: LabelColumn, classes: Classes) -> None:
    """Refuse numbers that stand for other classes than they do in the train labels."""
    if column.names is None or train.names is None or column.names == train.names:
        return
    pairs = zip(classes.values.to_pylist(), classes.names, strict=True)
    for value, name in pairs:
        own = column.names[value] if value < len(column.names) else None
        if own != name:
            raise DataError(
                f"{column.where} calls class {value} {own!r}, {train.where} calls it {name!r}; "
                "write both in one way"
            )
