"""The look-ahead while exact greedy moves it, pick by pick, class-major.

With a_v = [h_v; 1], P = softmax(Z) - onehot and Z the validation logits, all C x V: the direction
is D = P A / V, a pick i moves Z by -step * r_i (outer) k_i with its kernel column k_i = A a_i, and
a gain is <g_i, D> = r_i . (P k_i) / V: a candidate whose column is known needs no D.
Class-major, because a softmax over rows of C numbers costs ten times one over C rows.
Shape letters: M candidates, V validation examples, C classes, H embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from raysubset.core.lookahead import Lookahead


class MovingLookahead:
    """The validation logits at the picks so far, and what greedy reads off them.

    Attributes:
        residual_CV: P, the validation residuals at the picks so far.
        embedding_VH: the head's input, in the logits' type.
        step: dimensionless, per pick.
        size: the Frobenius norm of the head's inputs [A, 1].
    """

    def __init__(self, lookahead: Lookahead, step: float) -> None:
        """Start from a look-ahead's logits; they are copied."""
        self.step = step
        self.embedding_VH = lookahead.embedding_VH.to(lookahead.logits_VC.dtype)
        self._logits_CV = lookahead.logits_VC.T.contiguous().clone()
        target_VC = one_hot(lookahead.label_V, lookahead.logits_VC.shape[1])
        self._target_CV = target_VC.T.to(self._logits_CV.dtype).contiguous()
        self.residual_CV = torch.empty_like(self._logits_CV)
        self._nothing = self.residual_CV.new_zeros(())
        self._norm_V = (self.embedding_VH.square().sum(1) + 1).sqrt()
        self.size = float(torch.linalg.vector_norm(self._norm_V))
        self._settle()

    def direction(self) -> Tensor:
        """Return D, the mean validation gradient of the head at the picks so far. (C, H+1).

        Formed once between two picks.
        """
        if self._direction is None:
            weight_CH = self.mean(self.embedding_VH)
            bias_C = self.residual_CV.mean(1, keepdim=True)
            self._direction = torch.cat([weight_CH, bias_C], dim=1)
        return self._direction

    def mean(self, value_VX: Tensor) -> Tensor:
        """Return P times values of the validation examples, over V. Shape: (V, X) -> (C, X)."""
        share = 1 / self.residual_CV.shape[1]
        return torch.addmm(self._nothing, self.residual_CV, value_VX, beta=0, alpha=share)

    def columns(self, embedding_MH: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the kernel columns a_i . a_v of some candidates. Shape: (M, H) -> (M, V)."""
        wide_MH = embedding_MH.to(self.embedding_VH)
        return torch.mm(wide_MH, self.embedding_VH.T, out=out).add_(1)

    def mass(self) -> float:
        """Return sum_v |P_v| |a_v| / V: what the rounding errors of a direction are measured by."""
        # Squares of shares of the largest: vector_norm over a first axis takes ten times as long.
        largest = self.residual_CV.abs().max().clamp_min(torch.finfo(self.residual_CV.dtype).tiny)
        norm_V = (self.residual_CV / largest).square().sum(0).sqrt()
        return float(norm_V @ self._norm_V) * float(largest) / len(norm_V)

    def take(self, residual_C: Tensor, column_V: Tensor) -> None:
        """Move by a pick: its residual and its kernel column."""
        self._logits_CV.addr_(residual_C, column_V, alpha=-self.step)
        self._settle()

    def _settle(self) -> None:
        self._direction: Tensor | None = None
        # No scale before p - y: where a model is sure of its label, that difference is exact.
        torch.softmax(self._logits_CV, 0, out=self.residual_CV)
        self.residual_CV.sub_(self._target_CV)
