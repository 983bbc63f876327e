"""Two real DDP ranks that are stopped keep their finished epochs, and go on to the same bits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from raysubset.cluster.keeping import Together, agreed
from raysubset.errors import Stopped
from raysubset.learn.learner import EpochTrace, Learner
from raysubset.learn.partial import BEGUN, Open, partial_of, traces_of
from tests.learn.ranks import CASES, CPU, alone, flat, in_ranks, order_of, outcome, seen
from tests.small_runs import problem

STOPPED_IN = {"convnet": 2.5, "stateful": 1.5}
"""In which epoch, of three, all ranks stop: their buffers and optimizer have to come back too."""


class Now:
    """Does what a writer does, at once."""

    def submit(self, do: Any, *given: Any) -> Any:
        do(*given)
        return self

    def result(self) -> None:
        """Be done."""

    def done(self) -> bool:
        return True


def as_rank(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=120),
    )
    for case, stop in STOPPED_IN.items():
        begun = Open(folder=f"{folder}/{case}", key="k", every_s=0)
        with pytest.raises(Stopped):
            _train(case, rank, begun, stop)
        distributed.barrier()
        torch.save(_train(case, rank, begun, 99), Path(folder) / f"{case}-{rank}.pt")
    distributed.destroy_process_group()


def _train(case: str, rank: int, begun: Open, stop_after: float) -> dict[str, Any]:
    options, how = CASES[case]
    the_problem = problem(**options)
    order = order_of(the_problem, **how)
    learner = Learner(the_problem, CPU, world=2, rank=rank, wrap=DistributedDataParallel)
    kept = agreed(begun, 2)
    if kept is not None:
        learner.load(kept.checkpoint)
    writer: Any = Now()
    together = Together(
        begun, kept, lambda: learner.snapshot(-1), writer, rank=rank, world=2, device=CPU
    )

    def go_on(done: int, of: int) -> None:
        if done >= stop_after * of / len(order.epochs):
            raise Stopped("asked to stop")

    try:
        done = kept.epochs if kept else 0
        traces = learner.train(order, go_on, done=done, epoch_done=together.epoch_done)
    except Stopped:
        together.stop()
        raise
    return outcome(learner, traces)


def test_two_ranks_stopped_in_an_epoch_go_on_from_the_one_before_to_the_same_bits(tmp_path: Path):
    for case in STOPPED_IN:
        (tmp_path / case).mkdir()
        (tmp_path / case / BEGUN[0]).touch()  # by which rank 0 sees that the folder is the run's
    in_ranks(as_rank, tmp_path, 2)
    for case, stop in STOPPED_IN.items():
        twin = alone(case, 2)
        first, second = (torch.load(tmp_path / f"{case}-{rank}.pt") for rank in range(2))
        kept = partial_of(Open(folder=str(tmp_path / case), key="k", every_s=0))
        assert kept is not None
        before = traces_of(kept)[: int(stop)]
        assert [trace.epoch for trace in before] == [2, 3][: int(stop)]
        assert [trace["epoch"] for trace in first["traces"]] == [2, 3, 4][int(stop) :]
        after = [
            EpochTrace.union([_trace(mine), _trace(other)])
            for mine, other in zip(first["traces"], second["traces"], strict=True)
        ]
        first["traces"] = [seen(trace) for trace in [*before, *after]]
        assert flat(first["weights"]) == flat(twin["weights"])
        assert flat(first["trainer"]["optimizer"]) == flat(twin["trainer"]["optimizer"])
        assert flat(dict(enumerate(first["traces"]))) == flat(dict(enumerate(twin["traces"])))


def _trace(told: dict[str, Any]) -> EpochTrace:
    values = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in told.items()}
    return EpochTrace(**values)
