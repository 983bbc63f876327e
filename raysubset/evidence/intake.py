"""What a caller hands in becomes checked numbers here, and shares become points for a sentence.

Shape letters: S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysubset.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
Values = Sequence[float] | FloatArray


def checked_values(value_S: Values, name: str) -> FloatArray:
    """Return finite values in ascending order, so that the order of seeds changes no digit."""
    array_S = np.asarray(value_S, dtype=np.float64)
    if array_S.ndim != 1 or not array_S.size:
        raise ConfigError(
            f"{name} has shape {array_S.shape}; give one value per seed, of at least one seed."
        )
    bad = np.flatnonzero(~np.isfinite(array_S))
    if bad.size:
        raise DataError(
            f"{name} holds {array_S[bad[0]]} at place {bad[0]}; "
            "repeat that run, or leave its seed out of every strategy."
        )
    return np.sort(array_S)


def check_confidence(level: float) -> float:
    """Return the share of intervals that hold the truth, if it lies in (0, 1)."""
    if not 0 < level < 1:
        raise ConfigError(f"level={level:g} must lie in (0, 1); 0.95 is customary.")
    return float(level)


def check_error_rate(level: float) -> float:
    """Return the share of false claims that is allowed, if it lies in (0, 0.5)."""
    if not 0 < level < 0.5:
        raise ConfigError(
            f"level={level:g} is the share of false claims and must lie in (0, 0.5); "
            "0.05 is customary."
        )
    return float(level)


def check_drop(max_drop: float) -> float:
    """Return the accuracy that may be lost, if it is a share in [0, 1)."""
    if 1 <= max_drop < 100:
        raise ConfigError(
            f"max_drop={max_drop:g} must lie in [0, 1); for {max_drop:g} points "
            f"did you mean {max_drop / 100:g}?"
        )
    if not 0 <= max_drop < 1:
        raise ConfigError(
            f"max_drop={max_drop:g} must lie in [0, 1): accuracy below full, 0.01 for a point."
        )
    return float(max_drop)


def check_resolution(resolution: float) -> float:
    """Return the step of an accuracy, if it lies in [0, 1]."""
    if not 0 <= resolution <= 1:
        raise ConfigError(
            f"resolution={resolution:g} must lie in [0, 1]: "
            "it is 1 / test_examples, the step in which an accuracy moves."
        )
    return float(resolution)


def points(share: float) -> str:
    """Return 100 x share with one decimal, or with two where the second says something."""
    text = f"{round(100 * share, 2) + 0.0:.2f}"  # + 0.0: no minus before a zero
    return text.removesuffix("0")


def per_cent(share: float) -> str:
    """Return a fraction as a person writes it: 0.05 is "5 %"."""
    return f"{100 * share:g} %"
