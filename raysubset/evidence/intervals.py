"""Means over seeds with their intervals, paired differences, and the word each one allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from raysubset.errors import ConfigError
from raysubset.evidence.intake import (
    FloatArray,
    Values,
    check_confidence,
    check_resolution,
    checked_values,
)

Word = Literal["wins", "loses", "no difference seen"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds and where the true mean lies, in `level` of all such intervals.

    Attributes:
        mean: over the seeds.
        half: half the width; NaN for one seed, as are low and high.
        low: mean - half.
        high: mean + half.
        n: how many seeds, or pairs.
        level: the share of such intervals that hold the truth.
    """

    mean: float
    half: float
    low: float
    high: float
    n: int
    level: float


def mean_interval(value_S: Values, level: float = 0.95, resolution: float = 0.0) -> Interval:
    """Return the mean over seeds with its two-sided Student interval.

    Args:
        value_S: one value per seed.
        level: the share of such intervals that hold the truth.
        resolution: 1 / test_examples, see `deviation`.
    """
    sorted_S = checked_values(value_S, "values")
    n, mean = len(sorted_S), float(sorted_S.mean())
    tail = (1 - check_confidence(level)) / 2
    half = math.nan
    if n > 1:
        half = float(stats.t.isf(tail, n - 1)) * deviation(sorted_S, resolution) / math.sqrt(n)
    return Interval(mean=mean, half=half, low=mean - half, high=mean + half, n=n, level=level)


def paired_interval(
    a_by_seed: Mapping[int, float],
    b_by_seed: Mapping[int, float],
    level: float = 0.95,
    resolution: float = 0.0,
) -> Interval:
    """Return the mean of a - b with its interval, over the seeds that both have.

    Pairs share their split, initial weights and order, so what these do to both cancels.
    """
    seeds = sorted(a_by_seed.keys() & b_by_seed.keys())
    if not seeds:
        raise ConfigError(
            f"no seed has both: one side has {sorted(a_by_seed)}, the other {sorted(b_by_seed)}; "
            "run both with the same seeds."
        )
    return mean_interval([a_by_seed[s] - b_by_seed[s] for s in seeds], level, resolution)


def word_of(interval: Interval) -> Word:
    """Return what the interval of a difference allows to say; one seed shows no difference."""
    if interval.low > 0:
        return "wins"
    return "loses" if interval.high < 0 else "no difference seen"


def deviation(value_S: FloatArray, resolution: float = 0.0) -> float:
    """Return the standard deviation over at least two seeds, never below half a step.

    Accuracy is a count of test examples, so a few seeds may agree exactly although the true mean
    lies between two counts: with k in two runs of three and k - 1 in the third, three seeds all
    show k in 30 % of cases. The floor is the largest deviation that two neighbouring counts can
    have, 1/2 step. With it the one-sided bound at 5 % misses the truth of such counts in at most
    6.5 % of cases (4 % for 3 to 5 seeds); with resolution / sqrt(12), the deviation of rounding,
    in up to 20 %. A test enumerates them.

    Args:
        value_S: one value per seed.
        resolution: the step, 1 / test_examples; 0 for values without steps.
    """
    return max(float(value_S.std(ddof=1)), check_resolution(resolution) / 2)
