"""Rows for which a model gives NaN or infinity, and the error about them.

Shape letters: B rows of a range, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from raysubset.errors import TrainingDiverged

if TYPE_CHECKING:
    from raysubset.learn.scoring import RowRange


def rows_not_finite(logits_BC: Tensor) -> np.ndarray | None:
    """Return the mask of rows that hold NaN or infinity; None where none does."""
    if bool(logits_BC.sum().isfinite()):
        return None  # no sum over a NaN or an infinity is finite; this reads the logits once
    bad_B = (~torch.isfinite(logits_BC)).any(1).cpu().numpy()
    return bad_B if bad_B.any() else None


def diverged(rows: RowRange, bad_B: np.ndarray) -> TrainingDiverged:
    """Return the error about rows for which the model gives NaN or infinity."""
    bad, good = rows.ids[bad_B], int((~bad_B).sum())
    remedy = "lower --training.lr or set --training.clip_norm."
    if good and rows.part == "pool":
        remedy = (
            f"beside them it gives numbers for {good}, so look at these rows, or leave such rows "
            f"out of the choice with --data.on_bad_row skip. If the training diverged, {remedy}"
        )
    return TrainingDiverged(
        f"the model gives NaN or infinity for {len(bad)} rows of {rows.part}, first ids "
        f"{bad[:10].tolist()}; {remedy}"
    )
