"""CORDS's greedy by 15 blocks, rebuilt from its description as a peer to measure against.

Killamsetty et al., GLISTER, AAAI 2021, and the published implementation (`RGreedy`, linear_layer):
gradients are expanded to C x (H + 1) numbers a row, the rows that are left are copied at every
block, sorted as a whole, and the validation gradients are expanded anew after every block.
Shape letters: N rows, V validation, C classes, H embedding width, K picks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from raysubset.core.factors import GradientFactors
from raysubset.core.lookahead import Lookahead

PEER_BLOCKS = 15


def expanded(factors: GradientFactors) -> Tensor:
    """Return every gradient in full, bias first, as CORDS keeps them. Shape: (N, C + C * H)."""
    return _expanded(factors.residual_NC, factors.embedding_NH)


def by_blocks(gradient_NG: Tensor, look: Lookahead, step: float, picks: int) -> list[int]:
    """Return CORDS's picks: 15 blocks, and one more where the budget is no multiple of 15."""
    size = max(1, picks // PEER_BLOCKS)
    left_N = torch.arange(len(gradient_NG), device=gradient_NG.device)
    total_G = gradient_NG.new_zeros(gradient_NG.shape[1])
    rows: list[int] = []
    while len(rows) < picks:
        gain_N = gradient_NG[left_N] @ _direction(look, total_G, step)
        order_N = torch.sort(gain_N, descending=True).indices
        block_B = left_N[order_N[:size]]
        keep_N = torch.ones_like(left_N, dtype=torch.bool)
        keep_N[order_N[:size]] = False
        left_N = left_N[keep_N]
        rows += block_B.tolist()
        total_G = total_G + gradient_NG[block_B].sum(0)
    return rows


def _direction(look: Lookahead, total_G: Tensor, step: float) -> Tensor:
    """Return the mean of the validation gradients, each expanded, at the look-ahead."""
    classes = look.logits_VC.shape[1]
    weight_CH = total_G[classes:].view(classes, -1)
    moved_VC = look.logits_VC - step * (total_G[:classes] + look.embedding_VH @ weight_CH.T)
    residual_VC = moved_VC.softmax(1) - one_hot(look.label_V, classes)
    return _expanded(residual_VC, look.embedding_VH).mean(0)


def _expanded(residual_NC: Tensor, embedding_NH: Tensor) -> Tensor:
    outer_NCH = residual_NC[:, :, None] * embedding_NH[:, None]
    return torch.cat([residual_NC, outer_NCH.flatten(1)], dim=1)
