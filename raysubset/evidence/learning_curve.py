"""The learning curve of random subsets: error = floor + scale * n ** -exponent.

Cortes et al., "Learning curves: asymptotic values and rate of convergence", NeurIPS 1993.
Shape letters: S sizes, D draws of the means, G exponents that are tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raysubset.errors import ConfigError, DataError
from raysubset.evidence.decision import MIN_SEEDS
from raysubset.evidence.intake import FloatArray, Values, checked_values
from raysubset.evidence.intervals import Interval, mean_interval

MIN_SIZES = 3
"""A curve has three numbers; its check takes one size more."""
LEAST, MOST = 0.02, 3.0
"""Bounds of the exponent; measured ones lie between 0.05 and 1."""
_TRIED, _REFINED = 120, (21, 21, 21)


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """An error that falls with the number of examples, down to a floor.

    Attributes:
        floor: the error that no number of examples removes, at least 0.
        scale: what is added at one example, at least 0.
        exponent: how fast that shrinks.
    """

    floor: float
    scale: float
    exponent: float

    def error(self, size: float) -> float:
        """Return the error at a number of examples."""
        return self.floor + self.scale * size**-self.exponent

    def size_for(self, error: float) -> float:
        """Return the number of examples with this error; inf where the curve flattens above it."""
        if error <= self.floor or not self.scale:
            return math.inf
        # In logarithms: the quotient to the power of 1 / 0.02 overflows, its logarithm does not.
        log_size = (math.log(self.scale) - math.log(error - self.floor)) / self.exponent
        return math.exp(log_size) if log_size < 700 else math.inf


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The largest size against the curve of all smaller ones.

    Attributes:
        size: the largest size.
        predicted: its error by the curve that has not seen it.
        predicted_half: the longer side of its bootstrap interval; NaN below 3 seeds at any size.
        measured: its error over seeds, with the interval.
        held: whether the two differ by no more than both halves explain; None if one is NaN.
    """

    size: int
    predicted: float
    predicted_half: float
    measured: Interval
    held: bool | None


@dataclass(frozen=True, kw_only=True)
class Means:
    """Mean errors by size, and how sure each is.

    Attributes:
        size_S: numbers of examples, ascending.
        mean_S: over seeds.
        variance_S: of the mean: a size's own and the pooled variance, half each, over its seeds.
            Three seeds that happen to agree would otherwise pull the curve through their size.
        residual_S: per size, its values less their mean, in standard deviations of a value.
    """

    size_S: FloatArray
    mean_S: FloatArray
    variance_S: FloatArray
    residual_S: tuple[FloatArray, ...]

    @staticmethod
    def of(sizes: Sequence[int], error_by_size: Mapping[int, Values]) -> Means:
        """Return the means of the given sizes after checking that a curve can go through them."""
        order = sorted(set(sizes))
        _check_sizes(order, error_by_size)
        values_S = [checked_values(error_by_size[n], f"errors at {n:,}") for n in order]
        for size, values in zip(order, values_S, strict=True):
            if values[0] < 0 or values[-1] > 1:
                raise DataError(f"errors at {size:,} leave [0, 1]; give 1 - accuracy, as a share.")
        variance_S = _variances(values_S)
        return Means(
            size_S=np.array(order, dtype=np.float64),
            mean_S=np.array([v.mean() for v in values_S]),
            variance_S=variance_S / np.array([len(v) for v in values_S]),
            residual_S=tuple(
                (v - v.mean()) / math.sqrt(d) for v, d in zip(values_S, variance_S, strict=True)
            ),
        )


def fit_curve(sizes: Sequence[int], error_by_size: Mapping[int, Values]) -> PowerLaw:
    """Return the power law nearest to the mean errors, weighted by their spread over seeds.

    Args:
        sizes: numbers of examples that take part, at least 3 distinct ones.
        error_by_size: test error (1 - accuracy) per seed, by number of examples.
    """
    means = Means.of(sizes, error_by_size)
    law_D3 = fit_many(means.size_S, means.mean_S[None], 1 / means.variance_S)
    floor, scale, exponent = (float(number) for number in law_D3[0])
    return PowerLaw(floor=floor, scale=scale, exponent=exponent)


def check_curve(
    error_by_size: Mapping[int, Values], resolution: float = 0.0, seed: int = 0
) -> LeftOut:
    """Return how well the curve of all smaller sizes predicts the largest, at 95 %.

    Args:
        error_by_size: test error per seed, by number of examples; at least 4 of these.
        resolution: 1 / test_examples, see `deviation`.
        seed: of the bootstrap.
    """
    *smaller, largest = _checkable(error_by_size)
    predicted = fit_curve(smaller, error_by_size).error(largest)
    law_D3 = drawn_laws(smaller, error_by_size, tail=0.025, seed=seed)
    half = math.nan
    if len(law_D3):
        error_D = law_D3[:, 0] + law_D3[:, 1] * float(largest) ** -law_D3[:, 2]
        low, high = np.quantile(error_D, [0.025, 0.975])
        half = float(max(high - predicted, predicted - low))
    measured = mean_interval(error_by_size[largest], resolution=resolution)
    allowed = math.hypot(half, measured.half)
    return LeftOut(
        size=largest,
        predicted=predicted,
        predicted_half=half,
        measured=measured,
        held=None if math.isnan(allowed) else abs(predicted - measured.mean) <= allowed,
    )


def drawn_laws(
    sizes: Sequence[int],
    error_by_size: Mapping[int, Values],
    tail: float,
    seed: int,
    draws: int = 1000,
) -> FloatArray:
    """Return the curve of every bootstrap draw over seeds; none below 3 seeds at any size.

    A draw moves each mean by residuals from all sizes together, in standard deviations of its
    own size: three seeds alone have too few to draw from (Davison and Hinkley, 1997, chapter 6).
    Residuals are stretched by sqrt(n / (n - 1)), because a mean was taken from them, and by
    Student's quantile over the normal one, because their spread was estimated.

    Args:
        sizes: numbers of examples that take part.
        error_by_size: test error per seed, by number of examples.
        tail: the quantile that the draws are for, 0.025 for an interval of 95 %.
        seed: of the draws.
        draws: D.

    Shape: (D, 3), or (0, 3).
    """
    if any(len(error_by_size[size]) < MIN_SEEDS for size in sizes):
        return np.empty((0, 3))
    means, rng = Means.of(sizes, error_by_size), np.random.default_rng(seed)
    count_S = np.array([len(residual) for residual in means.residual_S])
    pool, free = np.concatenate(means.residual_S), int((count_S - 1).sum())
    pool = pool * math.sqrt(len(pool) / free) * stats.t.isf(tail, free) / stats.norm.isf(tail)
    move_DS = np.stack([rng.choice(pool, (draws, n)).mean(axis=1) for n in count_S], axis=1)
    mean_DS = np.maximum(means.mean_S + move_DS * np.sqrt(means.variance_S * count_S), 0.0)
    return fit_many(means.size_S, mean_DS, 1 / means.variance_S)


def fit_many(size_S: FloatArray, mean_DS: FloatArray, weight_S: FloatArray) -> FloatArray:
    """Return floor, scale and exponent of the least weighted squares for every row of means.

    At a given exponent the best floor and scale are a formula, so the search is over one number:
    a grid, then finer ones around its best. No start, no failure, and a bootstrap is one call;
    it finds the minimum of `scipy.optimize.least_squares` with bounds (see the test).

    Shape: (S,), (D, S), (S,) -> (D, 3).
    """
    ratio_S, weight_S = size_S / size_S[-1], weight_S / weight_S.sum()
    log_DG = np.linspace(math.log(LEAST), math.log(MOST), _TRIED)[None]
    step = log_DG[0, 1] - log_DG[0, 0]
    floor_D, slope_D, log_D = _best(ratio_S, mean_DS, weight_S, log_DG)
    for tried in _REFINED:
        log_DG = np.clip(
            log_D[:, None] + step * np.linspace(-1, 1, tried), math.log(LEAST), math.log(MOST)
        )
        floor_D, slope_D, log_D = _best(ratio_S, mean_DS, weight_S, log_DG)
        step *= 2 / (tried - 1)
    exponent_D = np.exp(log_D)
    return np.stack([floor_D, slope_D * size_S[-1] ** exponent_D, exponent_D], axis=1)


def _best(
    ratio_S: FloatArray, mean_DS: FloatArray, weight_S: FloatArray, log_DG: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return floor, slope and log exponent of the best of G exponents. Shape: each (D,)."""
    basis_DGS = ratio_S ** -np.exp(log_DG)[..., None]
    floor_DG, slope_DG = _line(basis_DGS, mean_DS[:, None], weight_S)
    miss_DGS = mean_DS[:, None] - floor_DG[..., None] - slope_DG[..., None] * basis_DGS
    best_D = (miss_DGS**2 @ weight_S).argmin(axis=1)
    row_D = np.arange(len(mean_DS))
    log_DG = np.broadcast_to(log_DG, floor_DG.shape)
    return floor_DG[row_D, best_D], slope_DG[row_D, best_D], log_DG[row_D, best_D]


def _line(
    basis_DGS: FloatArray, mean_D1S: FloatArray, weight_S: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return floor and slope, both at least 0, of the weighted least squares. Shape: (D, G)."""
    basis_DG, mean_D1 = basis_DGS @ weight_S, mean_D1S @ weight_S
    centred_DGS = basis_DGS - basis_DG[..., None]
    slope_DG = ((centred_DGS * mean_D1S) @ weight_S) / (centred_DGS**2 @ weight_S)
    slope_DG = np.maximum(slope_DG, 0.0)
    floor_DG = mean_D1 - slope_DG * basis_DG
    without_DG = ((basis_DGS * mean_D1S) @ weight_S) / (basis_DGS**2 @ weight_S)
    below_DG = floor_DG < 0
    return np.where(below_DG, 0.0, floor_DG), np.where(below_DG, without_DG, slope_DG)


def _variances(values_S: Sequence[FloatArray]) -> FloatArray:
    """Return the variance of a value at each size: own and pooled half each, pooled for one seed.

    Without any spread all sizes weigh alike, by a variance that says nothing: 1. Shape: (S,).
    """
    free_S = np.array([len(v) - 1 for v in values_S])
    square_S = np.array([((v - v.mean()) ** 2).sum() for v in values_S])
    pooled = square_S.sum() / max(1, free_S.sum())
    if not pooled:
        return np.ones(len(values_S))
    own_S = square_S / np.maximum(1, free_S)
    return np.where(free_S > 0, (own_S + pooled) / 2, pooled)


def _checkable(error_by_size: Mapping[int, Values]) -> list[int]:
    if len(error_by_size) <= MIN_SIZES:
        raise ConfigError(
            f"{len(error_by_size)} sizes {sorted(error_by_size)} leave too few for a curve without "
            f"the largest; run at least {MIN_SIZES + 1} fractions."
        )
    return sorted(error_by_size)


def _check_sizes(order: Sequence[int], error_by_size: Mapping[int, Values]) -> None:
    if len(order) < MIN_SIZES or order[0] < 1:
        raise ConfigError(
            f"sizes={list(order)} give no curve; it takes at least {MIN_SIZES} distinct numbers "
            "of examples, each at least 1: run more fractions."
        )
    missing = [size for size in order if size not in error_by_size]
    if missing:
        raise ConfigError(f"sizes {missing} have no errors; measured are {sorted(error_by_size)}.")
