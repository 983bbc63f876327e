"""Training: our step loop against a plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from jobs.benches.measuring import Asked, Measured, device_of, medians
from raysubset.learn.layout import laid_out
from raysubset.learn.learner import Learner, TrainOrder


def training(asked: Asked) -> Measured:
    """Our step loop against a plain PyTorch loop: one process, the same model, rows and batches."""
    run = asked.prepared(training__augment="none", training__precision="fp32")
    device, problem = device_of(run), run.problem
    recipe, pool = problem.training, problem.parts.pool
    learner, other = Learner(problem, device, world=1), Learner(problem, device, world=1)
    order = TrainOrder(
        ids_EK=pool.id_N[None],
        weights_K=None,
        epochs=range(1),
        visits_before=0,
        total_visits=len(pool.id_N),
    )
    content = torch.from_numpy(np.array(pool.content)).to(device)
    label = torch.from_numpy(np.array(pool.label_N)).to(device)

    def plain() -> None:
        other.model.train()
        for position_B in _shuffled(len(label), recipe.batch_size, device):
            other.optimizer.zero_grad(set_to_none=True)
            logits_BC = other.model(laid_out(other.normalize(content[position_B]), other.model))
            smoothing = recipe.label_smoothing
            cross_entropy(logits_BC, label[position_B], label_smoothing=smoothing).backward()
            other.optimizer.step()

    found = medians(asked.repeats, ours=lambda: learner.train(order, lambda *_: None), plain=plain)
    return Measured(
        seconds=found,
        ratios={"ours / plain": found["ours"] / found["plain"]},
        of=f"an epoch of {len(label)} rows, batches of {recipe.batch_size}, {device.type}",
    )


def _shuffled(size: int, batch: int, device: torch.device) -> Iterator[Tensor]:
    yield from torch.randperm(size).to(device).split(batch)
