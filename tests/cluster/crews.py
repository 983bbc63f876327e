"""Small runs by crews that stand ready, and what is compared between them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import ray

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.crew import Crew
from raysubset.cluster.ray_run import Hands, run_on
from raysubset.cluster.room import Room
from raysubset.cluster.scorers import Scored, Scorers
from raysubset.engine import Outcome
from raysubset.experiment import ResourceSettings
from raysubset.learn.weights import pack
from raysubset.preparation import Prepared
from tests.small_runs import Left, prepared

OPTIONS: dict[str, Any] = {
    "model__name": "tests.cluster.marked:marked",
    "selection__batch_size": 8,  # ten ranges, so that three scorers have work
    "resources__start_timeout_s": 240,
    "resources__keep_checkpoints": 9,
}


@lru_cache
def ready(workers: int = 2, **options: Any) -> Prepared:
    """Return a run on the problem that the crews hold."""
    return prepared(resources__workers=workers, **OPTIONS, **options)


@lru_cache
def blocks() -> Blocks:
    """Return the rows of the crews' problem, put once, two ranges in a block."""
    problem = ready().problem
    return Blocks(problem.parts, problem.scoring_batch, block_bytes=2 * 16 * 64)


def resources(**options: Any) -> ResourceSettings:
    """Return what a loaded machine needs."""
    return ResourceSettings(**{"start_timeout_s": 240, "call_timeout_s": 240, **options})


def room(*, workers: int, scorers: int = 0) -> Room:
    """Return the room of ranks and scorers on CPU."""
    size = workers + scorers
    placement: Literal["actors", "crew"] = "actors" if scorers else "crew"
    return Room(
        placement=placement, device="cpu", workers=workers, scorers=scorers, cpus=size, gpus=0
    )


def hands_of(crew: Crew, scorers: Scorers | None = None, count: int = 0) -> Hands:
    """Return a crew's hands, with this many of the scorers."""
    some = some_of(scorers, count) if scorers is not None and count else None
    place = room(workers=crew.room.workers, scorers=count)
    return Hands(room=place, blocks=blocks(), crew=crew, scorers=some)


def some_of(scorers: Scorers, count: int) -> Scorers:
    """Return the first of the scorers, as if there were no others."""
    some = copy.copy(scorers)
    some.actors = scorers.actors[:count]
    some.gone, some.resting, some.asked, some.knows = set(), {}, {}, {}
    return some


def play_on(hands: Hands, run: Prepared, folder: Path, **how: Any) -> tuple[Outcome, Left]:
    """Run on Ray and return what came out and what was left."""
    outcome = run_on(run, hands, folder, **how)
    return outcome, Left(folder)


def assert_same_learning(mine: Left, twin: Left) -> None:
    """Fail unless two runs chose the same ids with the same gains, and learned the same bits."""
    assert mine.ids == twin.ids
    assert mine.gains == twin.gains
    assert checkpoints(mine) == checkpoints(twin)
    assert twin.result is not None
    assert mine.result == twin.result
    assert len(mine.history) == len(twin.history)
    for line, other in zip(mine.history, twin.history, strict=True):
        # Ray's lines say more: ranges that were lost; and memory is each process's own.
        told = {k: repr(v) for k, v in other.items() if k != "peak_bytes"}
        assert {k: repr(line.get(k)) for k in told} == told


def checkpoints(left: Left) -> list[bytes]:
    """Return the bytes of every round's weights and optimizer."""
    names = ("weights.safetensors", "trainer.pt")
    return [(folder / "checkpoint" / name).read_bytes() for folder in left.rounds for name in names]


def score_all(scorers: Scorers) -> Scored:
    """Score the pool at the initial weights."""
    problem = ready(1).problem
    model, _ = problem.build()
    pool = blocks().part("pool")
    flat = pack(model.state_dict())
    return scorers.score("run:0", flat, pool, embeddings=True, progress=lambda *_: None)


def living(*classes: str) -> set[str]:
    """Return the living actors of these classes (default: all of a run), by class and id."""
    wanted = classes or ("RayTrainWorker", "TrainController", "Mailbox", "GradientActor")
    return {
        f"{actor['ActorClassName']} {actor['ActorID']}"
        for actor in ray._private.state.actors().values()
        if actor["State"] != "DEAD" and actor["ActorClassName"] in wanted
    }


def process_of(actor: Any) -> int:
    """Return the process of an actor; one that is being started again is waited for."""
    ray.get(actor.__ray_ready__.remote(), timeout=240)
    return int(ray._private.state.actors()[actor._actor_id.hex()]["Pid"])


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something to become true; a loaded machine gets minutes."""
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end, f"still waiting: {what}"
        time.sleep(0.2)
