"""From three ranks on, gloo adds in an order of its own; the hook adds in rank order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from raysubset.cluster.sums import distributed as joined
from raysubset.cluster.sums import has_idle_parameters, reads_buffers, share_buffers
from raysubset.learn.learner import Learner
from tests.learn.ranks import CASES, CPU, flat, in_ranks, never, order_of, outcome
from tests.small_runs import problem

WORLD = 3
MORE = CASES | {"idle layer": ({"model__name": "tests.cluster.marked:idle"}, {"size": 43})}


@pytest.fixture(scope="module")
def gloo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What three real ranks made of every case."""
    folder = tmp_path_factory.mktemp("gloo")
    in_ranks(as_rank, folder, WORLD)
    return folder


def as_rank(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=240),
    )
    for case, (options, how) in MORE.items():
        the_problem = problem(**options)
        learner = Learner(
            the_problem,
            CPU,
            world=WORLD,
            rank=rank,
            wrap=lambda model, problem=the_problem: joined(model, problem, CPU),
        )
        traces = learner.train(order_of(the_problem, **how), never)
        share_buffers(learner.model)
        torch.save(outcome(learner, traces), Path(folder) / f"{case}-{rank}.pt")
    distributed.destroy_process_group()


def alone(case: str) -> dict[str, Any]:
    """Train a case in this process, all ranks in turn."""
    options, how = MORE[case]
    learner = Learner(problem(**options), CPU, world=WORLD)
    return outcome(learner, learner.train(order_of(learner.problem, **how), never))


@pytest.mark.parametrize("case", MORE)
def test_three_ranks_give_the_bits_of_three_played_in_turn(gloo: Path, case: str):
    played = alone(case)
    for rank in range(WORLD):
        real = torch.load(gloo / f"{case}-{rank}.pt", weights_only=True)
        assert flat(real["weights"]) == flat(played["weights"])
        assert flat(real["trainer"]) == flat(played["trainer"])


def test_only_a_model_with_an_idle_layer_is_searched_for_it_and_nothing_is_changed_by_asking():
    for name, (options, _) in MORE.items():
        the_problem = problem(**options)
        model, _ = the_problem.build()
        before, stream = flat(model.state_dict()), torch.get_rng_state()
        assert has_idle_parameters(model, the_problem, CPU) is (name == "idle layer")
        assert flat(model.state_dict()) == before
        assert torch.equal(torch.get_rng_state(), stream)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_only_a_model_whose_training_may_read_a_buffer_gets_rank_0s_before_every_pass():
    class Own(torch.nn.BatchNorm1d):
        """May read what it likes."""

    reading = {name for name, (options, _) in MORE.items() if reads_buffers(built(options))}
    assert reading == {"stateful"}
    assert reads_buffers(torch.nn.Sequential(torch.nn.Linear(2, 3), Own(3)))
    assert not reads_buffers(torch.nn.BatchNorm2d(3, track_running_stats=False))


def built(options: dict[str, Any]) -> torch.nn.Module:
    return problem(**options).build()[0]
