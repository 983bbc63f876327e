"""Time to accuracy: how much sooner a row stands where full ends, less the drop.

Read at the end of each round on the tuning part, which drove no choice; without one, on
validation. Evaluation is counted in nobody's seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from raysubset.report.record import stage_seconds
from raysubset.schedule import PROXY

if TYPE_CHECKING:
    from raysubset.frontier.table import TrialRow

Judge = Literal["tuning", "validation", "none"]


@dataclass(frozen=True, kw_only=True)
class Climb:
    """Accuracy of one trial against its seconds of selection and training.

    Attributes:
        judge: the part that the accuracy is on; "none" where the trial trained on it.
        seconds: at the end of each round, from the start of the trial.
        accuracy: there; NaN while a proxy is trained, which is thrown away.
    """

    judge: Judge
    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How one cell gets to full's final accuracy less the drop.

    Attributes:
        speed_up: full's mean seconds to get there over this cell's; None unless all seeds do.
        reached: seeds that got there.
        pairs: seeds that full has too.
    """

    speed_up: float | None
    reached: int
    pairs: int


def climb_of(rounds: Sequence[Mapping[str, Any]], *, trains_on_validation: bool) -> Climb:
    """Return the climb of a trial from the rounds of its history."""
    judge: Judge = "validation"
    if any("tuning_accuracy" in line for line in rounds):
        judge = "tuning"
    elif trains_on_validation:
        judge = "none"
    told = [_accuracy(line, judge) for line in rounds]
    spent = accumulate(sum(stage_seconds(line).values()) for line in rounds)
    return Climb(judge=judge, seconds=tuple(spent), accuracy=tuple(told))


def seconds_to(row: TrialRow, target: float) -> float | None:
    """Return the seconds until a trial first stood at the target; None where it never did."""
    for seconds, accuracy in zip(row.climb_s, row.climb_accuracy, strict=True):
        if accuracy >= target:  # NaN is not
            return seconds
    return None


def reach_of(
    own: Sequence[TrialRow], full: Sequence[TrialRow], max_drop: float | None
) -> Reach | None:
    """Return how the trials of a cell get to full's final accuracy less the drop, by seed.

    None without a drop, without full, or where a trial has no judge.
    """
    by_seed = {row.seed: row for row in full if row.climb_accuracy}
    pairs = [(row, by_seed[row.seed]) for row in own if row.seed in by_seed]
    if max_drop is None or not pairs or any(row.judge != other.judge for row, other in pairs):
        return None
    times: list[tuple[float, float]] = []
    for row, other in pairs:
        target = other.climb_accuracy[-1] - max_drop
        mine, theirs = seconds_to(row, target), seconds_to(other, target)
        if mine is not None and theirs is not None:
            times.append((mine, theirs))
    speed_up = None
    if len(times) == len(pairs):
        mine_s, full_s = np.mean(times, axis=0).tolist()
        speed_up = full_s / mine_s if mine_s else None
    return Reach(speed_up=speed_up, reached=len(times), pairs=len(pairs))


def _accuracy(line: Mapping[str, Any], judge: Judge) -> float:
    told = line.get(f"{judge}_accuracy")
    return math.nan if told is None or line["strategy"] == PROXY else float(told)
