"""A selection in this process, without Ray: the oracle of the one by actors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from raysubset.learn.choosing import Choice, Progress
from raysubset.learn.local import LocalPool
from raysubset.learn.mapped_pool import MappedPool, Shards, one_shard
from raysubset.learn.numerics import settled
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RowRange, Scorer
from raysubset.learn.weights import Weights
from raysubset.local_run import local_device
from raysubset.selecting.ready import Ready
from raysubset.strategies.selection import Selection


def select_here(
    ready: Ready, progress: Progress | None = None, shards: Shards = one_shard
) -> Selection:
    """Return the ids, gains and weights; the same as by any number of actors.

    Args:
        ready: what is asked.
        progress: told of how far it is.
        shards: who answers for factors that lie on the disk.
    """
    if not reads_weights(ready):
        return ready.chooser.select(ready.phase, _never)
    device = torch.device(local_device(ready.experiment.resources.device))
    threads = ready.experiment.resources.threads_per_rank
    with torch_threads(threads), settled(ready.problem.training):
        scorer = Scorer(ready.problem, device)
        weights = Weights(round=ready.phase.round - 1, tensors=ready.state)
        told = progress or _nobody
        if not ready.on_disk:
            return LocalPool(ready.chooser, scorer, told).select(ready.phase, weights)
        assert ready.spool is not None, "what lies on the disk has a folder"
        pool = MappedPool(
            chooser=ready.chooser,
            scorer=scorer,
            spool=ready.spool,
            rows=ready.rows,
            shards=shards,
            progress=told,
        )
        return pool.select(ready.phase, weights)


def reads_weights(ready: Ready) -> bool:
    """Return whether anything is scored: not for random, nor for the whole pool."""
    strategy = ready.chooser.strategies[ready.phase.strategy]
    return "factors" in strategy.needs and ready.phase.budget < len(ready.chooser.id_N)


def _never(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
    raise AssertionError("what reads no weights scores nothing")


def _nobody(stage: str, done: int, of: int) -> None:
    """Look away."""
