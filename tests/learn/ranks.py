"""Training orders, and real DDP ranks in processes of their own, for what a learner is held to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from raysubset.learn.learner import EpochTrace, Learner, TrainOrder
from raysubset.learn.problem import Problem
from tests.small_runs import problem

CPU = torch.device("cpu")
# BatchNorm, augmentation, weights, clipping, layers that draw, a new subset every epoch; 43 ids
# in batches of 16 end in 11, which two ranks share as 6 and 5; 49 end in a merged batch of 17.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "convnet": ({"model__name": "convnet"}, {"size": 43}),
    "weighted": (
        {"training__label_smoothing": 0.1, "training__clip_norm": 0.5},
        {"size": 49, "weighted": True},
    ),
    "dropout": ({"model__name": "tests.learn.ranks:noisy"}, {"size": 43}),
    "stateful": ({"model__name": "tests.learn.ranks:stateful"}, {"size": 43}),
    "bf16": (
        {
            "model__name": "convnet",
            "training__precision": "bf16",
            "training__channels_last": "on",
        },
        {"size": 43},
    ),
    "slices": ({"training__momentum": 0.0, "training__nesterov": False}, {"slices": 3}),
}


def order_of(
    problem: Problem, *, size: int = 43, epochs: int = 3, slices: int = 1, weighted: bool = False
) -> TrainOrder:
    """Return an order of random pool ids, the same in every process."""
    draw = np.random.default_rng(7)
    ids_EK = np.stack([draw.permutation(problem.parts.pool.id_N)[:size] for _ in range(slices)])
    weights_K = draw.uniform(0.5, 2.0, size).astype(np.float32)
    return TrainOrder(
        ids_EK=ids_EK,
        weights_K=weights_K if weighted else None,
        epochs=range(2, 2 + epochs),
        visits_before=2 * size,
        total_visits=8 * size,
    )


def plain(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model without BatchNorm: its gradient is a mean over examples."""
    width = int(np.prod(in_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 12), nn.Tanh(), nn.Linear(12, num_classes))


def pooled(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A linear head on each image's 4 x 4 means: small, whatever the image's size."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * in_shape[0], num_classes)
    )


def normed(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model with BatchNorm, and without anything drawn: its ranks differ by that alone."""
    width = int(np.prod(in_shape))
    hidden = nn.Linear(width, 24)
    return nn.Sequential(
        nn.Flatten(), hidden, nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, num_classes)
    )


def noisy(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model that draws from torch's global stream in training."""
    width = int(np.prod(in_shape))
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(width, 24),
        nn.BatchNorm1d(24),
        nn.Dropout(0.3),
        nn.Linear(24, num_classes),
    )


class Centred(nn.Module):
    """Subtracts a moving mean, in training too: every rank must start a step from rank 0's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, input: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(input.mean(0), 0.5)
        return input - self.mean


def stateful(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model whose buffers change what it gives in training."""
    width = int(np.prod(in_shape))
    return nn.Sequential(nn.Flatten(), Centred(width), nn.Linear(width, num_classes))


def never(done: int, of: int) -> None:
    """Go on."""


def outcome(learner: Learner, traces: list[EpochTrace]) -> dict[str, Any]:
    """Return all that training gave: the whole state, and what was seen."""
    state = learner.snapshot(0)
    return {"weights": state.weights, "trainer": state.trainer, "traces": [seen(t) for t in traces]}


def seen(trace: EpochTrace) -> dict[str, Any]:
    """Return a trace as plain tensors and numbers."""
    rows = {k: torch.from_numpy(v) for k, v in vars(trace).items() if isinstance(v, np.ndarray)}
    return {"epoch": trace.epoch, "lr": trace.lr, **rows}


def alone(case: str, world: int) -> dict[str, Any]:
    """Train a case in this process, all ranks in turn."""
    options, how = CASES[case]
    the_problem = problem(**options)
    learner = Learner(the_problem, CPU, world=world)
    traces = learner.train(order_of(the_problem, **how), never)
    return outcome(learner, [EpochTrace.union([trace]) for trace in traces])


def as_rank(rank: int, folder: str) -> None:
    """Train every case as one of two gloo ranks, then, as rank 0, as the only one."""
    for world in (2, 1):
        if rank >= world:
            return
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{folder}/meet-{world}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=120),
        )
        for case, (options, how) in CASES.items():
            the_problem = problem(**options)
            learner = Learner(
                the_problem, CPU, world=world, rank=rank, wrap=DistributedDataParallel
            )
            traces = learner.train(order_of(the_problem, **how), never)
            torch.save(outcome(learner, traces), Path(folder) / f"{case}-{world}-{rank}.pt")
        distributed.destroy_process_group()


def in_ranks(act: Callable[[int, str], None], folder: Path, world: int) -> None:
    """Call `act(rank, folder)` in a process per rank, and wait for them.

    They are forked where everything is imported already, once for all tests: for a rank alone
    that takes seconds, and what it does a moment.
    """
    modules = ["raysubset.learn.learner", "raysubset.cluster.sums", "tests.small_runs"]
    get_context("forkserver").set_forkserver_preload(modules)
    start_processes(act, (str(folder),), nprocs=world, start_method="forkserver")


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested values by path, tensors as (type, shape, bytes)."""
    if isinstance(value, Tensor):
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return {name: (value.dtype, tuple(value.shape), content)}
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in flat(part, f"{name}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, part in enumerate(value) for k, v in flat(part, f"{name}.{i}").items()}
    return {name: value}
