"""The verdict: one line that says who won, by how much, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raysubset.report.wording import count, title_of

if TYPE_CHECKING:
    from raysubset.engine import Outcome

CONTROLS = (
    "adaptive-random",
    "random",
    "full-compressed",
    "full-validation-compressed",
    "validation-only",
    "random-validation",
    "full",
)
_CAVEAT = "1 seed: not evidence; `raysubset frontier` decides"


def verdict(outcomes: Sequence[Outcome], test_examples: int) -> str:
    """Return who won on the test part: the strategy, or its strongest control.

    The strategy is the first row that is no control, else the first row. A control is a row of
    the same seed that visited as many examples; the strongest has the highest test accuracy.

    Args:
        outcomes: finished runs of one comparison.
        test_examples: how many examples each test accuracy is the mean of.
    """
    strategy = next((o for o in outcomes if o.strategy not in CONTROLS), outcomes[0])
    controls = [o for o in outcomes if o is not strategy and _is_fair(o, strategy)]
    name = title_of(strategy.strategy)
    if not controls:
        return (
            f"no verdict: no control of this seed visited as many examples as {name} "
            f"({count(strategy.visits)})"
        )
    best = max(controls, key=lambda o: (o.test_accuracy, o.strategy == "adaptive-random"))
    return _judge(strategy, best, len(controls), test_examples) + _beside_full(
        strategy, best, controls
    )


def noise(first: float, second: float, test_examples: int) -> float:
    """Return two standard errors of the difference of two accuracies on N test examples.

    Each gets one right and one wrong example more, so that 100 % is not taken for certain
    (Agresti and Caffo, 2000). The runs share their test examples, so this errs on the safe side.
    """
    n = test_examples + 2
    variance = sum(p * (1 - p) / n for p in ((a * (n - 2) + 1) / n for a in (first, second)))
    return 2 * math.sqrt(variance)


def _is_fair(control: Outcome, strategy: Outcome) -> bool:
    return control.visits == strategy.visits and control.seed == strategy.seed


def _judge(strategy: Outcome, best: Outcome, controls: int, test_examples: int) -> str:
    margin = strategy.test_accuracy - best.test_accuracy
    name, control = title_of(strategy.strategy), title_of(best.strategy)
    rival = f"{control}{_rank(controls)}"
    spread = noise(strategy.test_accuracy, best.test_accuracy, test_examples)
    worth = f"{test_examples:,} test examples (+-{100 * spread:.1f} points; {_CAVEAT})"
    if abs(margin) * test_examples < 0.5:
        return f"no difference seen between {control} and {name} on {worth}"
    points = f"{100 * abs(margin):.1f} points"
    if abs(margin) <= spread:
        ahead, behind = (name, rival) if margin > 0 else (control, name)
        return f"no difference seen: {ahead} is {points} ahead of {behind}, within noise of {worth}"
    if margin < 0:
        return f"{control} wins by {points} ({_CAVEAT})"
    return f"{name} wins by {points} over {rival} ({_CAVEAT})"


def _rank(controls: int) -> str:
    ranks = {1: "", 2: ", the stronger control"}
    return ranks.get(controls, ", the strongest control")


def _beside_full(strategy: Outcome, best: Outcome, controls: Sequence[Outcome]) -> str:
    """Return the distance to full at equal compute, where the verdict was about another."""
    full = next((o for o in controls if o.strategy == "full-compressed"), None)
    if full is None or full is best:
        return ""
    margin = 100 * (strategy.test_accuracy - full.test_accuracy)
    name, control = title_of(strategy.strategy), title_of(full.strategy)
    if abs(margin) < 0.05:
        return f"; {name} equals {control}"
    side = "above" if margin > 0 else "below"
    return f"; {name} is {abs(margin):.1f} points {side} {control}"
