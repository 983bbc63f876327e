"""One pass over the ranges: what is to do, what flies, what is back, and who hangs."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import torch
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

from raysubset.cluster.blocks import Located
from raysubset.cluster.dealing import Deal
from raysubset.cluster.names import score_task
from raysubset.errors import CrewLost, RaySubsetError

if TYPE_CHECKING:
    from raysubset.cluster.scorers import Scorers

logger = logging.getLogger(__name__)
START_PATIENCE = 4  # times start_timeout_s; room was counted before
IN_FLIGHT = 2  # one range in work and one waiting: no gap between them, little to redo
REST_S = 0.5  # a restarting actor refuses calls; so often it is asked whether it is back
LOST = (RayActorError, OutOfMemoryError, NodeDiedError, ObjectLostError, WorkerCrashedError)
# A batch is never halved on its own: its shape decides the last bits of a gain, so that which
# scorer ran out of memory would decide which ids are chosen.
REMEDY = (
    "Too little memory is the usual cause: run the same command with --resume and fewer "
    "--resources.scorers on a node; or, in a new run, lower --selection.batch_size (the last bits "
    "of gains depend on it). Raise --resources.max_failures where machines come and go."
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call on its way.

    Attributes:
        actor: whose.
        index: of the range; None where the actor is asked whether it is back.
        output: reference to the range's output.
    """

    actor: int
    index: int | None = None
    output: Any = None


class Pass:
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
        away = {*scorers.gone, *scorers.resting, *scorers.asked}
        owners = [scorers.knows.get(_place(located)) for located in ranges]
        knows = {i: a for i, a in enumerate(owners) if a is not None and a not in away}
        self.todo = Deal([located.blocks[0] for located in ranges], knows)
        self.flying = {ref: Call(actor=actor) for actor, ref in scorers.asked.items()}
        self.resting = scorers.resting
        self.outputs: list[Any] = [None] * len(ranges)
        self.seconds: dict[int, float] = {}
        self.memory: dict[str, int] = {}
        self.loading_s = 0.0
        self.losses: Counter[int] = Counter()
        self.done = 0
        self.heard = now = time.monotonic()
        self.since = dict.fromkeys(range(len(scorers.actors)), now)  # an actor's own last answer

    def send(self) -> None:
        """Keep every actor supplied, the least busy first; ask resting ones if they are back."""
        now = time.monotonic()
        for actor in [a for a, since in self.resting.items() if now - since >= REST_S]:
            del self.resting[actor]
            ref = self.scorers.actors[actor].warm.remote(self.scorers.problem)
            self.scorers.asked[actor], self.flying[ref] = ref, Call(actor=actor)
            self.since[actor] = now
        load = self._load()
        while free := [a for a in load if load[a] < IN_FLIGHT and self.todo.has(a)]:
            actor = min(free, key=lambda a: load[a])
            if not load[actor]:
                self.since[actor] = now  # it owed nothing until now
            self._score(actor, self.todo.next(actor))
            load[actor] += 1

    def next_ended(self) -> Any:
        """Return the reference of a call that ended, or None after a while."""
        if not self.flying and not self.resting:
            raise self._all_dead()
        left = self._left()
        limit = min(left, REST_S) if self.resting else left
        if not self.flying:
            time.sleep(min(left, REST_S))
            return None
        ready, _ = ray.wait(list(self.flying), timeout=limit)
        return ready[0] if ready else None

    def take(self, ref: Any) -> bool:
        """Take an ended call; return whether it brought a range."""
        call = self._landed(ref)
        self.since[call.actor] = time.monotonic()
        try:
            report = ray.get(ref, timeout=self.resources.call_timeout_s)
            if call.index is None:
                return False
            output = call.output
            if not self.scorers.on_gpu:
                output = ray.get(output, timeout=self.resources.call_timeout_s)
        except (*LOST, GetTimeoutError) as error:
            self._lost(call, error)
            return False
        except RayTaskError as error:
            what = f"scorer {call.actor} failed at {self._ids(call.index)}"
            raise own_error(error, what) from error
        self.outputs[call.index], self.heard = output, time.monotonic()
        self.seconds[call.actor] = self.seconds.get(call.actor, 0.0) + report[0]
        self.memory = {k: max(v, self.memory.get(k, 0)) for k, v in report[1].items()}
        self.loading_s = max(self.loading_s, report[2])
        if report[3]:
            self.scorers.knows[_place(self.ranges[call.index])] = call.actor
        self.done += 1
        return True

    def _left(self) -> float:
        """Return the seconds until an actor owes its answer; end those that hang."""
        now = time.monotonic()
        due = {
            call.actor: self.since[call.actor] + self._limit(call) for call in self.flying.values()
        }
        for actor in [actor for actor, end in due.items() if end <= now]:
            del due[actor]
            self._end(actor)
        if any(call.index is not None for call in self.flying.values()):
            return min(due.values()) - now
        # Only a range is news: an actor that cannot be placed again refuses for ever.
        left = self.heard + self._start_s - now
        if left <= 0:
            raise self._silent()
        return left

    def _limit(self, call: Call) -> float:
        return self._start_s if call.index is None else self.resources.call_timeout_s

    @property
    def _start_s(self) -> float:
        """The patience with an actor that is being started again."""
        asked = self.resources
        return max(asked.call_timeout_s, START_PATIENCE * asked.start_timeout_s)

    def _end(self, actor: int) -> None:
        """End an actor that hangs; Ray starts it again, and others do its ranges meanwhile."""
        ray.kill(self.scorers.actors[actor], no_restart=False)
        limit = time.monotonic() - self.since[actor]
        logger.warning("scorer %d gave no answer for %.0f s, and is started again", actor, limit)
        for ref in [ref for ref, call in self.flying.items() if call.actor == actor]:
            call = self._landed(ref)
            if call.index is not None:
                self.heard = time.monotonic()  # it was given work, so work went on
            self._lost(call, GetTimeoutError(f"no answer for {limit:.0f} s"))

    def _landed(self, ref: Any) -> Call:
        """Return a call that flies no more; its actor is not asked any longer, if it was."""
        call = self.flying.pop(ref)
        if call.index is None:
            self.scorers.asked.pop(call.actor, None)
        return call

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
        self.flying[report] = Call(actor=actor, index=index, output=output)

    def _lost(self, call: Call, error: Exception) -> None:
        self.todo.forget(call.actor)
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
                f"({type(error).__name__}). {REMEDY}"
            )

    def _all_dead(self) -> CrewLost:
        count, where = len(self.scorers.actors), self._ids(self.todo.first())
        return CrewLost(f"all {count} scorers died, the last at {where}. {REMEDY}")

    def _silent(self) -> CrewLost:
        return CrewLost(
            f"no scorer was back within {self._start_s:g} s; waiting for "
            f"{self._ids(self.todo.first())}. Run the same command with --resume, or raise "
            "--resources.start_timeout_s where processes start slowly."
        )

    def _ids(self, index: int | None) -> str:
        if index is None:
            return "its start"
        rows = self.ranges[index].rows
        return f"{rows.part} ids {rows.ids[0]}-{rows.ids[-1]}"


def _place(located: Located) -> tuple[str, int]:
    """Return where a range stands, whatever ids it has in this pass."""
    return located.rows.part, located.rows.index


def own_error(error: RayTaskError, what: str) -> RaySubsetError:
    """Return the error that a task raised on purpose, or a sentence about one that it did not."""
    cause = error.cause
    if isinstance(cause, RaySubsetError):
        return cause
    remedy = f" {REMEDY}" if _is_of_memory(cause) else ""
    return CrewLost(f"{what}: {type(cause).__name__}: {cause}.{remedy}")


def _is_of_memory(error: BaseException) -> bool:
    told = "can't allocate memory" in str(error)  # torch's allocator on CPUs has no class for it
    return told or isinstance(error, (MemoryError, torch.OutOfMemoryError))
