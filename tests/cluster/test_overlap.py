"""`selection.overlap` on Ray: scorers choose for the next round while the ranks train an epoch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from raysubset.cluster.ports import RayPool
from raysubset.errors import RoomError, Stopped
from tests.cluster.crews import assert_same_learning, hands_of, play_on, ready
from tests.small_runs import Left, Watcher, play

pytestmark = pytest.mark.ray
Mark = Callable[..., None]
BESIDE: dict[str, Any] = {"selection__overlap": True, "resources__checkpoint_every_s": 0}
EACH = BESIDE | {"selection__select_every": 1, "training__epochs": 3}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Left]:
    """What one process gives, playing one rank and two."""
    return {w: play(ready(w, **BESIDE), tmp_path_factory.mktemp(f"t{w}"))[1] for w in (1, 2)}


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def at(event: str, number: int, act: Callable[[], object]) -> Watcher:
    """Act when an event of this name comes for the nth time."""

    def see(_: int, name: str) -> None:
        if name == event and watch.names.count(event) == number:
            act()

    watch = Watcher(see)
    return watch


def stop() -> None:
    raise Stopped("asked to stop")


# ---- the bits of one process


@pytest.mark.parametrize("scorers", [1, 3])
def test_two_ranks_give_the_twins_bits(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, scorers: int
):
    hands = hands_of(crew_of_two, three_scorers, scorers)
    left = play_on(hands, ready(2, **BESIDE), tmp_path)[1]
    assert_same_learning(left, twins[2])
    assert left.ids[1] != play(ready(2), tmp_path / "rest")[1].ids[1]  # an older choice is another


def test_one_rank_gives_the_twins_bits(
    crew_of_one: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path
):
    hands = hands_of(crew_of_one, three_scorers, 2)
    assert_same_learning(play_on(hands, ready(1, **BESIDE), tmp_path)[1], twins[1])


def test_a_round_of_one_epoch_begins_with_its_last(
    crew_of_two: Any, three_scorers: Any, tmp_path: Path
):
    hands, run = hands_of(crew_of_two, three_scorers, 2), ready(2, **EACH)
    left = play_on(hands, run, tmp_path / "ray")[1]
    assert_same_learning(left, play(run, tmp_path / "twin")[1])


def test_choices_are_made_beside_training_and_never_at_rest(
    crew_of_two: Any, three_scorers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    threads: list[str] = []
    chosen = RayPool._chosen

    def watched(pool: RayPool, *given: Any) -> Any:
        threads.append(threading.current_thread().name)
        return chosen(pool, *given)

    monkeypatch.setattr(RayPool, "_chosen", watched)
    hands = hands_of(crew_of_two, three_scorers, 2)
    play_on(hands, ready(2, **BESIDE), tmp_path)
    assert threads == ["ahead", "ahead"]


# ---- what dies changes nothing


def test_a_rank_killed_in_the_last_epoch_changes_nothing(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    # An epoch of 36 has 3 batches: the fifth of a round is in its last one. Slow ones leave time
    # for the weights to be taken before that, and the group that comes next sends them again.
    mark("rank0-training-slow")
    watch = at("started", 2, lambda: mark("rank0-training-kill", after=4))
    hands = hands_of(crew_of_two, three_scorers, 2)
    left = play_on(hands, ready(2, **BESIDE), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])


def test_a_mailbox_killed_in_every_round_changes_nothing(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    mark("rank0-training-slow")
    killed: list[int] = []

    def see(_: int, name: str) -> None:
        if name == "training" and len(killed) < watch.names.count("started"):
            killed.append(1)
            ray.kill(crew_of_two.mailbox, no_restart=False)

    watch = Watcher(see)
    hands = hands_of(crew_of_two, three_scorers, 2)
    left = play_on(hands, ready(2, **BESIDE), tmp_path, watch=watch)[1]
    assert killed
    assert_same_learning(left, twins[2])


def test_a_scorer_killed_beside_training_changes_nothing(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    mark("scorer-scoring-kill", after=3)
    hands = hands_of(crew_of_two, three_scorers, 2)
    left = play_on(hands, ready(2, **BESIDE), tmp_path)[1]
    assert_same_learning(left, twins[2])
    assert max(line.get("scoring_retries", 0) for line in left.history) >= 1


# ---- stops


def test_a_run_stopped_beside_a_choice_ends_in_good_order_and_resumes(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    mark("rank0-training-slow", after=1)  # seconds a batch
    mark("scorer-scoring-slow", after=1)
    begun: list[int] = []

    def see(_: int, name: str) -> None:
        if name == "training" and ahead_threads():
            begun.append(1)
            stop()

    hands, run = hands_of(crew_of_two, three_scorers, 2), ready(2, **BESIDE)
    with pytest.raises(Stopped, match="asked"):
        play_on(hands, run, tmp_path, watch=Watcher(see))
    assert begun and not ahead_threads()
    for name in ("rank0-training-slow", "scorer-scoring-slow"):
        mark(name, after=0)
    assert_same_learning(play_on(hands, run, tmp_path, resume=True)[1], twins[2])


def test_a_run_begun_on_one_side_goes_on_on_the_other_without_choosing_again(
    crew_of_two: Any,
    three_scorers: Any,
    twins: dict[int, Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    hands, run = hands_of(crew_of_two, three_scorers, 2), ready(2, **BESIDE)
    with pytest.raises(Stopped):
        play(run, tmp_path, watch=at("started", 2, stop))
    chosen: list[int] = []
    beside = RayPool.select_beside

    def counted(pool: RayPool, phase: Any, *given: Any) -> Any:
        chosen.append(phase.round)
        return beside(pool, phase, *given)

    monkeypatch.setattr(RayPool, "select_beside", counted)
    assert_same_learning(play_on(hands, run, tmp_path, resume=True)[1], twins[2])
    assert chosen == [2]


# ---- refused


def test_a_crew_that_scores_itself_is_refused_before_any_work(crew_of_two: Any, tmp_path: Path):
    with pytest.raises(RoomError, match=r"selection\.overlap=true.*placement actors.*--local"):
        play_on(hands_of(crew_of_two), ready(2, **BESIDE), tmp_path / "run")
    assert not (tmp_path / "run").exists()
