"""What a number of seeds can show before any run, and how many more it takes after some."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from raysubset.errors import ConfigError
from raysubset.evidence.decision import MIN_SEEDS
from raysubset.evidence.intake import (
    Values,
    check_drop,
    check_error_rate,
    checked_values,
    points,
)
from raysubset.evidence.intervals import deviation

_CERTAIN = 1e4  # a noncentrality beyond any threshold; scipy's noncentral t is NaN from about 1e10


def power(n: int, spread: float, max_drop: float, true_loss: float, level: float = 0.05) -> float:
    """Return the chance that n seeds certify a true loss within the drop; 0 below MIN_SEEDS.

    Exact for normal differences: the statistic is noncentral t with n - 1 degrees of freedom and
    noncentrality (max_drop - true_loss) / (spread / sqrt(n)).

    Args:
        n: pairs of seeds.
        spread: standard deviation of paired differences.
        max_drop: the accuracy that may be lost.
        true_loss: full's accuracy minus the fraction's; negative where the fraction is better.
        level: the largest share of false claims.
    """
    if n < MIN_SEEDS:
        return 0.0
    return float(_power(np.array([n]), spread, max_drop, true_loss, level)[0])


def seeds_needed(
    spread: float,
    max_drop: float,
    loss: float,
    level: float = 0.05,
    power: float = 0.8,
    most: int = 1000,
) -> int | None:
    """Return the fewest seeds that certify the loss in `power` of cases.

    None where the loss is not inside the drop, or where it takes more than `most`.
    """
    if not 0 < power < 1:
        raise ConfigError(f"power={power:g} must lie in (0, 1); 0.8 is customary.")
    if loss >= check_drop(max_drop):
        return None
    n_T = np.arange(MIN_SEEDS, most + 1)
    enough = np.flatnonzero(_power(n_T, spread, max_drop, loss, level) >= power)
    return int(n_T[enough[0]]) if enough.size else None


def more_seeds(
    difference_S: Values,
    max_drop: float,
    level: float = 0.05,
    power: float = 0.8,
    resolution: float = 0.0,
) -> int | None:
    """Return how many more seeds it takes if the observed loss and spread are the true ones.

    0 where there are enough already; None where more seeds cannot be expected to help.
    """
    sorted_S = checked_values(difference_S, "differences")
    if len(sorted_S) < 2:
        raise ConfigError("1 seed shows no spread; give at least 2 differences.")
    spread, loss = deviation(sorted_S, resolution), -float(sorted_S.mean())
    needed = seeds_needed(spread, max_drop, loss, level, power)
    return None if needed is None else max(0, needed - len(sorted_S))


def plan_sentence(
    n: int, spread: float, max_drop: float, true_loss: float, level: float = 0.05
) -> str:
    """Return what n seeds can detect, for a person and before any run."""
    if n < MIN_SEEDS:
        return f"{n} seed{'s' * (n != 1)}: below {MIN_SEEDS} nothing is decided, only means printed"
    share = power(n, spread, max_drop, true_loss, level)
    return (
        f"{n} seeds, spread {points(spread)}: a true loss of {points(true_loss)} points is "
        f"certified within {points(max_drop)} in {100 * share:.0f} % of cases"
    )


def _power(
    n_T: np.ndarray, spread: float, max_drop: float, true_loss: float, level: float
) -> np.ndarray:
    """Return the power at each number of seeds. Shape: (T,) -> (T,)."""
    if not (math.isfinite(spread) and spread > 0):
        raise ConfigError(
            f"spread={spread:g} must be above 0: equal differences over a few seeds are no "
            "certainty; take at least 0.5 / test_examples."
        )
    if not -1 <= true_loss <= 1:
        raise ConfigError(f"true_loss={true_loss:g} must be a share in [-1, 1], 0.01 for a point.")
    shift_T = (check_drop(max_drop) - true_loss) / spread * np.sqrt(n_T)
    shift_T = np.clip(shift_T, -_CERTAIN, _CERTAIN)
    threshold_T = stats.t.isf(check_error_rate(level), n_T - 1)
    return stats.nct.sf(threshold_T, n_T - 1, shift_T)
