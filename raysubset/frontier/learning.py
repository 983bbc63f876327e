"""The learning curve of a frontier with goal smaller: what a point of accuracy costs in labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raysubset.evidence.intake import points
from raysubset.evidence.intervals import Interval, mean_interval
from raysubset.evidence.labels import LabelsFactor, labels_interval, sentence
from raysubset.evidence.learning_curve import (
    MIN_SIZES,
    LeftOut,
    PowerLaw,
    check_curve,
    fit_curve,
)
from raysubset.frontier.answer import resolution_of
from raysubset.frontier.plan import FULL, RANDOM
from raysubset.frontier.table import TrialRow
from raysubset.report.wording import count

GAIN = 0.01


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Test error of random subsets against their size, and the power law through it.

    Attributes:
        sizes: kept examples, ascending; the last is the whole pool where full was run.
        errors: test error over seeds at each size.
        law: fitted to all of them.
        check: the largest size against the curve of the others; None below 4 sizes.
        before: the law of that check, fitted without the largest size; None where there is none.
        labels: how many times the largest size it takes for one point more.
    """

    sizes: tuple[int, ...]
    errors: tuple[Interval, ...]
    law: PowerLaw
    check: LeftOut | None
    before: PowerLaw | None
    labels: LabelsFactor


def learning_curve(rows: Sequence[TrialRow]) -> LearningCurve | None:
    """Return the curve of random subsets and full; None below three sizes.

    Random stands behind the same filters and quotas as every strategy, full behind the filters.
    """
    error_by_size = _errors(rows)
    sizes = sorted(error_by_size)
    if len(sizes) < MIN_SIZES:
        return None
    resolution = resolution_of([r for r in rows if r.row in (RANDOM, FULL)])
    checkable = len(sizes) > MIN_SIZES
    return LearningCurve(
        sizes=tuple(sizes),
        errors=tuple(mean_interval(error_by_size[n], resolution=resolution) for n in sizes),
        law=fit_curve(sizes, error_by_size),
        check=check_curve(error_by_size, resolution) if checkable else None,
        before=fit_curve(sizes[:-1], error_by_size) if checkable else None,
        labels=labels_interval(sizes, error_by_size, at_size=sizes[-1], gain=GAIN),
    )


def curve_sentence(curve: LearningCurve | None) -> str:
    """Return what a point costs in labels, and whether the curve foretold its largest size."""
    if curve is None:
        return (
            f"No learning curve: it takes random subsets at {MIN_SIZES} sizes, full among them; "
            "give more --fractions, and leave the controls on."
        )
    said = sentence(curve.labels, curve.check)
    low, high = count(curve.sizes[0]), count(curve.sizes[-1])
    text = f"Learning curve of random subsets ({low} to {high} labels): {said}"
    check = curve.check
    if check is None:
        return f"{text}; {MIN_SIZES} sizes leave none to test the curve on."
    if check.held is False:
        return f"{text}, so do not build on it."
    if check.held is None:
        return f"{text}; too few seeds to test the curve on its largest size."
    return (
        f"{text}. Tested on its largest size left out, the curve foretells "
        f"{points(check.predicted)} % error, {points(check.measured.mean)} "
        f"+- {points(check.measured.half)} % was measured."
    )


def plain_curve(curve: LearningCurve | None) -> dict[str, Any] | None:
    """Return the curve as plain data; errors are shares."""
    if curve is None:
        return None
    errors = [asdict(error) for error in curve.errors]
    return {**asdict(curve), "sizes": list(curve.sizes), "errors": errors}


def _errors(rows: Sequence[TrialRow]) -> dict[int, list[float]]:
    """Return test errors by size; a fraction of pools that filters left unequal is one size."""
    # Random subsets of 100 % are full again: a seed counts once at a size.
    own = [r for r in rows if r.row == FULL or (r.row == RANDOM and r.fraction < 1)]
    by_fraction: dict[float, list[TrialRow]] = {}
    for row in sorted(own, key=lambda r: r.row == FULL):
        by_fraction.setdefault(row.fraction, []).append(row)
    return {
        round(np.mean([r.budget for r in same])): [1 - r.test_accuracy for r in same]
        for same in by_fraction.values()
    }
