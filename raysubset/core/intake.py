"""What a person hands in (numpy array, torch tensor, list) becomes a checked tensor here.

Shape letters: N rows, C classes, H embedding width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from raysubset.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    ArrayLike = Tensor | np.ndarray | Sequence[float] | Sequence[int] | Sequence[Sequence[float]]

_FIRST = 10


def matrix(value: ArrayLike, name: str) -> Tensor:
    """Return a finite floating matrix; 16-bit stays 16-bit, integers become float32."""
    tensor = _tensor(value, name)
    if tensor.ndim != 2:
        raise DataError(f"{name} has shape {tuple(tensor.shape)}; it must have two dimensions.")
    if not len(tensor):
        raise DataError(f"{name} has no rows; give at least one example.")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    refuse_non_finite(tensor, name)
    return tensor


def vector(value: ArrayLike, name: str) -> Tensor:
    """Return a finite floating vector."""
    tensor = _tensor(value, name)
    if tensor.ndim != 1:
        raise DataError(f"{name} has shape {tuple(tensor.shape)}; it must have one dimension.")
    if not tensor.is_floating_point():
        tensor = tensor.to(torch.float32)
    refuse_non_finite(tensor[:, None], name)
    return tensor


def labels(value: ArrayLike, num_rows: int, num_classes: int, name: str) -> Tensor:
    """Return int64 labels in 0..C-1, one per row; anything else is refused with its rows."""
    tensor = _integers(value, name)
    if tensor.shape != (num_rows,):
        raise DataError(
            f"{name} has shape {tuple(tensor.shape)} for {num_rows:,} rows; give one label per row."
        )
    bad = ((tensor < 0) | (tensor >= num_classes)).nonzero().flatten()
    if len(bad):
        rows = _first(bad)
        raise DataError(
            f"{name} holds {int(tensor[bad[0]])} at row {rows[0]}; labels must lie in "
            f"0..{num_classes - 1} (rows: {rows}). Number the classes from 0."
        )
    return tensor


def row_ids(value: ArrayLike | None, num_rows: int) -> Tensor:
    """Return distinct int64 ids, one per row; None numbers the rows from 0."""
    if value is None:
        return torch.arange(num_rows)
    tensor = _integers(value, "ids")
    if tensor.shape != (num_rows,):
        raise DataError(
            f"ids has shape {tuple(tensor.shape)} for {num_rows:,} rows; give one id per row."
        )
    ordered = torch.sort(tensor).values
    if len(ordered) and int(ordered[0]) < 0:
        raise DataError(f"ids holds {int(ordered[0])}; an id is a row number, from 0.")
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise DataError(f"ids holds {int(twice[0])} more than once; an id names one example.")
    return tensor


def head(weight_CH: ArrayLike, bias_C: ArrayLike, width: int) -> tuple[Tensor, Tensor]:
    """Return the head's weight and bias after checking that they fit the embeddings."""
    weight, bias = matrix(weight_CH, "weight_CH"), vector(bias_C, "bias_C")
    if weight.shape[1] != width:
        raise ModelError(
            f"weight_CH is {weight.shape[1]} wide and the embeddings are {width} wide; "
            "both must come from the same layer."
        )
    if bias.shape[0] != weight.shape[0]:
        raise ModelError(
            f"bias_C has {bias.shape[0]} entries for {weight.shape[0]} classes; give one a class "
            "(zeros for a head without bias)."
        )
    return weight, bias


def refuse_non_finite(tensor_NH: Tensor, name: str) -> None:
    """Raise `DataError` naming the first ten rows that hold NaN or infinity."""
    # One sum finds any NaN or inf at a fraction of the cost of a mask over everything.
    if bool(torch.isfinite(tensor_NH.sum(dtype=torch.float64))):
        return
    bad = (~torch.isfinite(tensor_NH)).any(dim=1).nonzero().flatten()
    if len(bad):
        raise DataError(
            f"{name} holds NaN or infinity in {len(bad):,} rows, first rows "
            f"{_first(bad)}; repair or drop them before selecting."
        )


def _first(row_N: Tensor) -> list[int]:
    return row_N[:_FIRST].cpu().numpy().tolist()


def _tensor(value: ArrayLike, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} has type {array.dtype}; it must hold numbers, none missing.")
    # torch takes neither negative strides nor foreign byte orders, and warns about read-only
    # memory (Ray's zero-copy arrays) although nothing here writes to it.
    plain = array.flags.writeable and array.dtype.isnative and min(array.strides, default=0) >= 0
    return torch.as_tensor(array if plain else array.astype(array.dtype.newbyteorder("=")))


def _integers(value: ArrayLike, name: str) -> Tensor:
    tensor = _tensor(value, name)
    if tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise DataError(f"{name} has type {tensor.dtype}; it must hold whole numbers (int64).")
    return tensor.to(torch.int64)
