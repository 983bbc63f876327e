"""Scorers of a frozen backbone: each is dealt what it keeps, and what is lost is computed again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.dealing import Deal
from raysubset.cluster.ports import RayPool
from raysubset.learn.local import LocalPool
from raysubset.learn.recall import Recall
from raysubset.learn.scoring import Scorer
from raysubset.learn.weights import Weights
from raysubset.strategies.selection import Selection
from tests.cluster.test_any_scorers import Calls, Ref, started
from tests.learn.ranks import CPU
from tests.small_runs import prepared

FROZEN: dict[str, Any] = {
    "model__name": "tests.learn.awkward_models:normed",
    "model__frozen": True,
    "selection__batch_size": 8,  # ten ranges of the pool
}
ROUNDS = 4
Select = Callable[[Any, Weights], Selection]


class Forgetful(Calls):
    """A lost actor comes back with nothing in its memory."""

    def call(self, method: Callable[..., Any], args: Any, returns: int) -> Any:
        result = super().call(method, args, returns)
        refs = result if isinstance(result, tuple) else (result,)
        for ref in refs:
            ref.make = self._losing(ref.make, method.__self__)
        return result

    def _losing(self, make: Callable[[], Any], actor: Any) -> Callable[[], Any]:
        def made() -> Any:
            try:
                return make()
            except Exception:
                actor._scorer, actor.version = None, ""
                raise

        return made


class Dying(Calls):
    """The first actor dies for good in the second round, with all that it keeps."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.dealt = 0

    def call(self, method: Callable[..., Any], args: Any, returns: int) -> Any:
        self.dealt += method.__name__ == "score"
        if self.dealt > 12 and method.__self__.name == "raysubset-scorer-0 run":

            def dead() -> Any:
                self.losses += 1
                raise ActorDiedError

            return tuple(Ref(dead) for _ in range(returns)) if returns > 1 else Ref(dead)
        return super().call(method, args, returns)


def selections(select: Select) -> list[Selection]:
    """Select for one phase at the weights of a head that moves."""
    ready = prepared(**FROZEN)
    model, head = ready.problem.build()
    found: list[Selection] = []
    for round_ in range(ROUNDS):
        state = {name: value.clone() for name, value in model.state_dict().items()}
        state[f"{head.name}.bias"][round_] += 1 + round_
        found.append(select(ready.phases[1], Weights(round=round_, tensors=state)))
    return found


def by_scorers(patch: pytest.MonkeyPatch, calls: Calls, count: int) -> list[Selection]:
    ready = prepared(**FROZEN)
    problem, crew = ready.problem, None
    held = Blocks(problem.parts, problem.scoring_batch, calls.put, 2 * 16 * 64)
    scorers = started(patch, calls, count, problem)
    pool = RayPool("run", ready.chooser, held, crew, scorers, lambda *_: None)  # type: ignore[arg-type]
    return selections(pool.select)


@pytest.fixture(scope="module")
def twin() -> list[Selection]:
    """What one process gives that remembers nothing."""
    ready = prepared(**FROZEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recall, "is_on", lambda self: False)
        return selections(LocalPool(ready.chooser, Scorer(ready.problem, CPU), tell_nobody).select)


def tell_nobody(stage: str, done: int, of: int) -> None:
    """Tell nobody."""


def facts(chosen: list[Selection], name: str) -> list[float]:
    return [selection.facts[f"examples_{name}"] for selection in chosen]


def assert_same(mine: list[Selection], twin: list[Selection]) -> None:
    assert len({tuple(selection.ids) for selection in twin}) > 1, "the head moves the choice"
    for one, other in zip(mine, twin, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.gains.tobytes() == other.gains.tobytes()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_after_the_first_round_no_row_goes_through_the_backbone(
    count: int, twin: list[Selection], monkeypatch: pytest.MonkeyPatch
):
    for seed in range(2):
        mine = by_scorers(monkeypatch, Calls(seed), count)
        assert_same(mine, twin)
        scored = facts(mine, "scored")
        assert facts(mine, "forwarded") == [scored[0], 0.0, 0.0, 0.0]
        assert facts(mine, "remembered") == [0.0, *scored[1:]]


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_lost_scorer_kept_is_computed_again_by_others(
    count: int, twin: list[Selection], monkeypatch: pytest.MonkeyPatch
):
    again = 0.0
    for seed in range(3):
        calls = Forgetful(seed, lost=0.2)
        mine = by_scorers(monkeypatch, calls, count)
        assert_same(mine, twin)
        assert calls.losses
        told = zip(facts(mine, "forwarded"), facts(mine, "remembered"), strict=True)
        assert [a + b for a, b in told] == facts(mine, "scored")
        again += sum(facts(mine, "forwarded")[1:])
    assert again > 0


def test_what_a_dead_scorer_kept_goes_to_who_lives(
    twin: list[Selection], monkeypatch: pytest.MonkeyPatch
):
    calls = Dying(0)
    mine = by_scorers(monkeypatch, calls, 2)
    assert calls.losses
    assert_same(mine, twin)
    assert facts(mine, "forwarded")[1] > 0
    assert facts(mine, "forwarded")[-1] == 0.0  # the other knows them by then


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(),
)
def test_what_an_actor_knows_is_dealt_to_it_alone_until_it_is_lost(
    ranges: list[tuple[int, int]], actors: int, seed: int
):
    knows = {i: owner for i, (_, owner) in enumerate(ranges) if owner < actors}
    deal, luck = Deal([block for block, _ in ranges], knows), random.Random(seed)
    done, lost = list[int](), set[int]()
    while len(deal):
        assert 0 <= deal.first() < len(ranges)
        free = [actor for actor in range(actors) if deal.has(actor)]
        assert free, "somebody can do what is left"
        actor = luck.choice(free)
        index = deal.next(actor)
        if luck.random() < 0.2:
            lost.add(actor)
            deal.forget(actor)
            deal.give_back(index)
            continue
        done.append(index)
        assert knows.get(index) in (None, actor, *lost)
    assert sorted(done) == list(range(len(ranges)))


def test_one_that_has_nothing_left_is_told_so():
    deal = Deal(["a", "a"], {0: 0, 1: 0})
    assert deal.has(0) and not deal.has(1)
    with pytest.raises(IndexError, match="for this actor"):
        deal.next(1)
    deal.forget(0)
    assert {deal.next(1), deal.next(1)} == {0, 1}
