"""Observations: what training saw of each example, collected by the trainer at no extra pass.

Shape letters: N pool, K visited.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """The memory of a run, one row per pool row.

    Attributes:
        visits_N: int64, training visits.
        last_loss_N: float32, cross-entropy at the last visit (nats); NaN before the first.
        margin_sum_N: float32, sum over visits of z_y - max other z (AUM = sum / visits; Pleiss
            et al., NeurIPS 2020).
        correct_N: int8, 1 right, 0 wrong at the last visit, -1 before the first.
        forgotten_N: int64, correct-to-wrong transitions (Toneva et al., ICLR 2019).
    """

    visits_N: Tensor
    last_loss_N: Tensor
    margin_sum_N: Tensor
    correct_N: Tensor
    forgotten_N: Tensor

    @staticmethod
    def none(num_examples: int) -> Observations:
        """Return the memory before the first visit."""
        return Observations(
            visits_N=torch.zeros(num_examples, dtype=torch.int64),
            last_loss_N=torch.full((num_examples,), torch.nan),
            margin_sum_N=torch.zeros(num_examples),
            correct_N=torch.full((num_examples,), -1, dtype=torch.int8),
            forgotten_N=torch.zeros(num_examples, dtype=torch.int64),
        )

    def take(self, row_K: Tensor) -> Observations:
        """Return the memory of some rows."""
        return Observations(
            visits_N=self.visits_N[row_K],
            last_loss_N=self.last_loss_N[row_K],
            margin_sum_N=self.margin_sum_N[row_K],
            correct_N=self.correct_N[row_K],
            forgotten_N=self.forgotten_N[row_K],
        )

    def after_epoch(
        self, row_K: Tensor, loss_K: Tensor, margin_K: Tensor, correct_K: Tensor
    ) -> Observations:
        """Return the memory after one epoch over distinct rows.

        Rows of one epoch are distinct, so neither batch order nor rank matters.
        """
        correct_K = correct_K.to(torch.int8)
        forgot_K = (self.correct_N[row_K] == 1) & (correct_K == 0)
        return Observations(
            visits_N=self.visits_N.index_add(0, row_K, torch.ones_like(row_K)),
            last_loss_N=self.last_loss_N.index_copy(0, row_K, loss_K.float()),
            margin_sum_N=self.margin_sum_N.index_add(0, row_K, margin_K.float()),
            correct_N=self.correct_N.index_copy(0, row_K, correct_K),
            forgotten_N=self.forgotten_N.index_add(0, row_K, forgot_K.to(torch.int64)),
        )
