"""The fitted transform of a table, as plain JSON: what a run's model takes for its columns.

    RUN/transform.json   columns with kinds, categories, means and scales; written with the run

Letters: F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raysubset.errors import RunFolderError
from raysubset.files import read_object
from raysubset.learn.columns import Column, features_of
from raysubset.learn.normalize import Normalize

TRANSFORM = "transform.json"
_FORMAT = 1
_VERSIONS = ("raysubset", "scikit-learn", "numpy", "pyarrow", "torch")


@dataclass(frozen=True, kw_only=True, eq=False)
class Transform:
    """From a table's columns to the F numbers that a model sees.

    A number x becomes (x - mean) / scale, as scikit-learn's StandardScaler; a category becomes one
    feature a value, 1 or 0, as its OneHotEncoder with `handle_unknown="ignore"`, which is then
    standardised in the same way.

    Attributes:
        columns: in the order of their features; the categories are those of all train rows.
        normalize: mean and scale of the F features, of the pool rows alone.
        pool_rows: how many these were.
    """

    columns: tuple[Column, ...]
    normalize: Normalize
    pool_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which `of` makes the same transform, bit for bit."""
        places = features_of(self.columns)
        return {
            "format": _FORMAT,
            "columns": [
                {
                    **column.to_json(),
                    "mean": self.normalize.mean[places[column.name]].tolist(),
                    "scale": self.normalize.std[places[column.name]].tolist(),
                }
                for column in self.columns
            ],
            "fitted_on": {
                "categories": "the distinct values in all train rows",
                "mean and scale": f"the {self.pool_rows} rows of the pool",
            },
            "pool_rows": self.pool_rows,
            "versions": {name: _version(name) for name in _VERSIONS},
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Transform:
        """Return the transform of plain values.

        Raises:
            ValueError: they are none.
        """
        if told.get("format") != _FORMAT or not isinstance(told.get("columns"), list):
            raise ValueError(f"format {told.get('format')!r} is not {_FORMAT}, or has no columns")
        columns = tuple(Column.of(dict(each)) for each in told["columns"])
        size = len([name for column in columns for name in column.feature_names])
        mean, std = (_numbers(told["columns"], name) for name in ("mean", "scale"))
        if len(mean) != size or len(std) != size or not bool((std > 0).all()):
            raise ValueError(f"{len(mean)} means and {len(std)} scales for {size} features")
        return cls(
            columns=columns,
            normalize=Normalize(mean=mean, std=std),
            pool_rows=int(told.get("pool_rows", 0)),
        )


def read_transform(run: Path | None) -> Transform | None:
    """Return the transform of a run folder; None without one (images, or an older run).

    Raises:
        RunFolderError: it is damaged.
    """
    path = None if run is None else run / TRANSFORM
    if path is None or not path.is_file():
        return None
    told = read_object(path)
    try:
        return Transform.of({} if told is None else told)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(
            f"{path} is damaged ({error}), so nothing says what the model takes for which column; "
            "put it back, or start a new run with another --run-dir."
        ) from None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # numbers alone need no scikit-learn
        return None


def _numbers(columns: list[Any], name: str) -> Tensor:
    values = [value for column in columns for value in column[name]]
    numbers = torch.tensor(values, dtype=torch.float32).reshape(-1)
    if not bool(numbers.isfinite().all()):
        raise ValueError(f"a {name} is not finite")
    return numbers
