"""Scoring actors: envelopes around `Scorer`, rebuilt from their arguments, stateless in between.

Work is a fixed row range with the weights it needs; so a lost actor costs its unfinished ranges
and nothing else, and neither the number of actors nor the order of arrival can change a bit.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from raysubset.cluster.blocks import Located, Reader
from raysubset.cluster.dealing import Deal
from raysubset.cluster.devices import device_of_actor
from raysubset.cluster.group import cause_of
from raysubset.cluster.memory import Meter
from raysubset.cluster.names import score_task, weights_of
from raysubset.cluster.room import Room
from raysubset.errors import CrewLost, RaySubsetError, RoomError
from raysubset.experiment import ResourceSettings
from raysubset.learn.choosing import Choice, Progress, choose
from raysubset.learn.scoring import RangeOutput, Scorer
from raysubset.learn.weights import unpack
from raysubset.logs import reshape
from raysubset.strategies.selection import Selection

logger = logging.getLogger(__name__)
IN_FLIGHT = 2  # one range in work and one waiting: no gap between them, little to redo
START_PATIENCE = 4  # times start_timeout_s; room was counted before
REST_S = 0.5  # a restarting actor refuses calls; so often it is asked whether it is back
LOST = (RayActorError, OutOfMemoryError, NodeDiedError, ObjectLostError, WorkerCrashedError)


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
            self._scorer = Scorer(ray.get(problem[0]), device_of_actor())
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
    ) -> tuple[RangeOutput, tuple[float, dict[str, int], float]]:
        """Return a range's output; its seconds, the process's memory, the seconds of weights."""
        came, scorer = time.perf_counter(), self.scorer(problem)
        if self.version != version:
            flat: np.ndarray = ray.get(weights[0])
            scorer.load(unpack(flat, scorer.model.state_dict()))
            self.version = version
            told = {**weights_of(version), "stage": "scoring"}
            logger.info("%s has new weights", self.name, extra=told)
        loaded = time.perf_counter()
        given = self.reader.rows(located)
        start = time.perf_counter()
        output = scorer.score(located.rows, given, embeddings=embeddings)
        return output, (time.perf_counter() - start, self.meter.figures, loaded - came)

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


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A call on its way.

    Attributes:
        actor: whose.
        index: of the range; None where the actor is asked whether it is back.
        output: reference to the range's output.
    """

    actor: int
    index: int | None = None
    output: Any = None


class Scorers:
    """The actors, and how ranges are spread over them."""

    def __init__(
        self, problem_ref: Any, room: Room, resources: ResourceSettings, run: str = "run"
    ) -> None:
        """Start the actors of a run; they build their models while the crew does."""
        self.resources = resources
        self.on_gpu = room.device == "cuda"
        host = ray.remote(GradientActor).options(
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
        self._warm = [actor.warm.remote(self.problem) for actor in self.actors]

    def wait_until_ready(self) -> None:
        """Wait for every actor's model, so that process start is charged to no round.

        Raises:
            RoomError: actors did not start within START_PATIENCE * `resources.start_timeout_s`.
        """
        limit = START_PATIENCE * self.resources.start_timeout_s
        ready, late = ray.wait(self._warm, num_returns=len(self._warm), timeout=limit)
        if late:
            raise RoomError(
                f"{len(late)} of {len(self._warm)} scorers did not start within {limit:g} s; "
                "lower --resources.scorers, use --resources.placement crew, or raise "
                "--resources.start_timeout_s."
            )
        for actor, ref in enumerate(ready):
            try:
                ray.get(ref)
            except LOST as error:
                raise CrewLost(f"scorer {actor} died at its start: {cause_of(error)}.") from error
            except RayTaskError as error:
                raise _own(error, f"scorer {actor} could not build the model") from error

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
            CrewLost: no actor is left, none answers for `call_timeout_s`, or one range was lost
                more than `max_failures` + 1 times.
        """
        start = time.perf_counter()
        args = (version, [ray.put(flat)])
        put_s = time.perf_counter() - start
        work = _Work(self, ranges, args, embeddings, stage)
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
            raise _own(error, f"scorer {first} could not choose") from error
        except (*LOST, GetTimeoutError) as error:
            raise CrewLost(
                f"scorer {first} did not choose ({type(error).__name__}); run the same command "
                "with --resume."
            ) from error

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)


class _Work:
    """One pass over the ranges: what is to do, what flies, what is back."""

    def __init__(
        self,
        scorers: Scorers,
        ranges: Sequence[Located],
        args: tuple[Any, ...],
        embeddings: bool,
        stage: str,
    ) -> None:
        self.scorers, self.ranges, self.args, self.embeddings = scorers, ranges, args, embeddings
        self.stage = stage
        self.resources = scorers.resources
        self.todo = Deal([located.blocks[0] for located in ranges])
        self.flying = {ref: _Call(actor=actor) for actor, ref in scorers.asked.items()}
        self.resting = scorers.resting
        self.outputs: list[Any] = [None] * len(ranges)
        self.seconds: dict[int, float] = {}
        self.memory: dict[str, int] = {}
        self.loading_s = 0.0
        self.losses: Counter[int] = Counter()
        self.done = 0
        self.heard = time.monotonic()

    def send(self) -> None:
        """Keep every actor supplied, the least busy first; ask resting ones if they are back."""
        now = time.monotonic()
        for actor in [a for a, since in self.resting.items() if now - since >= REST_S]:
            del self.resting[actor]
            ref = self.scorers.actors[actor].warm.remote(self.scorers.problem)
            self.scorers.asked[actor], self.flying[ref] = ref, _Call(actor=actor)
        load = self._load()
        while self.todo and load and min(load.values()) < IN_FLIGHT:
            actor = min(load, key=lambda a: load[a])
            self._score(actor, self.todo.next(actor))
            load[actor] += 1

    def next_ended(self) -> Any:
        """Return the reference of a call that ended, or None after a while."""
        if not self.flying and not self.resting:
            raise self._all_dead()
        # Only a finished range is news: an actor that cannot be placed again refuses for ever.
        left = self.heard + self.resources.call_timeout_s - time.monotonic()
        if left <= 0:
            raise self._silent()
        limit = min(left, REST_S) if self.resting else left
        if not self.flying:
            time.sleep(limit)
            return None
        ready, _ = ray.wait(list(self.flying), timeout=limit)
        return ready[0] if ready else None

    def take(self, ref: Any) -> bool:
        """Take an ended call; return whether it brought a range."""
        call = self.flying.pop(ref)
        if call.index is None:
            self.scorers.asked.pop(call.actor, None)
        try:
            report = ray.get(ref)
            if call.index is None:
                return False
            output = call.output
            if not self.scorers.on_gpu:
                output = ray.get(output, timeout=self.resources.call_timeout_s)
        except (*LOST, GetTimeoutError) as error:
            self._lost(call, error)
            return False
        except RayTaskError as error:
            raise _own(error, f"scorer {call.actor} failed at {self._ids(call.index)}") from error
        self.outputs[call.index], self.heard = output, time.monotonic()
        self.seconds[call.actor] = self.seconds.get(call.actor, 0.0) + report[0]
        self.memory = {k: max(v, self.memory.get(k, 0)) for k, v in report[1].items()}
        self.loading_s = max(self.loading_s, report[2])
        self.done += 1
        return True

    def _load(self) -> dict[int, int]:
        """Return the number of calls in flight of every actor that can be given work."""
        away = {*self.scorers.gone, *self.resting, *self.scorers.asked}
        load = {a: 0 for a in range(len(self.scorers.actors)) if a not in away}
        for call in self.flying.values():
            if call.actor in load:
                load[call.actor] += 1
        return load

    def _score(self, actor: int, index: int) -> None:
        located = self.ranges[index]
        rows = located.rows
        name = score_task(self.stage, rows)
        score = self.scorers.actors[actor].score.options(name=name, num_returns=2)
        output, report = score.remote(self.scorers.problem, *self.args, located, self.embeddings)
        self.flying[report] = _Call(actor=actor, index=index, output=output)

    def _lost(self, call: _Call, error: Exception) -> None:
        if isinstance(error, ActorDiedError):
            self.scorers.gone.add(call.actor)
            self.resting.pop(call.actor, None)
        elif call.actor not in self.scorers.gone:
            self.resting[call.actor] = time.monotonic()
        if call.index is None:
            return
        logger.warning("scorer %d was lost at %s", call.actor, self._ids(call.index))
        self.todo.give_back(call.index)
        self.losses[call.index] += 1
        if self.losses[call.index] > self.resources.max_failures + 1:
            raise CrewLost(
                f"scorers died {self.losses[call.index]} times at {self._ids(call.index)} "
                f"({type(error).__name__}). Too little memory is the usual cause: lower "
                "--selection.batch_size or --resources.scorers, and start a new run."
            )

    def _all_dead(self) -> CrewLost:
        where = self._ids(self.todo.first())
        return CrewLost(
            f"all {len(self.scorers.actors)} scorers died, the last at {where}. Too little memory "
            "is the usual cause: lower --resources.scorers; raise --resources.max_failures to "
            "start them again; and run the same command with --resume."
        )

    def _silent(self) -> CrewLost:
        indices = [call.index for call in self.flying.values() if call.index is not None]
        first = self._ids(indices[0] if indices else self.todo.first())
        return CrewLost(
            f"no scorer answered within {self.resources.call_timeout_s:g} s; waiting for {first}. "
            "Run the same command with --resume, or raise --resources.call_timeout_s."
        )

    def _ids(self, index: int | None) -> str:
        if index is None:
            return "its start"
        rows = self.ranges[index].rows
        return f"{rows.part} ids {rows.ids[0]}-{rows.ids[-1]}"


def _own(error: RayTaskError, what: str) -> RaySubsetError:
    """Return the error that a task raised on purpose, or a sentence about one that it did not."""
    cause = error.cause
    if isinstance(cause, RaySubsetError):
        return cause
    return CrewLost(f"{what}: {type(cause).__name__}: {cause}.")
