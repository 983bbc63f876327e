"""Shards as actors: each opens its rows of the factors on this node's disk and answers for them.

Down goes the direction, C x (H+1) numbers put once for all; up come gains, and the chosen rows.
An actor holds nothing that its arguments do not name, so a lost one is started again and asked
again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import (
    Candidates,
    LocalGroundSet,
    Shard,
    ShardedGroundSet,
    Taken,
)
from raysubset.core.scores import Score
from raysubset.core.tops import Top
from raysubset.errors import CrewLost, RaySubsetError
from raysubset.experiment import ResourceSettings
from raysubset.learn.mapped import open_factors
from raysubset.learn.rows import tensor_of
from raysubset.learn.shards import SentScore, SentTaken, ShardHost, received_top

T = TypeVar("T")


@contextmanager
def shard_actors(
    folder: Path, count: int, resources: ResourceSettings, name: str = "select"
) -> Generator[ShardedGroundSet]:
    """Give a ground set whose shards are actors of this node; end them.

    Args:
        folder: the factors, where this node sees them.
        count: of shards; they take no CPU of Ray's count, because nothing else of ours runs.
        resources: threads, patience and failures of each.
        name: what the dashboard calls them by.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    host = ray.remote(ShardHost).options(
        num_cpus=0,
        max_restarts=resources.max_failures,
        max_task_retries=resources.max_failures,
        scheduling_strategy=here,
    )
    mapped = open_factors(folder)
    cuts, threads = mapped.cuts(count), resources.threads_per_rank
    actors: list[Any] = [host.remote(str(folder), *cut, threads) for cut in cuts]
    letters = _Letters()
    try:
        shards = [
            RemoteShard(actor, (folder, *cut), letters, f"{name}:shard-{i}", resources)
            for i, (actor, cut) in enumerate(zip(actors, cuts, strict=True))
        ]
        with ThreadPoolExecutor(count, thread_name_prefix="shards") as pool:

            def each(ask: Callable[[Shard], T], asked: Sequence[Shard]) -> list[T]:
                return list(pool.map(ask, asked))

            list(pool.map(RemoteShard.meet, shards))
            yield ShardedGroundSet(shards, each)
    finally:
        for actor in actors:
            ray.kill(actor)


class RemoteShard:
    """A shard that an actor holds; a `Shard` for whoever asks."""

    def __init__(
        self,
        actor: Any,
        rows: tuple[Path, int, int],
        letters: _Letters,
        name: str,
        resources: ResourceSettings,
    ) -> None:
        """Name the actor and its rows; `meet` it before it is asked."""
        self._actor, self._rows, self._letters, self._name = actor, rows, letters, name
        self._timeout_s = resources.call_timeout_s
        self._class_count_C: list[int] = []

    def meet(self) -> None:
        """Wait until the actor has opened its rows."""
        _, self._class_count_C = self._ask("size")

    @property
    def num_examples(self) -> int:
        """N."""
        return self._rows[2] - self._rows[1]

    @property
    def class_count_C(self) -> list[int]:
        """How many examples each class has."""
        return self._class_count_C

    def best(self, score: Score, k: int, taken: Taken) -> Candidates:
        """Return the k best open rows under class rooms; see `GroundSet`."""
        top = self.top(score, k, taken)
        return Candidates(gain_K=top.gain_K, factors=self.take(top.row_K))

    def top(self, score: Score, k: int, taken: Taken) -> Top:
        """Return the best without their factors; see `GroundSet`."""
        return received_top(self._ask("top", self._letters.of(score), k, SentTaken.of(taken)))

    def take(self, row_K: Tensor) -> GradientFactors:
        """Return the factors of some rows, in their order."""
        return self._ask("take", row_K.numpy()).factors()

    def gradient_sum(self) -> Tensor:
        """Return the sum of all gradients. Shape: (C, H+1)."""
        return tensor_of(self._ask("add_gradients", None))

    def add_gradients(self, total: Tensor) -> Tensor:
        """Return the total with the gradients of these rows added; see `Shard`."""
        return tensor_of(self._ask("add_gradients", total.numpy()))

    def whole(self) -> LocalGroundSet:
        """Return the rows as this process sees them on the disk."""
        folder, start, stop = self._rows
        return LocalGroundSet(open_factors(folder).rows(start, stop))

    def _ask(self, verb: str, *args: Any) -> Any:
        call = getattr(self._actor, verb).options(name=f"{verb}:{self._name}")
        try:
            return ray.get(call.remote(*args), timeout=self._timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, RaySubsetError):
                raise error.cause from error
            raise
        except (RayActorError, GetTimeoutError) as error:
            raise CrewLost(
                f"{self._name} did not answer {verb} ({type(error).__name__}); run the same "
                "command again, with more memory or a larger --resources.call_timeout_s."
            ) from error


class _Letters:
    """The last score that was sent: put once, though every shard is asked it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[Score, Any] | None = None

    def of(self, score: Score) -> Any:
        """Return the reference of a score."""
        with self._lock:
            if self._last is None or self._last[0] is not score:
                self._last = score, ray.put(SentScore.of(score))
            return self._last[1]
