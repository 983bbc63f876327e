"""1, 2 and 4 training ranks: the same global batches, the same number of steps, the same curve.

One process that plays all ranks is bit-equal to gloo ranks for W = 1 and 2 (`test_learner.py`),
and for more with sums in rank order (`cluster.sums`), so it stands for them here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raysubset.learn.learner import EpochTrace, Learner, TrainOrder
from tests.learn.ranks import CPU, never, order_of
from tests.small_runs import problem

WORLDS = (1, 2, 4)
SEEDS = (0, 1, 2)


class Noted(Learner):
    """A learner that notes the rows of each global batch, and counts its optimizer's steps."""

    def __init__(self, *args: Any, **how: Any) -> None:
        self.batches: list[list[int]] = []
        super().__init__(*args, **how)

    def _step(self, position_B: Tensor, *rest: Any) -> list[tuple[Tensor, ...]]:
        self.batches.append(position_B.tolist())
        seen = super()._step(position_B, *rest)
        slices = [rows.tolist() for rows, *_ in seen]
        # Together the ranks see the batch, each row once, in turns: rank 0 the first.
        assert [slices[i % self.world][i // self.world] for i in range(len(position_B))] == (
            self.batches[-1]
        )
        return seen


def trained(world: int, order: TrainOrder, **options: Any) -> tuple[Noted, list[float]]:
    """Train on an order and return the learner with its mean loss per epoch."""
    the_problem = problem(training__lr=0.01, **options)
    learner = Noted(the_problem, CPU, world=world)
    traces = learner.train(order, never)
    return learner, [float(EpochTrace.union([trace]).loss_K.mean()) for trace in traces]


def long_order(seed: int = 0) -> TrainOrder:
    """Return eight epochs over 96 ids: six batches of 16 each."""
    return order_of(problem(seed=seed), size=96, epochs=8)


@pytest.mark.parametrize("size", [96, 43, 49])  # whole batches, a short last one, a merged one
@pytest.mark.parametrize("model", ["convnet", "tests.learn.ranks:plain"])
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


def test_with_batchnorm_the_curves_differ_less_between_ranks_than_between_seeds():
    """BatchNorm takes its statistics of a rank's own slice (8 or 4 rows of 16), so the curves of
    one seed are alike, not equal: the mean over seeds stays within what a seed makes."""
    curves = np.array(
        [
            [trained(w, long_order(seed), model__name="convnet", seed=seed)[1] for seed in SEEDS]
            for w in WORLDS
        ]
    )  # (W, seed, epoch)
    assert (curves[:, :, -1] < 0.8 * curves[:, :, 0]).all(), "nothing was learned"
    between_seeds = np.ptp(curves[0], axis=0).max()
    between_worlds = np.abs(curves.mean(axis=1) - curves[0].mean(axis=0)).max()
    print(curves.mean(1), between_seeds, between_worlds)
    assert between_worlds < max(between_seeds, 0.1 * curves[0].mean())
