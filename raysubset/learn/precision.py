"""Precision and layout on a CPU, by measurement: how many times quicker is a step?

Where a CPU has instructions for bf16, a convolution gains two- to fourfold by them, a small model
nothing. What is measured differs from one machine to another and from one minute to the next, so
the driver measures once, the answer becomes an explicit option of the run, and a margin keeps
close calls as they were. Never for p - y: `FullHead` and the gains are full fp32 in any case.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import process_time

import torch
from torch.utils.flop_counter import FlopCounterMode

from raysubset.learn.layout import has_bf16
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.numerics import settled
from raysubset.learn.problem import Problem, torch_threads
from raysubset.learn.settings import TrainingSettings

MARGIN = 1.3  # times quicker, or it stays as it was
STEP_FLOP = 1e9  # below, a step is a matter of milliseconds: Python's share of it has no bf16
RUN_FLOP = 1e13  # below, a run takes a minute or two: not worth another run's bits
MOST_OF_RUN = 0.05  # of the run's own arithmetic is what measuring it may cost
TURNS = 5
_BACKWARD = 3  # a step costs three forward passes
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """How a model computes: values of `training.precision` and `training.channels_last`."""

    precision: str
    channels_last: str

    def of(self, training: TrainingSettings) -> TrainingSettings:
        """Return the recipe with these numbers."""
        return training.model_copy(update=vars(self))


Seconds = Mapping[Numbers, float]
Measure = Callable[[Problem, int, Sequence[Numbers]], Seconds]
"""(problem, rows of a step, what to try) -> seconds of a step."""


def candidates(problem: Problem) -> list[Numbers]:
    """Return what may be chosen, in the order in which it is preferred; first what stands now."""
    asked = problem.training
    precisions = ["fp32", "bf16"] if asked.precision == "auto" else [asked.precision]
    layouts = ["off", "on"] if asked.channels_last == "auto" else [asked.channels_last]
    if len(problem.in_shape) != 3:
        layouts = layouts[:1]
    pairs = [Numbers(precision=p, channels_last=c) for p in precisions for c in layouts]
    return [pairs[0], *reversed(pairs[1:])]


def choice(seconds: Seconds) -> Numbers:
    """Return what to compute with: the first, unless a later one is quicker by the margin."""
    numbers = list(seconds)
    chosen = numbers[0]
    for other in numbers[1:]:
        if seconds[chosen] >= MARGIN * seconds[other]:
            chosen = other
    return chosen


def example_flop(problem: Problem) -> float:
    """Return the arithmetic of training on one example: forward and backward."""
    sample = problem.sample()
    model, _ = problem.build()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(sample)
    return _BACKWARD * counter.get_total_flops() / len(sample)


def rows_to_measure(problem: Problem, visits: int, ranks: int, tried: int) -> int:
    """Return how many rows a measured step has: a rank's own batch; 0 where it does not matter."""
    flop, batch = example_flop(problem), problem.training.batch_size
    if flop * batch < STEP_FLOP or flop * visits < RUN_FLOP:
        return 0
    most = MOST_OF_RUN * visits / (tried * (TURNS + 1))
    return int(min(max(2, batch // ranks), max(8, most), problem.parts.pool.num_examples))


def seconds_of_a_step(
    problem: Problem, rows: int, tried: Sequence[Numbers]
) -> dict[Numbers, float]:
    """Return median CPU seconds of a step of one rank, measured in turns after a warm one."""
    ids = problem.parts.pool.id_N[:rows]
    order = TrainOrder(
        ids_EK=ids[None], weights_K=None, epochs=range(1), visits_before=0, total_visits=len(ids)
    )
    taken: dict[Numbers, list[float]] = {numbers: [] for numbers in tried}
    with torch_threads(problem.threads), settled(problem.training):
        learners = {numbers: _learner(problem, numbers, rows) for numbers in tried}
        for turn in range(TURNS + 1):
            for numbers, learner in learners.items():
                start = process_time()  # not the wall's: others may work on these cores
                learner.train(order, lambda *_: None)
                if turn:
                    taken[numbers].append(process_time() - start)
    return {numbers: statistics.median(turns) for numbers, turns in taken.items()}


def _learner(problem: Problem, numbers: Numbers, rows: int) -> Learner:
    recipe = numbers.of(problem.training).model_copy(update={"batch_size": rows})
    return Learner(replace(problem, training=recipe), CPU, world=1)


def decided(
    problem: Problem, visits: int, ranks: int, measure: Measure = seconds_of_a_step
) -> tuple[Numbers, str] | None:
    """Return what this CPU computes with and a line that says why; None where nothing is to decide.

    Args:
        problem: the real model and rows.
        visits: example visits of the run.
        ranks: W; a step of one rank is measured.
        measure: the measurement.
    """
    tried = candidates(problem)
    if len(tried) == 1 or not has_bf16(CPU):
        return None
    rows = rows_to_measure(problem, visits, ranks, len(tried))
    if not rows:
        return None
    seconds = measure(problem, rows, tried)
    chosen = choice(seconds)
    return chosen, _told(tried, chosen, seconds, rows)


def _told(tried: Sequence[Numbers], chosen: Numbers, seconds: Seconds, rows: int) -> str:
    plain, best = tried[0], min(seconds, key=lambda numbers: seconds[numbers])
    shown = chosen if chosen != plain else best
    ratio = f"{seconds[plain] / seconds[shown]:.2f} times as quick as {_name(plain)}"
    step = f"measured here, a step of {rows} rows with {_name(shown)} is {ratio}"
    kept = "" if chosen != plain else f", and {MARGIN:g} is asked for"
    return f"{_name(chosen)}: {step}{kept}; this run keeps it wherever it goes on"


def _name(numbers: Numbers) -> str:
    return f"precision {numbers.precision}, channels_last {numbers.channels_last}"
