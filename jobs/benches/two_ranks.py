"""Two gloo ranks of one thread each against one process of two threads, in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed, multiprocessing

from jobs.benches.measuring import medians
from raysubset.cluster.sums import distributed as joined
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.learn.problem import Problem, torch_threads

ANSWER_S = 300.0
CPU = torch.device("cpu")


def two_ranks(problem: Problem, repeats: int, name: str) -> dict[str, float]:
    """Return the median wall seconds of an epoch by two threads, then by two ranks."""
    order = epoch_of(problem)
    context: Any = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, torch_threads(2):
        pairs = [context.Pipe() for _ in range(2)]
        ranks = [
            context.Process(
                target=_serve, args=(rank, folder, replace(problem, threads=1), order, there)
            )
            for rank, (_, there) in enumerate(pairs)
        ]
        for rank in ranks:
            rank.start()
        here = [own for own, _ in pairs]
        try:
            _answers(here)
            alone = Learner(replace(problem, threads=2), CPU, world=1)
            return medians(
                repeats,
                **{
                    f"{name} 2 threads": lambda: alone.train(order, _never),
                    f"{name} 2 ranks": _asking(here),
                },
            )
        finally:
            for own in here:
                own.send("stop")
            for rank in ranks:
                rank.join(ANSWER_S)


def epoch_of(problem: Problem) -> TrainOrder:
    """Return an epoch of the pool."""
    ids = problem.parts.pool.id_N
    return TrainOrder(
        ids_EK=ids[None], weights_K=None, epochs=range(1), visits_before=0, total_visits=len(ids)
    )


def _asking(ranks: list[Connection]) -> Callable[[], None]:
    def ask() -> None:
        for rank in ranks:
            rank.send("train")
        _answers(ranks)

    return ask


def _answers(ranks: list[Connection]) -> None:
    for rank in ranks:
        if not rank.poll(ANSWER_S):
            raise TimeoutError(f"a rank of two gave no answer in {ANSWER_S:.0f} s")
        rank.recv()


def _serve(rank: int, folder: str, problem: Problem, order: TrainOrder, driver: Connection) -> None:
    """Be one of two ranks: train an epoch whenever the driver asks."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{Path(folder)}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=ANSWER_S),
    )
    learner = Learner(
        problem, CPU, world=2, rank=rank, wrap=lambda model: joined(model, problem, CPU)
    )
    driver.send("ready")
    while driver.recv() == "train":
        learner.train(order, _never)
        driver.send("trained")
    distributed.destroy_process_group()


def _never(done: int, of: int) -> None:
    """Go on."""
