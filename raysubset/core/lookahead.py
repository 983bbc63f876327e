"""The look-ahead: the validation set's logits after an imagined step of the head.

Source: Killamsetty et al., "GLISTER", AAAI 2021 (arXiv 2012.10630), section 4: the inner problem
is replaced by one gradient step of the last layer, W_S = W - step * sum of g_i over S.
S enters only through the sum of its gradients, one C x (H+1) matrix.
Shape letters: V validation examples, C classes, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from raysubset.core import intake
from raysubset.core.factors import logits_of, residual_of
from raysubset.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from raysubset.core.intake import ArrayLike

# step_size="auto" looks at these, and only these: a fixed grid makes the choice reproducible.
STEP_GRID = tuple(1e-3 * 2.0**k for k in range(18))


def overflowed(step: float) -> ConfigError:
    """Return the error of a look-ahead that is no longer finite at this step per pick."""
    return ConfigError(
        f"the look-ahead overflowed at a step of {step:g} per pick; lower step_size."
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookahead:
    """The validation set as the head sees it.

    Attributes:
        embedding_VH: the head's input.
        label_V: int64 in 0..C-1.
        logits_VC: the head's output at the present weights.
    """

    embedding_VH: Tensor
    label_V: Tensor
    logits_VC: Tensor

    @classmethod
    def from_embeddings(
        cls, embedding_VH: ArrayLike, label_V: ArrayLike, weight_CH: ArrayLike, bias_C: ArrayLike
    ) -> Lookahead:
        """Return the look-ahead of a validation set whose embeddings and head are given.

        Shapes: (V, H), (V,), (C, H), (C,). numpy or torch. Errors as `GradientFactors`.
        """
        embedding = intake.matrix(embedding_VH, "embedding_VH")
        weight, bias = intake.head(weight_CH, bias_C, embedding.shape[1])
        if len(weight) == 1:
            raise ModelError(
                "weight_CH has one row: the look-ahead's loss is the softmax cross-entropy, which "
                "needs a row a class. One logit of two classes is the rows (zeros, it); for a "
                "regression head there is no look-ahead."
            )
        label = intake.labels(label_V, len(embedding), len(weight), "label_V")
        logits = logits_of(embedding, weight, bias)
        intake.refuse_non_finite(logits, "the logits of embedding_VH")
        return cls(
            embedding_VH=embedding.to(logits.dtype),
            label_V=label.to(embedding.device),
            logits_VC=logits,
        )

    @classmethod
    def from_labels(cls, label_V: ArrayLike, num_classes: int) -> Lookahead:
        """Return a look-ahead that knows the class shares only, for strategies without factors."""
        label = intake.labels(label_V, len(label_V), num_classes, "label_V")
        empty = torch.zeros(len(label), 0)
        logits = torch.zeros(len(label), 1).expand(-1, num_classes)
        return cls(embedding_VH=empty, label_V=label, logits_VC=logits)

    @property
    def class_count_C(self) -> list[int]:
        """How many validation examples each class has."""
        count = torch.bincount(self.label_V, minlength=self.logits_VC.shape[1])
        return count.cpu().numpy().tolist()

    def bias_only(self) -> Lookahead:
        """Return the look-ahead along the bias alone: the embedding has width 0."""
        return Lookahead(
            embedding_VH=self.embedding_VH[:, :0], label_V=self.label_V, logits_VC=self.logits_VC
        )

    def shift(self, gradient_sum: Tensor) -> Tensor:
        """Return A G^T: how the logits move per unit step along -G. (C, H+1) -> (V, C)."""
        gradient_sum = gradient_sum.to(self.logits_VC)
        return self.embedding_VH @ gradient_sum[:, :-1].T + gradient_sum[:, -1]

    def moved_logits(self, gradient_sum: Tensor, step: float) -> Tensor:
        """Return the logits of the head W - step * G. Shape: (C, H+1) -> (V, C)."""
        return self.logits_VC - step * self.shift(gradient_sum)

    def direction(self, logits_VC: Tensor) -> Tensor:
        """Return D, the mean validation gradient of the head at these logits. (V, C) -> (C, H+1).

        D = (1/V) R_V^T [A_V, 1]; the gain of an example is <g, D>.
        """
        residual_VC = residual_of(logits_VC, self.label_V) / len(self.label_V)
        weight_part = residual_VC.T @ self.embedding_VH
        return torch.cat([weight_part, residual_VC.sum(0)[:, None]], dim=1)

    def loss(self, logits_VC: Tensor) -> float:
        """Return the mean cross-entropy (nats per example) at these logits."""
        return float(cross_entropy(logits_VC, self.label_V))

    def best_step(self, mean_gradient: Tensor) -> float:
        """Return the step of `STEP_GRID` with the smallest validation loss along -mean gradient.

        Ties go to the smaller step. Shape: (C, H+1) -> dimensionless.
        """
        shift_VC = self.shift(mean_gradient)
        losses = [self.loss(self.logits_VC - step * shift_VC) for step in STEP_GRID]
        return STEP_GRID[losses.index(min(losses))]
