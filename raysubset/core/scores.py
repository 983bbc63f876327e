"""Scores: pure functions from gradient factors to one gain per example; a higher gain is better.

Shape letters: N examples, C classes, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.keys import uniform
from raysubset.errors import ModelError


class Score(Protocol):
    """An opinion about examples: factors -> gain_N."""

    def __call__(self, factors: GradientFactors) -> Tensor:
        """Return one gain per example. Shape: (N,)."""
        ...


@dataclass(frozen=True, eq=False)
class Alignment:
    """The first-order drop of the validation loss per unit step: gain = <g, D> = r^T D [h; 1].

    Attributes:
        direction: (C, H+1); or (C, 1), the bias part alone, and then the embedding is not read.
        normalize: rank by the cosine's numerator over |g|, so that large residuals do not win
            by their size; an example with a zero gradient gains 0.
    """

    direction: Tensor
    normalize: bool = False

    def __call__(self, factors: GradientFactors) -> Tensor:
        """Return <g, D> for every example, never expanding g. Shape: (N,)."""
        gain_N = _alignment(factors, self.direction)
        if not self.normalize:
            return gain_N
        norm_N = (factors.bias_only() if self.direction.shape[1] == 1 else factors).norm_N
        return torch.where(norm_N > 0, gain_N / norm_N, 0.0)


@dataclass(frozen=True)
class GradientNorm:
    """|g| = |r| |[h; 1]| (GraNd of the last layer; Paul et al., NeurIPS 2021)."""

    def __call__(self, factors: GradientFactors) -> Tensor:
        """Return the norm of every gradient. Shape: (N,)."""
        return factors.norm_N


@dataclass(frozen=True)
class ErrorNorm:
    """|p - y| (EL2N of one model; Paul et al., NeurIPS 2021)."""

    def __call__(self, factors: GradientFactors) -> Tensor:
        """Return the norm of every residual. Shape: (N,)."""
        return factors.bias_only().wide().residual_NC.square().sum(1).sqrt()


@dataclass(frozen=True)
class RandomKey:
    """A uniform number of (key, id): the top k are a uniform sample without replacement."""

    key: int

    def __call__(self, factors: GradientFactors) -> Tensor:
        """Return one float64 in [0, 1) per id. Shape: (N,)."""
        return uniform(factors.ids_N, self.key)


def _alignment(factors: GradientFactors, direction: Tensor) -> Tensor:
    _refuse_other_head(factors, direction)
    direction = direction.to(factors.residual_NC.device, factors.wide_type)
    if direction.shape[1] == 1:
        parts = [tile.residual_NC @ direction[:, 0] for tile in factors.bias_only().wide_tiles()]
    else:
        parts = [
            (t.residual_NC * (t.embedding_NH @ direction[:, :-1].T + direction[:, -1])).sum(1)
            for t in factors.wide_tiles()
        ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _refuse_other_head(factors: GradientFactors, direction: Tensor) -> None:
    mine = (factors.num_classes, factors.embedding_NH.shape[1])
    classes, width = direction.shape[0], direction.shape[1] - 1
    if classes != mine[0] or width not in (0, mine[1]):
        raise ModelError(
            f"the factors are of a head with {mine[0]} classes and {mine[1]} inputs, the "
            f"look-ahead of one with {classes} classes and {width} inputs; make both with the "
            "same head."
        )
