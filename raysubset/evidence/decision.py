"""The smallest fraction that is enough: one-sided non-inferiority against full, largest first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass

from scipy import stats

from raysubset.errors import ConfigError
from raysubset.evidence.intake import (
    FloatArray,
    Values,
    check_drop,
    check_error_rate,
    checked_values,
    per_cent,
    points,
)
from raysubset.evidence.intervals import deviation

MIN_SEEDS = 3
"""Below this, means are printed and nothing is decided."""
_ROUNDING = 1e-12  # a deviation below it is the rounding of equal differences


@dataclass(frozen=True, kw_only=True)
class NonInferiority:
    """One test of "the true loss is smaller than the drop".

    Attributes:
        n: pairs.
        mean: mean difference to full; negative is a loss.
        bound: the lowest true difference that the pairs leave open, at `level`.
        p_value: chance of pairs as good as these if the true loss were exactly the margin.
        margin: the drop that was allowed.
        level: the share of false claims that was allowed.
        passed: whether the fraction is within the drop.
    """

    n: int
    mean: float
    bound: float
    p_value: float
    margin: float
    level: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class SmallestWithin:
    """The smallest fraction that is shown to be within the drop.

    Attributes:
        fraction: that fraction; None where not even the largest is.
        tests: (fraction, test) in the order of testing, the first failure last.
        untested: the fractions below the first failure, largest first.
        reason: the same as a sentence.
    """

    fraction: float | None
    tests: tuple[tuple[float, NonInferiority], ...]
    untested: tuple[float, ...]
    reason: str


def can_decide(differences: Iterable[Sized]) -> bool:
    """Return whether every fraction has enough pairs for a decision; else only means are fit."""
    return all(len(difference_S) >= MIN_SEEDS for difference_S in differences)


def non_inferior(
    difference_S: Values, max_drop: float, level: float = 0.05, resolution: float = 0.0
) -> NonInferiority:
    """Return whether the true mean difference is shown to lie above -max_drop (Student's t).

    Args:
        difference_S: accuracy minus full's, paired by seed.
        max_drop: the accuracy that may be lost.
        level: the largest share of false claims.
        resolution: 1 / test_examples, see `deviation`.
    """
    sorted_S, drop = _enough(difference_S), check_drop(max_drop)
    n, mean = len(sorted_S), float(sorted_S.mean())
    error = _spread(sorted_S, resolution) / math.sqrt(n)
    p_value = float(stats.t.sf((mean + drop) / error, n - 1))
    return NonInferiority(
        n=n,
        mean=mean,
        bound=mean - float(stats.t.isf(check_error_rate(level), n - 1)) * error,
        p_value=p_value,
        margin=drop,
        level=level,
        passed=p_value <= level,
    )


def smallest_within(
    differences_by_fraction: Mapping[float, Values],
    max_drop: float,
    level: float = 0.05,
    resolution: float = 0.0,
) -> SmallestWithin:
    """Return the last fraction that passes, from the largest down to the first failure.

    A fixed sequence needs no correction for many fractions: a false claim has to pass the first
    fraction whose true loss is too large, and that one test errs in at most `level` of cases
    (Maurer, Hothorn and Lehmacher, 1995). The truth need not be monotone.
    """
    if not differences_by_fraction:
        raise ConfigError("no fraction has differences to full; run at least one beside full.")
    for fraction, difference_S in differences_by_fraction.items():
        _enough(difference_S, f" at fraction {fraction:g}")
    order = sorted(differences_by_fraction, reverse=True)
    tests: list[tuple[float, NonInferiority]] = []
    for fraction in order:
        test = non_inferior(differences_by_fraction[fraction], max_drop, level, resolution)
        tests.append((fraction, test))
        if not test.passed:
            break
    untested = tuple(order[len(tests) :])
    passed = [fraction for fraction, test in tests if test.passed]
    return SmallestWithin(
        fraction=passed[-1] if passed else None,
        tests=tuple(tests),
        untested=untested,
        reason=_reason(tests, untested),
    )


def _enough(difference_S: Values, where: str = "") -> FloatArray:
    if len(difference_S) < MIN_SEEDS:
        raise ConfigError(
            f"{len(difference_S)} seeds are paired with full{where}; a decision takes at least "
            f"{MIN_SEEDS}: run more seeds, or print means only."
        )
    return checked_values(difference_S, f"differences{where}")


def _spread(difference_S: FloatArray, resolution: float) -> float:
    spread = deviation(difference_S, resolution)
    if spread < _ROUNDING:
        raise ConfigError(
            f"all {len(difference_S)} differences are {points(difference_S[0])} points, which is "
            "no certainty: give resolution=1/test_examples, the step in which an accuracy moves."
        )
    return spread


def _reason(tests: list[tuple[float, NonInferiority]], untested: tuple[float, ...]) -> str:
    fraction, last = tests[-1]
    drop = f"within {points(last.margin)} points of full"
    if last.passed:
        return f"{per_cent(fraction)} is {drop} ({_figures(last)}); no smaller fraction was tried"
    failed = f"{per_cent(fraction)} is not shown to be {drop} ({_figures(last)})"
    if untested:
        failed += f", so {', '.join(map(per_cent, untested))} went untested"
    if len(tests) == 1:
        return f"no fraction is enough on this evidence: {failed}"
    above, passed = tests[-2]
    return f"{per_cent(above)} is {drop} ({_figures(passed)}); {failed}"


def _figures(test: NonInferiority) -> str:
    return (
        f"{points(test.mean)}, at worst {points(test.bound)} with "
        f"{100 * (1 - test.level):.3g} % confidence, {test.n} seeds"
    )
