"""Seeds added as the evidence asks for them, at a few planned looks that keep the level."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from raysubset.errors import ConfigError
from raysubset.evidence.decision import MIN_SEEDS, NonInferiority, non_inferior
from raysubset.evidence.intake import Values, check_error_rate, checked_values
from raysubset.evidence.intervals import deviation
from raysubset.evidence.power import power

MAX_LOOKS = 3
HOPELESS = 0.1
"""Below this chance of success at the last look, no more seeds are spent."""
Standing = Literal["within", "not within", "undecided", "more"]


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The numbers of seeds at which a fraction is tested, fixed before the first run.

    Each look gets an equal share of the level (Bonferroni). The tests at the planned numbers
    together claim falsely in at most `level` of cases when all of them are made; whoever stops
    earlier, for whatever reason, makes fewer, so no rule of stopping can raise the rate.

    Attributes:
        planned: numbers of seeds, ascending; at most 3.
        level: the largest share of false claims of the whole procedure.
        num_fractions: how many fractions it may test. 1 for a walk from the largest fraction
            down to the first that is not within (a fixed sequence); `bisection_tests` for a
            bisection, which goes on after a failure and so gets several tries at a false claim.
    """

    planned: tuple[int, ...] = (3, 5, 8)
    level: float = 0.05
    num_fractions: int = 1

    def __post_init__(self) -> None:
        """Refuse a plan that cannot keep its level."""
        check_error_rate(self.level)
        ascending = all(first < second for first, second in pairwise(self.planned))
        if not 1 <= len(self.planned) <= MAX_LOOKS or not ascending or self.planned[0] < MIN_SEEDS:
            raise ConfigError(
                f"planned={self.planned} must be 1 to {MAX_LOOKS} ascending numbers of seeds, "
                f"the first at least {MIN_SEEDS}; (3, 5, 8) for instance."
            )
        if self.num_fractions < 1:
            raise ConfigError(f"num_fractions={self.num_fractions} must be at least 1.")

    @property
    def level_each(self) -> float:
        """The level of one look at one fraction."""
        return self.level / (len(self.planned) * self.num_fractions)

    def level_at(self, n: int) -> float:
        """Return the level of the look at n seeds, which has to be a planned one."""
        if n not in self.planned:
            raise ConfigError(
                f"{n} seeds are no planned look {self.planned}; a look chosen after the results "
                "breaks the level: wait for the next planned number, or take the first seeds."
            )
        return self.level_each

    def next_look(self, n: int) -> int | None:
        """Return the next planned number above n seeds; None after the last look."""
        return next((planned for planned in self.planned if planned > n), None)


def bisection_tests(num_fractions: int) -> int:
    """Return how many of F ascending fractions a bisection tests at most: ceil(log2(F + 1)).

    Where a larger fraction never loses more, these are also all the tests that can claim falsely:
    until a false claim, a bisection takes the same way through the fractions that lose too much.
    """
    return num_fractions.bit_length()


def look(difference_S: Values, max_drop: float, looks: Looks, resolution: float = 0.0) -> Standing:
    """Return where a fraction stands at a planned number of seeds.

    - "within": the loss is shown to be smaller than the drop. The only claim; go smaller.
    - "not within": the loss is shown to be larger than the drop, at the same level; go larger.
    - "undecided": neither, and no look is left or the last one is hopeless; go larger.
    - "more": neither; come back with `looks.next_look(n)` seeds.

    Every stop but the first gives up chances of a claim, so futility raises no false-claim rate.
    """
    n = len(difference_S)
    test = non_inferior(difference_S, max_drop, looks.level_at(n), resolution)
    if test.passed:
        return "within"
    if 1 - test.p_value <= test.level:
        return "not within"
    if looks.next_look(n) is None or _is_hopeless(difference_S, test, looks, resolution):
        return "undecided"
    return "more"


def _is_hopeless(
    difference_S: Values, test: NonInferiority, looks: Looks, resolution: float
) -> bool:
    """Return whether the last look would probably fail if what is seen were the truth."""
    spread = deviation(checked_values(difference_S, "differences"), resolution)
    chance = power(looks.planned[-1], spread, test.margin, -test.mean, test.level)
    return chance < HOPELESS
