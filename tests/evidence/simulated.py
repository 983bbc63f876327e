"""Simulated truth: rates of claims, and how far chance alone can move them."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

POINT = 0.01


def normal(seed: int, shape: tuple[int, ...], mean: float, spread: float) -> NDArray[np.float64]:
    """Return differences, or accuracies, of a known truth. Shape: as asked."""
    return np.random.default_rng(seed).normal(mean, spread, shape)


def share(claim: Callable[[NDArray[np.float64]], bool], cases: Iterable[NDArray[np.float64]]):
    """Return in which share of the cases something is claimed."""
    return float(np.mean([claim(case) for case in cases]))


def chance_error(rate: float, num_cases: int) -> float:
    """Return three standard errors of a rate: 1 of 700 fixed seeds would go beyond."""
    return 3 * float(np.sqrt(rate * (1 - rate) / num_cases))
