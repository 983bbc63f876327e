"""A selection by dedicated scoring actors: no crew, no training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.group import wait_for_room
from raysubset.cluster.names import LONGEST
from raysubset.cluster.room import CPU_SCORERS, Device, Nodes, Room, device_of, places
from raysubset.cluster.scorers import Scorers
from raysubset.cluster.session import all_nodes, ray_session
from raysubset.cluster.shards import shard_actors
from raysubset.errors import CrewLost, RoomError
from raysubset.experiment import Experiment, ResourceSettings
from raysubset.learn.choosing import Choice, Progress, choose
from raysubset.learn.numerics import settled
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RowRange
from raysubset.learn.weights import pack
from raysubset.selecting.here import reads_weights, select_here
from raysubset.selecting.ready import Ready
from raysubset.strategies.selection import Selection


def select_on_ray(ready: Ready, progress: Progress) -> tuple[Selection, dict[str, Any]]:
    """Return the selection, and who scored for it.

    On the Ray that is connected or named by RAY_ADDRESS, else on a private one; what scores
    nothing starts none.

    Raises:
        RoomError: less room than the scorers need, or none that is free in time.
        CrewLost: they died or fell silent.
    """
    if not reads_weights(ready):
        return select_here(ready, progress), {"scorers": 0}
    if ready.spool is not None:
        return _select_from_disk(ready, progress)
    with ray_session(_without_ranks(ready.experiment)), ExitStack() as ending:
        asked = ready.experiment.resources
        room = room_for_scorers(asked, all_nodes(_one_rank(asked)))
        wait_for_room(room, asked)
        try:
            name = f"select-{ready.identity['name']}"[:LONGEST]
            lean: Any = ray.put(ready.problem.lean())
            scorers = Scorers(lean, room, asked, name)
            ending.callback(scorers.close)
            blocks = Blocks(ready.problem.parts, ready.problem.scoring_batch)
            scorers.wait_until_ready()
            selection = select_with(scorers, blocks, ready, progress)
        except CrewLost as error:
            # Scorers speak as in a run; here is nothing to resume, and nothing was written.
            raise CrewLost(str(error).replace(" with --resume", " again")) from error
    return selection, {"scorers": room.scorers, "device": room.device}


def _select_from_disk(ready: Ready, progress: Progress) -> tuple[Selection, dict[str, Any]]:
    """Return the selection of a pool that lies on this node's disk, and who answered for it.

    One linear layer over rows on this disk is scored here; what is asked block by block is asked
    of shards of this node, a process each.
    """
    asked = ready.experiment.resources
    if not ready.on_disk:  # a sample of the pool, which fits the memory
        return select_here(ready, progress), {"scorers": 0}
    count = CPU_SCORERS if asked.scorers == "auto" else asked.scorers
    name = f"select-{ready.identity['name']}"[:LONGEST]
    with ray_session(_without_ranks(ready.experiment)):
        shards = partial(shard_actors, count=count, resources=asked, name=name)
        return select_here(ready, progress, shards), {"shards": count, "device": "cpu"}


def select_with(scorers: Scorers, blocks: Blocks, ready: Ready, progress: Progress) -> Selection:
    """Return the selection with scorers that stand ready; any number of them gives the same.

    Each reads the blocks that hold its ranges, and no process but this one the pool.
    """
    assert ready.state is not None, "what is scored has weights"
    flat = pack(ready.state)
    version = f"select:{hashlib.sha256(flat.data).hexdigest()[:16]}"  # scorers load each but once

    def score_and_choose(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
        scored = scorers.score(
            version,
            flat,
            blocks.located(ranges),
            embeddings=choice.embeddings,
            progress=progress,
            stage="score:select",
        )
        if scorers.on_gpu:
            chosen = scorers.choose(choice, scored, "choose:select")
        else:
            chosen = choose(choice, scored.outputs, progress=progress)
        facts = {
            **chosen.facts,
            "scoring_retries": float(scored.retries),
            **{f"scorer_{kind}_bytes": float(n) for kind, n in scored.memory.items()},
        }
        return replace(chosen, facts=facts), scored.busy_s

    threads = ready.experiment.resources.threads_per_rank
    with torch_threads(threads), settled(ready.problem.training):
        return ready.chooser.select(ready.phase, score_and_choose)


def room_for_scorers(asked: ResourceSettings, nodes: Nodes) -> Room:
    """Return where scorers go that have the cluster to themselves: a whole place each.

    Args:
        asked: `scorers` auto is one on every GPU, or two on CPUs.
        nodes: the resources of every node.

    Raises:
        RoomError: less room than asked for, with both numbers.
    """
    device: Device = "cuda" if asked.device == "cuda" else device_of(_one_rank(asked), nodes)
    most = places(nodes, device)
    all_of_it = most if device == "cuda" else min(CPU_SCORERS, most)
    scorers = max(1, all_of_it) if asked.scorers == "auto" else asked.scorers
    if scorers > most:
        unit = "GPUs with a CPU each" if device == "cuda" else "CPUs"
        raise RoomError(
            f"{scorers} scorers need {scorers} {unit}, and the cluster has {most}; lower "
            "--resources.scorers or add nodes."
        )
    return Room(
        placement="actors",
        device=device,
        workers=0,
        scorers=scorers,
        cpus=scorers,
        gpus=scorers if device == "cuda" else 0,
    )


def _without_ranks(experiment: Experiment) -> Experiment:
    """Return the experiment as the session counts it: one rank is the least that it knows."""
    return experiment.model_copy(update={"resources": _one_rank(experiment.resources)})


def _one_rank(asked: ResourceSettings) -> ResourceSettings:
    return asked.model_copy(update={"workers": 1, "placement": "auto"})
