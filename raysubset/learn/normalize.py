"""Normalisation: content as stored in, float32 with mean 0 and spread 1 over the pool out.

Shape letters of content: B batch, C channels, H height, W width, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysubset.errors import DataError

_CHUNK_VALUES = 1 << 20  # 8 MB of float64 at a time, whatever the pool's size

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalize:
    """Subtract the pool's mean and divide by its standard deviation, per channel or feature."""

    mean: Tensor
    """float32, (C, 1, 1) for images, (F,) for tables."""

    std: Tensor
    """float32, the mean's shape, never 0."""

    def __call__(self, content_B: Tensor) -> Tensor:
        """Return the content as float32, normalised; its own values stay as they are."""
        wide_B = content_B.to(torch.float32)
        centred_B = wide_B.sub(self.mean) if wide_B is content_B else wide_B.sub_(self.mean)
        return centred_B.div_(self.std)

    def none(self) -> Normalize:
        """Return what changes no value, for content of the same shape."""
        return Normalize(mean=torch.zeros_like(self.mean), std=torch.ones_like(self.std))

    def to(self, device: torch.device | str) -> Normalize:
        """Return the same normalisation on `device`."""
        return Normalize(mean=self.mean.to(device), std=self.std.to(device))


def fit_normalize(content: np.ndarray) -> Normalize:
    """Return the normalisation of a pool's content: (N, C, H, W) images or (N, F) features.

    Moments are summed in float64 over fixed chunks and merged (Chan, Golub, LeVeque, 1983), so
    a feature far from zero keeps its spread. A feature that is constant to float32's precision gets
    std 1. Raises DataError for another shape, no rows, or values that are not finite.
    """
    axes = _reduced_axes(content)
    mean, std = _moments(content, axes)
    finite = np.isfinite(mean) & np.isfinite(std)
    if not finite.all():
        raise DataError(
            f"{'channels' if content.ndim == 4 else 'features'} "
            f"{np.flatnonzero(~finite)[:10].tolist()} hold NaN, infinite or too large values; "
            f"clean them, or drop the rows with data.on_bad_row"
        )
    shape = (-1, 1, 1) if content.ndim == 4 else (-1,)
    return Normalize(
        mean=torch.tensor(mean, dtype=torch.float32).reshape(shape),
        std=torch.tensor(std, dtype=torch.float32).reshape(shape),
    )


def _reduced_axes(content: np.ndarray) -> tuple[int, ...]:
    """Return the axes that the moments are taken over."""
    if content.ndim not in (2, 4) or content.shape[0] == 0:
        raise DataError(
            f"content of shape {content.shape} cannot be normalised; it must have rows, as images "
            f"(N, channels, height, width) or features (N, features)"
        )
    return (0,) if content.ndim == 2 else (0, 2, 3)


def _moments(content: np.ndarray, axes: tuple[int, ...]) -> tuple[_Floats, _Floats]:
    """Return mean and standard deviation, 1 where float32 could not tell the values apart."""
    rows = max(1, _CHUNK_VALUES // max(1, content[0].size))
    count, mean, squares = 0, np.zeros(content.shape[1]), np.zeros(content.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # the caller names what is not finite
        for start in range(0, len(content), rows):
            chunk = content[start : start + rows].astype(np.float64)
            added = chunk.size // content.shape[1]
            chunk_mean = chunk.mean(axis=axes, keepdims=True)
            chunk_squares = np.square(chunk - chunk_mean).sum(axis=axes)
            gap = chunk_mean.reshape(-1) - mean
            mean = mean + gap * (added / (count + added))
            squares = squares + chunk_squares + gap**2 * (count * added / (count + added))
            count += added
        std = np.sqrt(squares / count)
    single = np.finfo(np.float32)
    constant = (std <= np.abs(mean) * single.eps) | (std < single.tiny)
    return mean, np.where(constant, 1.0, std)
