"""Labels of any type as classes, and the rows that are held out: what stands beside X.

Letters: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from raysubset.errors import ConfigError, DataError
from raysubset.learn.data import Dataset
from raysubset.learn.parts import split_parts
from raysubset.learn.sources import Sources
from raysubset.learn.sources.rows import shown
from raysubset.learn.sources.strata import rows_of_share

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Rows of what a person gave, and their labels.

    Attributes:
        X: all that was given.
        label_N: labels of these rows, as they were given.
        ids_N: int64, which rows of X these are, ascending.
        name: of X, for errors.
        number_N: int64, class numbers of these rows, once there are classes.
    """

    X: Any
    label_N: NDArray[Any]
    ids_N: IntArray
    name: str
    number_N: IntArray

    @classmethod
    def whole(cls, X: Any, label_N: NDArray[Any], name: str) -> Self:
        """Return all rows, without classes yet."""
        none = np.zeros(0, dtype=np.int64)
        return cls(X=X, label_N=label_N, ids_N=np.arange(len(label_N)), name=name, number_N=none)

    def with_classes(self, classes: NDArray[Any], whose: str) -> Self:
        """Return the rows with class numbers; see `numbered`."""
        label_name = self.name.replace("X", "y")
        return replace(self, number_N=numbered(self.label_N, classes, label_name, whose))

    def at(self, row_K: IntArray) -> Self:
        """Return some rows of a whole table with classes; X itself is not copied yet."""
        return replace(
            self, label_N=self.label_N[row_K], ids_N=row_K, number_N=self.number_N[row_K]
        )

    def rows(self) -> Any:
        """Return these rows of X, of the type that was given."""
        return _safe_indexing(self.X, self.ids_N)


def labels_of(y: Any, name: str) -> NDArray[Any]:
    """Return labels as they are, one a row. Shape: (N,).

    Raises:
        DataError: none, missing ones (rows named), or some that cannot be sorted.
        ValueError: scikit-learn's own, for what is no column of classes.
    """
    if y is None:
        raise DataError(
            f"SubsetSelector requires {name} to be passed, but the target {name} is None: give one "
            "label a row."
        )
    label_N = column_or_1d(y, warn=True)
    if not len(label_N):
        raise DataError(f"{name} has no rows (n_samples=0); give at least two rows.")
    missing = np.flatnonzero([_is_missing(value) for value in label_N.tolist()])
    if len(missing):
        raise DataError(
            f"Input {name} contains NaN, infinity or nothing in {len(missing):,} rows, first "
            f"{missing[:10].tolist()}; fill these labels in, or drop the rows."
        )
    try:
        check_classification_targets(label_N)
    except TypeError as error:  # it sorts them
        kinds = sorted({type(value).__name__ for value in label_N.tolist()})
        raise DataError(
            f"{name} mixes labels of types {shown(kinds)}, which have no order; write all in one "
            "way."
        ) from error
    return label_N


def _is_missing(value: Any) -> bool:
    # pandas' NA is known by its name: it has no truth value, and pandas need not be installed
    return value is None or type(value).__name__ == "NAType" or value != value


def classes_of(label_N: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct labels, sorted. Shape: (C,).

    Raises:
        DataError: fewer than two.
    """
    classes = np.unique(label_N)
    if len(classes) < 2:
        raise DataError(
            f"y holds 1 class ({classes.tolist()[0]!r}) in {len(label_N):,} rows; choosing needs "
            "two classes or more."
        )
    return classes


def numbered(label_N: NDArray[Any], classes: NDArray[Any], name: str, whose: str) -> IntArray:
    """Return the class number of each label. Shape: (N,) -> int64 (N,).

    Raises:
        DataError: labels that are none of the classes, with their counts.
    """
    known = {value: number for number, value in enumerate(classes.tolist())}
    number_N = np.array([known.get(value, -1) for value in label_N.tolist()], dtype=np.int64)
    strange, count = np.unique(label_N[number_N < 0].astype(str), return_counts=True)
    if len(strange):
        named = [f"{s} ({n:,} rows)" for s, n in zip(strange.tolist(), count.tolist(), strict=True)]
        raise DataError(
            f"{name} has classes that {whose} lacks: {shown(named)}; its classes are "
            f"{shown([repr(value) for value in classes.tolist()])}. Drop these rows, or write "
            "labels in one way."
        )
    return number_N


def check_share(share: object) -> float:
    """Return the validation fraction if it lies in (0, 1).

    Raises:
        ConfigError: anything else.
    """
    if isinstance(share, int | float | np.floating) and 0 < float(share) < 1:
        return float(share)
    raise ConfigError(
        f"validation_fraction={share!r} must be a share of the rows in (0, 1); or give validation "
        "rows of your own: fit(X, y, X_val, y_val)."
    )


def hold_out(number_N: IntArray, num_classes: int, share: float, seed: int) -> IntArray:
    """Return the rows that become validation, by class and seed; ascending. Shape: (V,).

    The rows that `raysubset select` holds out of a file with these labels. Every class with three
    rows or more gives one, and none its last.

    Raises:
        DataError: that would be no row.
    """
    size = len(number_N)
    if not rows_of_share(share, size):
        raise DataError(
            f"validation_fraction={share:g} of {size:,} rows is no row at all (n_samples={size}); "
            f"give a larger one, at least {1 / size:.2g}, or rows of your own: X_val and y_val."
        )
    if np.bincount(number_N).max() < 2:
        raise DataError(
            f"every class of y has one row only (n_samples={size}), and none can be held out; give "
            "validation rows of your own: X_val and y_val."
        )
    rows = Dataset(
        name="X",
        kind="tabular",
        content=np.zeros((size, 1), dtype=np.float32),  # a stand-in: rows are drawn by label
        label_N=number_N,
        class_names=tuple(map(str, range(num_classes))),
        id_N=np.arange(size),
    )
    sources = Sources(train=rows, validation=None, test=rows.at(np.zeros(0, dtype=np.int64)))
    parts = split_parts(sources, validation=share, tuning=None, test=None, seed=seed)
    return parts.validation.id_N
