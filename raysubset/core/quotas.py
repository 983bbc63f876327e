"""Class quotas: how many of the budget each class may take.

Quotas belong to the selection, not to a strategy: every strategy stands behind the same ones,
else a gain of quotas would be booked as a gain of the strategy. Shape letter: C classes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, get_args

from raysubset.errors import ConfigError

Balance = Literal["validation", "pool", "equal", "none"]


def class_quotas(
    balance: Balance, budget: int, pool_count_C: list[int], validation_count_C: list[int] | None
) -> list[int] | None:
    """Return each class's share of the budget, summing to it exactly; None for no quotas.

    Largest remainder (ties to the lower class), at least 1 for every class that the pool holds
    while the budget allows, never above what the class holds; what a class cannot give goes to
    the others in the same proportion.
    """
    if balance == "none":
        return None
    if budget > sum(pool_count_C):
        raise ConfigError(f"budget={budget:,} is above the {sum(pool_count_C):,} candidates.")
    share_C = _shares(balance, pool_count_C, validation_count_C)
    held = [c for c, count in enumerate(pool_count_C) if count]
    quota_C = [0] * len(pool_count_C)
    if budget < len(held):
        for c in sorted(held, key=lambda c: (-share_C[c], c))[:budget]:
            quota_C[c] = 1
        return quota_C
    for c, quota in _apportion(budget, held, share_C, pool_count_C).items():
        quota_C[c] = quota
    return quota_C


def _shares(
    balance: Balance, pool_count_C: list[int], validation_count_C: list[int] | None
) -> list[int]:
    if balance == "pool":
        return pool_count_C
    if balance == "equal":
        return [1] * len(pool_count_C)
    if balance != "validation":
        raise ConfigError(f"balance={balance!r} must be one of {', '.join(get_args(Balance))}.")
    if validation_count_C is None:
        raise ConfigError(
            "balance='validation' needs the validation labels; pass a lookahead, "
            "or choose balance='pool', 'equal' or 'none'."
        )
    return validation_count_C + [0] * (len(pool_count_C) - len(validation_count_C))


def _apportion(
    budget: int, held: list[int], share_C: list[int], limit_C: list[int]
) -> dict[int, int]:
    """Share the budget within bounds 1..limit: freeze the violated bounds, share the rest again.

    When lower bounds cost more than upper bounds free, the lower ones are certain, and vice
    versa: the argument (and the loop) by which CSS flexbox resolves its flexible lengths.
    """
    quota: dict[int, int] = {}
    active: list[int] = list(held)
    while active:
        ideal = _proportional(budget - sum(quota.values()), active, share_C, limit_C)
        low = [c for c in active if ideal[c] < 1]
        high = [c for c in active if ideal[c] > limit_C[c]]
        if not low and not high:
            quota |= _largest_remainder(budget - sum(quota.values()), ideal)
            break
        over = sum(1 - ideal[c] for c in low) - sum(ideal[c] - limit_C[c] for c in high)
        if over >= 0:
            quota |= dict.fromkeys(low, 1)
        if over <= 0:
            quota |= {c: limit_C[c] for c in high}
        active = [c for c in active if c not in quota]
    return quota


def _proportional(
    budget: int, active: list[int], share_C: list[int], limit_C: list[int]
) -> dict[int, Fraction]:
    weight = {c: share_C[c] for c in active}
    if not any(weight.values()):
        # Only classes that the trusted distribution lacks are left: fill by what they hold.
        weight = {c: limit_C[c] for c in active}
    total = sum(weight.values())
    return {c: Fraction(budget * weight[c], total) for c in active}


def _largest_remainder(budget: int, ideal: dict[int, Fraction]) -> dict[int, int]:
    quota = {c: int(share) for c, share in ideal.items()}
    by_remainder = sorted(ideal, key=lambda c: (quota[c] - ideal[c], c))
    for c in by_remainder[: budget - sum(quota.values())]:
        quota[c] += 1
    return quota
