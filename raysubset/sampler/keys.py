"""From a run's ids to the rows of a person's own dataset, by the names of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Subset

from raysubset.errors import ConfigError
from raysubset.sampler.chosen import Chosen

_SHOWN = 3


@runtime_checkable
class ImageFolderLike(Protocol):
    """A dataset of files below a folder, as torchvision's ImageFolder is."""

    root: Any
    samples: Sequence[tuple[str, Any]]


def names_of(keys: Any) -> list[str]:
    """Return the names of a dataset's rows, in its order.

    Args:
        keys: strings; or an ImageFolder, whose names are the paths below its root with "/"
            (a `Subset` of one: of its rows).

    Raises:
        ConfigError: something else.
    """
    if isinstance(keys, Subset):
        inner = names_of(keys.dataset)
        return [inner[i] for i in keys.indices]
    if isinstance(keys, ImageFolderLike):
        return [PurePath(path).relative_to(keys.root).as_posix() for path, _ in keys.samples]
    names = None if isinstance(keys, str) or not isinstance(keys, Iterable) else list(keys)
    if names is None or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"keys={type(keys).__name__} has no names of rows; give one string for each row of "
            "the dataset in its order, or an ImageFolder."
        )
    return [str(name) for name in names]


def positions_of(chosen: Chosen, names: list[str]) -> np.ndarray:
    """Return the row of each chosen id in a dataset whose rows have these names. Shape: (E, K).

    Raises:
        ConfigError: no keys were stored, or one is not there, or twice.
    """
    if chosen.key_of is None:
        raise ConfigError(
            f"keys= was given, but {chosen.origin} has no keys (file names); give a run of an "
            "image folder or of data with a key column, or use the ids as row numbers."
        )
    keys = [chosen.key_of.get(i, "") for i in chosen.ids_EK.ravel().tolist()]
    row_of = {name: row for row, name in enumerate(names)}
    _refuse_missing(chosen, keys, row_of)
    if len(row_of) < len(names):
        wanted, seen = set(keys), set[str]()
        for name in names:
            if name in seen and name in wanted:
                raise ConfigError(f"keys= holds {name!r} twice; which row is meant is not known.")
            seen.add(name)
    return np.array([row_of[key] for key in keys], dtype=np.int64).reshape(chosen.ids_EK.shape)


def _refuse_missing(chosen: Chosen, keys: list[str], row_of: dict[str, int]) -> None:
    missing = sorted({key for key in keys if key not in row_of})
    if missing:
        shown = ", ".join(repr(key) for key in missing[:_SHOWN])
        also = ", ..." if len(missing) > _SHOWN else ""
        raise ConfigError(
            f"{len(missing):,} of {len(set(keys)):,} keys of {chosen.origin} are not among the "
            f"{len(row_of):,} of the dataset: {shown}{also} (the dataset's are like "
            f"{next(iter(row_of), None)!r}); give names as the run wrote them."
        )
