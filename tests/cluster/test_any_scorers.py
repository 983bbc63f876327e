"""F34: any number of scorers, any blocks and any order of arrival give the ids of one process.

What is not real: processes. The real dealing, actor class, reader and choice, over calls that end
in any order, now and then lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from raysubset.cluster import blocks as blocks_module
from raysubset.cluster import one_pass
from raysubset.cluster import scorers as scorers_module
from raysubset.cluster.blocks import Blocks
from raysubset.cluster.ports import RayPool
from raysubset.cluster.scorers import Scorers
from raysubset.learn.local import LocalPool
from raysubset.learn.scoring import Scorer
from raysubset.learn.weights import Weights
from raysubset.strategies.selection import Selection
from tests.cluster.crews import resources, room
from tests.learn.ranks import CPU
from tests.small_runs import Left, play, prepared

SIZES = {"selection__batch_size": 8}  # ten ranges of the pool
STRATEGIES = {
    "exact": SIZES,
    "blocks": {**SIZES, "selection__glister__picks": "blocks(3)"},
    "candidates": {**SIZES, "selection__candidates": 2.0},
}


class Ref:
    """The result of a call that is made when it is waited for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.made: list[Any] = []

    def value(self) -> Any:
        if not self.made:
            self.made.append(self.make())
        return self.made[0]


class Calls:
    """What `ray` is to the scorers: calls end in an order of its own, and some are lost."""

    def __init__(self, seed: int, lost: float = 0.0) -> None:
        self.rng, self.lost, self.losses = random.Random(seed), lost, 0

    def put(self, value: Any) -> Ref:
        return Ref(lambda: value)

    def get(self, refs: Any, timeout: float | None = None) -> Any:
        if isinstance(refs, Sequence):
            return [self.get(ref) for ref in refs]
        return refs.value() if isinstance(refs, Ref) else refs

    def wait(self, refs: Sequence[Ref], num_returns: int = 1, **_: Any) -> tuple[list[Ref], Any]:
        ended = self.rng.sample(list(refs), num_returns)
        return ended, [ref for ref in refs if ref not in ended]

    def kill(self, actor: object) -> None:
        """Leave it to the garbage collector."""

    def remote(self, host: Any) -> SimpleNamespace:
        return SimpleNamespace(
            options=lambda **_: SimpleNamespace(remote=lambda name: Actor(host(name), self))
        )

    def call(self, method: Callable[..., Any], args: Sequence[Any], returns: int) -> Any:
        lost = method.__name__ == "score" and self.rng.random() < self.lost

        def make() -> Any:
            if lost:
                self.losses += 1
                raise ActorUnavailableError("it died", None)
            return method(*args)

        whole = Ref(make)
        if returns == 1:
            return whole
        return tuple(Ref(lambda i=i: whole.value()[i]) for i in range(returns))


class Actor:
    """A handle of an object in this process."""

    def __init__(self, held: Any, calls: Calls) -> None:
        self.held, self.calls = held, calls

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.held, name)

        def options(num_returns: int = 1, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(remote=lambda *args: self.calls.call(method, args, num_returns))

        return SimpleNamespace(options=options, remote=options().remote)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A run whose first round gives the weights to score with."""
    options = {**SIZES, "resources__keep_checkpoints": 9}
    return play(prepared(**options), tmp_path_factory.mktemp("trained") / "run")[1]


def weights_of(left: Left) -> Weights:
    from raysubset.learn.checkpoint import WEIGHTS, CheckpointRef, file_hash

    folder = left.rounds[0] / "checkpoint"
    files = {WEIGHTS: file_hash(folder / WEIGHTS)}
    return Weights(round=0, checkpoint=CheckpointRef(path=str(folder), files=files))


def started(patch: pytest.MonkeyPatch, calls: Calls, count: int, problem: Any) -> Scorers:
    """Return scorers of a problem, with these calls for Ray's."""
    for module in (scorers_module, one_pass, blocks_module):
        patch.setattr(module, "ray", calls)
    patch.setattr(one_pass, "REST_S", 0.0)
    patch.setattr(scorers_module, "device_of_actor", lambda: CPU)
    place, asked = room(workers=2, scorers=count), resources(max_failures=99)
    scorers = Scorers(calls.put(problem.lean()), place, asked)
    scorers.wait_until_ready()
    return scorers


def by_scorers(
    patch: pytest.MonkeyPatch, calls: Calls, count: int, block_bytes: int, strategy: str, left: Left
) -> Selection:
    ready = prepared(**STRATEGIES[strategy])
    problem = ready.problem
    held = Blocks(problem.parts, problem.scoring_batch, calls.put, block_bytes)
    scorers = started(patch, calls, count, problem)
    crew: Any = None
    pool = RayPool("run", ready.chooser, held, crew, scorers, lambda *_: None)
    return pool.select(ready.phases[1], weights_of(left))


def by_one_process(strategy: str, left: Left) -> Selection:
    ready = prepared(**STRATEGIES[strategy])
    pool = LocalPool(ready.chooser, Scorer(ready.problem, CPU), lambda *_: None)
    return pool.select(ready.phases[1], weights_of(left))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_f34_any_scorers_blocks_and_order_of_arrival_give_the_ids_and_gains_of_one_process(
    count: int, strategy: str, trained: Left, monkeypatch: pytest.MonkeyPatch
):
    twin = by_one_process(strategy, trained)
    assert len(twin.ids) > 9
    for seed, block_bytes in enumerate((1, 2 * 16 * 64, 1 << 20)):
        calls = Calls(seed, lost=0.3 if seed else 0.0)
        mine = by_scorers(monkeypatch, calls, count, block_bytes, strategy, trained)
        assert mine.ids.tolist() == twin.ids.tolist()
        assert mine.gains.tobytes() == twin.gains.tobytes()
        assert mine.facts["scoring_retries"] == calls.losses
        assert bool(calls.losses) == bool(seed)


def test_f34_ranges_do_arrive_in_other_orders(trained: Left, monkeypatch: pytest.MonkeyPatch):
    """Else the law above would be of one order only."""
    orders: set[tuple[int, ...]] = set()
    take = one_pass.Pass.take
    for seed in range(3):
        order: list[int] = []

        def noted(work: Any, ref: Any, order: list[int] = order) -> bool:
            index = work.flying[ref].index
            order.append(-1 if index is None else index)
            return take(work, ref)

        monkeypatch.setattr(one_pass.Pass, "take", noted)
        by_scorers(monkeypatch, Calls(seed), 3, 1, "exact", trained)
        orders.add(tuple(order))
        assert sorted(order) == list(range(len(order))) and len(order) > 9
    assert len(orders) == 3
