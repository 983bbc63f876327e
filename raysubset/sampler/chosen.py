"""What a sampler draws from: ids, as a round, a selection or a person gave them.

Shape letters: E epochs that have a slice of their own, K ids of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from raysubset.errors import ConfigError
from raysubset.strategies.selection import Selection

_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Ids in the order of choice, one slice for each epoch of its own.

    Attributes:
        ids_EK: int64, distinct within a slice.
        weights_EK: float32 for the loss; None where nothing weighs.
        origin: where they come from, for errors.
        key_of: id -> the person's own name of the row; None where there are no names.
    """

    ids_EK: np.ndarray
    weights_EK: np.ndarray | None
    origin: str
    key_of: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        """Refuse ids of which a pass would not visit each once."""
        if not self.ids_EK.size:
            raise ConfigError(f"{self.origin} holds no id; a sampler needs at least one.")
        if self.ids_EK.min() < 0:
            raise ConfigError(
                f"{self.origin} holds id {self.ids_EK.min():,}; ids are row numbers from 0 on."
            )
        for ids_K in self.ids_EK:
            if (twice := _first_repeat(ids_K)) is not None:
                raise ConfigError(
                    f"{self.origin} holds id {twice:,} more than once; a pass visits each id "
                    "once: give distinct ids (numpy.unique), and weights for what counts more."
                )


def of_selection(selection: Selection) -> Chosen:
    """Return what a selection chose."""
    shape = (selection.epochs, -1)
    weights = selection.weights
    return Chosen(
        ids_EK=np.array(selection.ids, dtype=np.int64).reshape(shape),
        weights_EK=None if weights is None else weights.astype(np.float32).reshape(shape),
        origin="the selection",
    )


def of_array(ids: Any) -> Chosen:
    """Return ids given as a sequence, an array or a tensor.

    Raises:
        ConfigError: no flat list of whole numbers.
    """
    values = np.asarray(ids.detach().cpu() if isinstance(ids, Tensor) else ids)
    if values.dtype == bool:
        raise ConfigError(
            f"the source is a mask of {values.size:,} truth values; give the ids it marks: "
            "numpy.flatnonzero(mask)."
        )
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise ConfigError(
            f"the source is {type(ids).__name__} of {values.dtype} with shape {values.shape}; give "
            "a run folder, a selection, or ids: a flat sequence of whole numbers."
        )
    if values.size and values.max() > _LARGEST:
        raise ConfigError(f"the source holds {values.max():,}, which is no int64 row number.")
    return Chosen(
        ids_EK=values.astype(np.int64)[None], weights_EK=None, origin="the sequence of ids"
    )


def _first_repeat(ids_K: np.ndarray) -> int | None:
    ordered = np.sort(ids_K)
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    return int(ordered[same[0]]) if len(same) else None
