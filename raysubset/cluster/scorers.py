"""Scoring actors: envelopes around `Scorer`, rebuilt from their arguments, stateless in between.

Work is a fixed row range with the weights it needs; so a lost actor costs its unfinished ranges
and nothing else, and neither the number of actors nor the order of arrival can change a bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from raysubset.cluster.blocks import Located, Reader, carried, source_of
from raysubset.cluster.devices import device_of_actor
from raysubset.cluster.group import cause_of
from raysubset.cluster.memory import Meter
from raysubset.cluster.names import weights_of
from raysubset.cluster.one_pass import LOST, START_PATIENCE, Pass, own_error
from raysubset.cluster.room import Room
from raysubset.errors import CrewLost, RoomError
from raysubset.experiment import ResourceSettings
from raysubset.learn.choosing import Choice, Progress, choose
from raysubset.learn.scoring import RangeOutput, Scorer
from raysubset.learn.weights import unpack
from raysubset.logs import reshape
from raysubset.strategies.selection import Selection

logger = logging.getLogger(__name__)


class GradientActor:
    """What an actor holds; every call names the problem, the rows and the weights it is for.

    No object comes through the constructor: a restarted actor would need the constructor's objects
    to be there still (ray#53727), while a call brings its own.
    """

    def __init__(self, name: str = "raysubset-scorer") -> None:
        """Wait for the first call, under this name."""
        self.name = name
        reshape()
        self._scorer: Scorer | None = None
        self.version = ""
        self.reader, self.meter = Reader(), Meter()

    def __repr__(self) -> str:
        """Return what the dashboard calls this actor."""
        return self.name

    def scorer(self, problem: Sequence[Any]) -> Scorer:
        """Return the scorer on this actor's device; `problem` is [ref], and lean."""
        if self._scorer is None:
            self._scorer = Scorer(carried(problem[0]), device_of_actor())
        return self._scorer

    def warm(self, problem: Sequence[Any]) -> None:
        """Build the model ahead of the first range."""
        self.scorer(problem)

    def score(
        self,
        problem: Sequence[Any],
        version: str,
        weights: Sequence[Any],
        located: Located,
        embeddings: bool,
    ) -> tuple[RangeOutput, tuple[float, dict[str, int], float, bool]]:
        """Return a range's output; and how it was made.

        That is its seconds, the process's memory, the seconds of weights, and whether this actor
        keeps the embeddings of it.
        """
        came, scorer = time.perf_counter(), self.scorer(problem)
        if self.version != version:
            flat: np.ndarray = carried(weights[0])
            scorer.load(unpack(flat, scorer.model.state_dict()))
            self.version = version
            told = {**weights_of(version), "stage": "scoring"}
            logger.info("%s has new weights", self.name, extra=told)
        loaded, source = time.perf_counter(), source_of(located)
        known = scorer.remembers(located.rows, source)
        given = None if known else self.reader.rows(located)
        start = time.perf_counter()
        output = scorer.score(located.rows, given, embeddings=embeddings, source=source)
        took_s, keeps = time.perf_counter() - start, output.remembered is not None
        return output, (took_s, self.meter.figures, loaded - came, keeps)

    def choose(self, choice: Choice, *outputs: RangeOutput) -> Selection:
        """Choose on this actor's device; the outputs come straight from the other actors."""
        return choose(choice, outputs, device_of_actor())


@dataclass(frozen=True, kw_only=True)
class Scored:
    """All ranges' outputs.

    Attributes:
        outputs: in the order of the ranges; on GPU references, so that they can go to one device
            without passing the driver.
        busy_s: scoring seconds of the longest-busy actor.
        weights_s: of handing the weights over, to the actor that took longest.
        memory: the largest of the actors' `Meter.figures`.
        retries: how many ranges were computed again.
    """

    outputs: list[Any]
    busy_s: float
    weights_s: float
    memory: dict[str, int]
    retries: int


class Scorers:
    """The actors, and how ranges are spread over them."""

    def __init__(
        self,
        problem_ref: Any,
        room: Room,
        resources: ResourceSettings,
        run: str = "run",
        envelope: type[Any] = GradientActor,
    ) -> None:
        """Start the actors of a run; they build their models while the crew does.

        `envelope` is `GradientActor`, or a class with its verbs for what else `problem_ref` holds.
        """
        self.resources = resources
        self.on_gpu = room.device == "cuda"
        host = ray.remote(envelope).options(
            num_cpus=1,
            num_gpus=1 if self.on_gpu else 0,
            max_restarts=resources.max_failures,
            # Explicit, because a Tune trial would else capture the actor in its placement group.
            scheduling_strategy="SPREAD",
        )
        self.problem = [problem_ref]
        self.actors: list[Any] = [
            host.remote(f"raysubset-scorer-{i} {run}") for i in range(room.scorers)
        ]
        # Lost actors, from one pass to the next: for good, since when, asked if they are back.
        self.gone: set[int] = set()
        self.resting: dict[int, float] = {}
        self.asked: dict[int, Any] = {}
        # (part, number) of a range -> the actor that keeps its embeddings, and so is dealt it.
        self.knows: dict[tuple[str, int], int] = {}
        self._warm = [actor.warm.remote(self.problem) for actor in self.actors]

    def wait_until_ready(self) -> None:
        """Wait for every actor's model, so that process start is charged to no round.

        Raises:
            RoomError: actors did not start within START_PATIENCE * `resources.start_timeout_s`.
        """
        limit = START_PATIENCE * self.resources.start_timeout_s
        ready, late = ray.wait(self._warm, num_returns=len(self._warm), timeout=limit)
        if late:
            who = ", ".join(str(self._warm.index(ref)) for ref in late)
            raise RoomError(
                f"{len(late)} of {len(self._warm)} scorers did not start within {limit:g} s "
                f"(number {who}); lower --resources.scorers, use --resources.placement crew, or "
                "raise --resources.start_timeout_s."
            )
        for actor, ref in enumerate(ready):
            try:
                ray.get(ref, timeout=limit)
            except LOST as error:
                raise CrewLost(f"scorer {actor} died at its start: {cause_of(error)}.") from error
            except RayTaskError as error:
                raise own_error(error, f"scorer {actor} could not build the model") from error

    def score(
        self,
        version: str,
        flat: np.ndarray,
        ranges: Sequence[Located],
        *,
        embeddings: bool,
        progress: Progress,
        stage: str = "score",
    ) -> Scored:
        """Score all ranges at these weights; lost ranges go to another actor.

        The tasks are called after `stage`: "score:round-7".

        Raises:
            CrewLost: no actor is left, none is back within `call_timeout_s`, a range does not fit,
                or one was lost more than `max_failures` + 1 times.
        """
        start = time.perf_counter()
        args = (version, [ray.put(flat)])
        put_s = time.perf_counter() - start
        work = Pass(self, ranges, args, embeddings, stage)
        while work.done < len(ranges):
            work.send()
            ended = work.next_ended()
            if ended is not None and work.take(ended):
                progress("scoring", work.done, len(ranges))
        return Scored(
            outputs=work.outputs,
            busy_s=max(work.seconds.values(), default=0.0),
            weights_s=put_s + work.loading_s,
            memory=work.memory,
            retries=sum(work.losses.values()),
        )

    def choose(self, choice: Choice, scored: Scored, stage: str = "choose") -> Selection:
        """Choose on the first actor's device: factors go there without passing the driver."""
        first = next(i for i in range(len(self.actors)) if i not in self.gone)
        ref = self.actors[first].choose.options(name=stage).remote(choice, *scored.outputs)
        try:
            return ray.get(ref, timeout=self.resources.call_timeout_s)
        except RayTaskError as error:
            raise own_error(error, f"scorer {first} could not choose") from error
        except (*LOST, GetTimeoutError) as error:
            raise CrewLost(
                f"scorer {first} did not choose ({type(error).__name__}); run the same command "
                "with --resume."
            ) from error

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)
