"""From a fraction to a budget: the one rounding rule, in the one place."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal
from numbers import Integral

from raysubset.errors import BudgetError


def check_fraction(fraction: object) -> float:
    """Return the fraction if it lies in (0, 1]; else say what was probably meant."""
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
        raise BudgetError(f"fraction={fraction!r} must be a number in (0, 1].")
    if 1 < fraction <= 100:
        raise BudgetError(
            f"fraction={fraction:g} must lie in (0, 1]; for {fraction:g} per cent "
            f"did you mean {fraction / 100:g}?"
        )
    if math.isnan(fraction) or not 0 < fraction <= 1:
        raise BudgetError(
            f"fraction={fraction:g} must lie in (0, 1]; for the full pool use fraction=1.0."
        )
    return float(fraction)


def budget_of(fraction: float, num_examples: int) -> int:
    """Return K = floor(fraction * N), at least 1, by decimal arithmetic.

    In binary 0.29 * 100 is 28.999...; the person who typed 0.29 means 29.
    """
    return max(1, floor_of(check_fraction(fraction), num_examples))


def floor_of(multiple: float, count: int) -> int:
    """Return floor(multiple * count) by decimal arithmetic, for every share or multiple of K."""
    exact = Decimal(repr(float(multiple))) * count
    return int(exact.to_integral_value(rounding=ROUND_FLOOR))


def check_budget(budget: object, num_examples: int) -> int:
    """Return the budget if it lies in 1..N; else say what the pool holds."""
    if isinstance(budget, bool) or not isinstance(budget, (Integral, float)) or budget % 1 != 0:
        raise BudgetError(
            f"budget={budget!r} must be a whole number of examples; "
            "for a share of the pool use a fraction."
        )
    size = int(budget)
    if size < 1:
        raise BudgetError(f"budget={size} must be at least 1 example.")
    if size > num_examples:
        raise BudgetError(
            f"budget={size:,} is larger than the pool of {num_examples:,}; "
            f"ask for at most {num_examples:,}, or fraction=1.0 for all of it."
        )
    return size
