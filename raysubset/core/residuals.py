"""Residuals of losses other than the softmax cross-entropy: dL/dz of a head's outputs z = W h + b.

For any loss that is a sum over outputs, an example's gradient of the head is r (outer) [h; 1] with
r = dL/dz, so `GradientFactors.from_residuals` takes these as they are. The look-ahead does not: its
validation loss is the softmax cross-entropy (`Lookahead` refuses other heads), so GLISTER is for
that one, and for one logit, whose sigmoid cross-entropy is the softmax's of (0, z).
Shape letters: N examples, C outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysubset.errors import DataError


def sigmoid_residual(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Return r = sigmoid(z) - y of the sigmoid cross-entropy, for one logit or many labels.

    L = -sum_c [y_c log s(z_c) + (1 - y_c) log(1 - s(z_c))] and s' = s (1 - s), so dL/dz = s(z) - y.
    Targets are 0 or 1, or shares between them. Shapes: (N, C), (N, C) -> (N, C); (N,) is (N, 1).

        r = sigmoid_residual(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))  # 0.5, -0.5

    Raises:
        DataError: shapes that differ, values that are not finite, or targets outside [0, 1].
    """
    logits_NC, target_NC = _pair(logits_NC, target_NC)
    outside = ((target_NC < 0) | (target_NC > 1)).any(1).nonzero().flatten()
    if len(outside):
        raise DataError(
            f"target_NC lies outside [0, 1] in {len(outside):,} rows, first row "
            f"{int(outside[0])}; give 0 or 1 for each label, or a share"
        )
    return torch.sigmoid(logits_NC) - target_NC


def squared_error_residual(output_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Return r = z - y of half the squared error, L = |z - y|^2 / 2, for regression.

    `torch.nn.MSELoss` is 2 / C times it, which scales every gradient alike and no choice.
    Shapes: (N, C), (N, C) -> (N, C); (N,) is (N, 1).

        r = squared_error_residual(torch.tensor([3.0]), torch.tensor([1.0]))  # [[2.0]]

    Raises:
        DataError: shapes that differ, or values that are not finite.
    """
    output_NC, target_NC = _pair(output_NC, target_NC)
    return output_NC - target_NC


def _pair(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float32 at least, of one shape (N, C)."""
    wide = torch.promote_types(torch.float32, output.dtype)
    pair = [t.to(wide).reshape(len(t), -1) if t.ndim == 1 else t.to(wide) for t in (output, target)]
    output_NC, target_NC = pair
    if output_NC.ndim != 2 or output_NC.shape != target_NC.shape:
        raise DataError(
            f"outputs of shape {tuple(output.shape)} and targets of shape {tuple(target.shape)} do "
            "not fit; give both as (examples, outputs)"
        )
    for name, tensor in (("the outputs", output_NC), ("target_NC", target_NC)):
        bad = (~torch.isfinite(tensor)).any(1).nonzero().flatten()
        if len(bad):
            raise DataError(
                f"{name} hold NaN or infinity in {len(bad):,} rows, first row {int(bad[0])}; "
                "repair or drop them"
            )
    return output_NC, target_NC
