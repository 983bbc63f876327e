"""A run on Ray: one crew, and scorers where there is room, for one run or several."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.crew import Crew
from raysubset.cluster.metrics import measured
from raysubset.cluster.names import run_id
from raysubset.cluster.ports import RayPool, RayTrainer
from raysubset.cluster.room import Room
from raysubset.cluster.scorers import Scorers
from raysubset.cluster.session import ray_session, refuse_overlap
from raysubset.cluster.sight import left_in
from raysubset.engine import Outcome, Silence, Watch, run
from raysubset.experiment import Experiment
from raysubset.fenced import Fenced
from raysubset.learn.numerics import settled
from raysubset.learn.problem import Problem, torch_threads
from raysubset.preparation import Prepared, tracked_ledger
from raysubset.scratch import scratch_folder
from raysubset.storage.staging import shown, staged


@dataclass(frozen=True, kw_only=True)
class Hands:
    """The crew and the scorers of a session, and the rows that they are given."""

    room: Room
    blocks: Blocks
    crew: Crew
    scorers: Scorers | None


@contextmanager
def hands(experiment: Experiment, problem: Problem, folder: Path) -> Generator[Hands]:
    """Start the crew, then scorers where they have room beside it; end both.

    Args:
        experiment: its resources.
        problem: its rows are put into the object store in blocks, once for all processes.
        folder: of the run, which the dashboard calls it by.

    Raises:
        RoomError: the machine or the cluster cannot place them; nothing is left behind.
    """
    refuse_overlap(experiment, experiment.resources.placement)
    with ray_session(experiment) as room, ExitStack() as ending:
        refuse_overlap(experiment, room.placement)
        problem_ref: Any = ray.put(problem.lean())
        blocks = Blocks(problem.parts, problem.scoring_batch)
        # Ray Train's own state: beside the driver, as its controller; ranks never look at it.
        storage, named = ending.enter_context(scratch_folder()), run_id(shown(folder))
        crew = Crew(problem_ref, room, experiment.resources, storage, named)
        ending.callback(crew.close)
        scorers = None
        if room.placement == "actors":
            scorers = Scorers(problem_ref, room, experiment.resources, named)
            ending.callback(scorers.close)
            scorers.wait_until_ready()
        yield Hands(room=room, blocks=blocks, crew=crew, scorers=scorers)


def run_on(
    prepared: Prepared,
    with_hands: Hands,
    run_dir: str | Path,
    *,
    resume: bool = False,
    watch: Watch | None = None,
) -> Outcome:
    """Run one experiment with a crew that stands ready."""
    refuse_overlap(prepared.experiment, with_hands.room.placement)
    with (
        torch_threads(prepared.experiment.resources.threads_per_rank),
        settled(prepared.experiment.training),
        tracked_ledger(prepared, run_dir, resume=resume) as ledger,
        measured(ledger, prepared.experiment),
        left_in(ledger.path) as token,
    ):
        watch = Fenced(watch or Silence(), ledger.path)
        crew, name = with_hands.crew, shown(ledger.path)
        blocks, scorers = with_hands.blocks, with_hands.scorers
        pool = RayPool(name, prepared.chooser, blocks, crew, scorers, watch.progress, token)
        trainer = RayTrainer(name, crew, with_hands.room, ledger.rounds, pool, watch.progress)
        beside = pool if prepared.experiment.selection.overlap else None
        return run(prepared.experiment, prepared.phases, pool, trainer, ledger, watch, beside)


def run_ray(
    prepared: Prepared, run_dir: str | Path, *, resume: bool = False, watch: Watch | None = None
) -> Outcome:
    """Run one experiment on the Ray that is connected, or on a private one."""
    with (
        staged(run_dir) as folder,
        hands(prepared.experiment, prepared.problem, folder) as both,
    ):
        return run_on(prepared, both, folder, resume=resume, watch=watch)
