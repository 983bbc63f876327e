"""1, 2 and 4 training ranks: the same global batches, the same number of steps, the same curve.

One process that plays all ranks is bit-equal to gloo ranks for W = 1 and 2 (`test_learner.py`),
and for more with sums in rank order (`cluster.sums`), so it stands for them here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysubset.learn.learner import EpochTrace, Learner, TrainOrder
from raysubset.learn.seen import Seen
from tests.learn.ranks import CPU, never, order_of
from tests.small_runs import problem

WORLDS = (1, 2, 4)
SEEDS = (0, 1, 2)


class Noted(Learner):
    """A learner that notes the rows of each global batch, and counts its optimizer's steps."""

    def __init__(self, *args: Any, **how: Any) -> None:
        self.batches: list[list[int]] = []
        super().__init__(*args, **how)

    def _step(self, visits: Any, batch: range, key: int, lr: float, seen: Seen) -> None:
        self.batches.append(visits.at_K[batch.start : batch.stop].tolist())
        own = Own()
        super()._step(visits, batch, key, lr, own)
        # Together the ranks see the batch, each row once, in turns: rank 0 the first.
        turns = [own.slices[i % self.world][i // self.world] for i in range(len(batch))]
        assert turns == self.batches[-1]
        for added in own.added:
            seen.add(*added)


class Own(Seen):
    """Notes the rows that each rank saw in one step."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[tuple[Tensor, ...]] = []

    def add(self, *added: Tensor) -> None:
        self.added.append(added)

    @property
    def slices(self) -> list[list[int]]:
        return [at_B.tolist() for at_B, *_ in self.added]


def trained(world: int, order: TrainOrder, **options: Any) -> tuple[Noted, list[float]]:
    """Train on an order and return the learner with its mean loss per epoch."""
    the_problem = problem(**{"training__lr": 0.1, **options})
    learner = Noted(the_problem, CPU, world=world)
    traces = learner.train(order, never)
    return learner, [float(EpochTrace.union([trace]).loss_K.mean()) for trace in traces]


def long_order(seed: int = 0, epochs: int = 8) -> TrainOrder:
    """Return epochs over 96 ids, with a learning-rate schedule of their own."""
    order = order_of(problem(seed=seed), size=96, epochs=epochs)
    return replace(order, visits_before=0, total_visits=order.visits)


@pytest.mark.parametrize("size", [96, 43, 49])  # whole batches, a short last one, a merged one
@pytest.mark.parametrize("model", ["tests.learn.ranks:normed", "tests.learn.ranks:plain"])
def test_any_number_of_ranks_takes_the_same_global_batches_in_the_same_order(model: str, size: int):
    order = order_of(problem(), size=size)
    batches = [trained(world, order, model__name=model)[0].batches for world in WORLDS]
    assert batches[0]
    assert batches[1] == batches[0]
    assert batches[2] == batches[0]
    assert sum(len(batch) for batch in batches[0]) == order.visits


def test_without_batchnorm_any_number_of_ranks_learns_the_same_curve():
    order = long_order()
    learners, curves = zip(
        *(trained(w, order, model__name="tests.learn.ranks:plain") for w in WORLDS), strict=True
    )
    assert curves[0][-1] < 0.8 * curves[0][0], "nothing was learned, so nothing was compared"
    for learner, curve in zip(learners[1:], curves[1:], strict=True):
        # The gradient is a mean over the same rows, added in another order: one rounding (6e-8
        # of the value) a step, and 48 steps of a smooth model let it grow by a few tens.
        assert curve == pytest.approx(curves[0], rel=1e-5)
        for name, tensor in learner.weights().items():
            torch.testing.assert_close(
                tensor, learners[0].weights()[name], rtol=1e-4, atol=1e-5, msg=name
            )


def test_with_batchnorm_the_curve_stays_within_a_tenth():
    # BatchNorm takes its statistics of a rank's own slice, so the curves are alike, not equal: at
    # 48 rows a batch, four ranks have 12 each. (At 4 rows a slice the loss is a third higher.)
    options: dict[str, Any] = {
        "model__name": "tests.learn.ranks:normed",
        "training__batch_size": 48,
        "training__lr": 0.05,
    }
    curves = np.array(
        [
            [trained(w, long_order(seed, epochs=16), seed=seed, **options)[1] for seed in SEEDS]
            for w in WORLDS
        ]
    ).mean(axis=1)  # (W, epoch), the mean over seeds
    assert (curves[:, -1] < 0.8 * curves[:, 0]).all(), "nothing was learned"
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], rel=0.1)
