"""Size: a run's bytes by where they lie, from shapes alone.

Letters: N pool, V validation, C classes, H embedding width, B examples of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from raysubset.doctor.data import bytes_of
from raysubset.frontier.disk import run_bytes
from raysubset.learn.problem import Problem
from raysubset.preparation import Prepared

WIDTH = 4  # bytes of a float32
TRAIN_COPIES = 4  # weights, gradient, momentum, and the initial weights that a reset returns to
SCORE_COPIES = 1
PROCESS_BYTES = 400_000_000  # of a Python process that holds torch and Ray, measured
FACTOR_COPIES = 2  # ranges as they came, and joined for greedy
GPU_CONTEXT_BYTES = 600_000_000  # of CUDA and its libraries, before any tensor


@dataclass(frozen=True, kw_only=True)
class Size:
    """Bytes that a run needs, about.

    Attributes:
        data: of all parts: once in every node's object store.
        pool: of the pool's content, which a GPU keeps where it fits.
        factors: (N + V) x (C + H) x 4; 0 where nothing is scored.
        rank: model, optimizer and activations of one training rank.
        scorer: model and activations of one scorer.
        disk: what the run folder grows to, checkpoints included.
        checkpoint: of one round.
    """

    data: int
    pool: int
    factors: int
    rank: int
    scorer: int
    disk: int
    checkpoint: int


def size_of(prepared: Prepared, workers: int) -> Size:
    """Return the bytes of a run that could begin, on this many training ranks."""
    problem, experiment = prepared.problem, prepared.experiment
    model, head = problem.build()
    bias_only = experiment.selection.glister.gradient == "bias"
    embedding = 0 if bias_only else head.in_features
    weights = WIDTH * sum(p.numel() for p in model.parameters())
    one_row = activation_bytes(problem, model)
    per_rank = -(-experiment.training.batch_size // workers)
    scoring = experiment.selection.batch_size
    num_rows = len(prepared.chooser.id_N) + problem.parts.validation.num_examples
    scored = any(phase.strategy == "glister" for phase in prepared.phases)
    return Size(
        data=bytes_of(problem.parts),
        pool=problem.parts.pool.content.nbytes,
        factors=WIDTH * num_rows * (problem.num_classes + embedding) if scored else 0,
        # every activation is kept for its gradient; scoring keeps about two layers at a time
        rank=TRAIN_COPIES * weights + 2 * one_row * per_rank,
        scorer=SCORE_COPIES * weights + one_row * scoring,
        disk=run_bytes(prepared),
        checkpoint=2 * weights,
    )


def activation_bytes(problem: Problem, model: nn.Module) -> int:
    """Return the bytes of all layers' outputs for one row, looked at in a forward of two."""
    total = 0

    def add(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    leaves = [m for m in model.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(add) for leaf in leaves]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()(problem.sample())
    finally:
        for hook in hooks:
            hook.remove()
    return total // 2


def processes_bytes(size: Size, workers: int, scorers: int, device: str) -> int:
    """Return the memory that a run's processes take beside the object store."""
    own = (workers + scorers + 1) * PROCESS_BYTES + FACTOR_COPIES * size.factors
    if device == "cuda":
        return own
    return own + workers * size.rank + max(scorers, 1) * size.scorer


def largest_gpu_share(size: Size, scorers: int) -> int:
    """Return the most bytes that one GPU is asked for."""
    rank = size.rank + (0 if scorers else size.scorer + FACTOR_COPIES * size.factors)
    scorer = size.scorer + FACTOR_COPIES * size.factors if scorers else 0
    return max(rank, scorer) + GPU_CONTEXT_BYTES


def smallest(values: Sequence[int | None]) -> int | None:
    """Return the smallest known one."""
    known = [value for value in values if value is not None]
    return min(known) if known else None
