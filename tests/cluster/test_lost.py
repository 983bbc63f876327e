"""What dies on a real Ray changes nothing but time, or ends in a sentence; never in a hang."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from raysubset.cluster.one_pass import IN_FLIGHT
from raysubset.cluster.scorers import Scorers
from raysubset.errors import CrewLost, ModelError, TrainingDiverged
from raysubset.report.record import read_run
from raysubset.report.run_tables import rounds_table
from tests.cluster.crews import (
    assert_same_learning,
    hands_of,
    play_on,
    process_of,
    ready,
    resources,
    room,
    score_all,
)
from tests.small_runs import Left, Watcher, play

pytestmark = pytest.mark.ray
Mark = Callable[..., None]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Left]:
    """What one process gives, playing one rank and two."""
    return {w: play(ready(w), tmp_path_factory.mktemp(f"twin{w}"))[1] for w in (1, 2)}


@pytest.fixture
def fragile_scorers(problem_ref: Any) -> Generator[Scorers]:
    """Two scorers that are not started again."""
    scorers = Scorers(problem_ref, room(workers=1, scorers=2), resources(max_failures=0))
    scorers.wait_until_ready()
    yield scorers
    scorers.close()


def at(event: str, number: int, act: Callable[[], object]) -> Watcher:
    """Act when an event of this name comes for the nth time."""
    seen: list[str] = []

    def see(_: int, name: str) -> None:
        seen.append(name)
        if name == event and seen.count(event) == number:
            act()

    return Watcher(see)


def retries(left: Left) -> list[float]:
    return [line["scoring_retries"] for line in left.history if "scoring_retries" in line]


def test_f01_a_scorer_killed_in_the_middle_of_a_pass_changes_nothing_and_is_counted(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    hands = hands_of(crew_of_two, three_scorers, 2)
    watch = at("scoring", 3, lambda: mark("scorer-scoring-kill"))
    left = play_on(hands, ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])
    assert 1 <= retries(left)[0] <= IN_FLIGHT  # the range in work, and one that waited for it
    assert max(retries(left)[1:]) == 0
    columns = rounds_table(read_run(tmp_path), None).columns
    again = next(column for column in columns if column.name == "scored again")
    assert sum(int(cell) for cell in again.cells) == retries(left)[0]


def test_f05_a_scorer_that_hangs_is_replaced_and_changes_nothing(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    hands = hands_of(crew_of_two, three_scorers, 2)
    assert hands.scorers is not None
    hands.scorers.resources = resources(call_timeout_s=2)
    watch = at("scoring", 3, lambda: mark("scorer-scoring-stop"))
    left = play_on(hands, ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])
    assert retries(left)[0] >= 1


def test_f01_all_scorers_killed_between_two_passes_are_started_again(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path
):
    def kill() -> None:
        for actor in three_scorers.actors[:2]:
            ray.kill(actor, no_restart=False)

    hands = hands_of(crew_of_two, three_scorers, 2)
    left = play_on(hands, ready(2), tmp_path, watch=at("done", 2, kill))[1]
    assert_same_learning(left, twins[2])


def test_f01_a_dead_scorers_ranges_go_to_the_one_that_lives(fragile_scorers: Scorers):
    clean = score_all(fragile_scorers)
    ray.kill(fragile_scorers.actors[0])
    again = score_all(fragile_scorers)
    assert fragile_scorers.gone == {0}
    for mine, twin in zip(again.outputs, clean.outputs, strict=True):
        np.testing.assert_array_equal(mine.ids, twin.ids)
        np.testing.assert_array_equal(mine.logits, twin.logits)
        np.testing.assert_array_equal(mine.embeddings, twin.embeddings)


def test_f02_when_every_scorer_dies_the_ids_and_the_remedy_are_named(
    fragile_scorers: Scorers, mark: Mark
):
    mark("scorer-scoring-kill")
    told = r"all 2 scorers died, the last at pool ids \d+-\d+\..*--resume.*selection.batch_size"
    with pytest.raises(CrewLost, match=told):
        while True:  # each kills one
            score_all(fragile_scorers)
            mark("scorer-scoring-kill")
    with pytest.raises(CrewLost, match="all 2 scorers died"):
        score_all(fragile_scorers)


def test_f02_a_range_that_no_scorer_survives_is_named_with_the_remedy(problem_ref: Any, mark: Mark):
    # Its own: it is still starting again when the test ends.
    alone = Scorers(problem_ref, room(workers=1, scorers=1), resources(max_failures=9))
    alone.wait_until_ready()
    alone.resources = resources(max_failures=0)
    mark("scorer-scoring-die", after=8)  # a whole batch; it builds the model with less
    told = r"scorers died 2 times at pool ids \d+-\d+ \(\w+\)\. Too little memory is.*batch_size"
    with pytest.raises(CrewLost, match=told):
        score_all(alone)
    alone.close()


def test_f02_a_range_that_does_not_fit_is_named_at_once_and_never_scored_in_smaller_batches(
    three_scorers: Any, mark: Mark
):
    score_all(three_scorers)  # one that was lost before builds its model, which is no range
    mark("scorer-scoring-memory")
    told = r"scorer \d failed at pool ids \d+-\d+: MemoryError: .*--selection\.batch_size"
    with pytest.raises(CrewLost, match=told):
        score_all(three_scorers)


def test_a_scorers_refusal_reaches_the_driver_as_itself(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    hands = hands_of(crew_of_two, three_scorers, 1)
    watch = at("scoring", 1, lambda: mark("scorer-scoring-nan"))
    with pytest.raises(TrainingDiverged) as caught:
        play_on(hands, ready(2), tmp_path, watch=watch)
    assert type(caught.value) is TrainingDiverged
    assert "\n" not in str(caught.value)
    assert "the model gives NaN or infinity for 8 rows of pool, first ids [" in str(caught.value)
    assert_same_learning(play_on(hands, ready(2), tmp_path, resume=True)[1], twins[2])


def test_a_scorers_accident_is_told_in_a_sentence(three_scorers: Any, mark: Mark):
    score_all(three_scorers)
    mark("scorer-scoring-raise")
    told = r"scorer \d failed at pool ids \d+-\d+: RuntimeError: the marked"
    with pytest.raises(CrewLost, match=told):
        score_all(three_scorers)


def test_a_model_that_no_scorer_can_build_is_told_before_any_work(ray_session: None):
    problem = ready(1).problem
    other = replace(problem, model=problem.model.model_copy(update={"name": "no_such:model"}))
    scorers = Scorers(ray.put(other), room(workers=1, scorers=1), resources(max_failures=0))
    with pytest.raises(ModelError, match="no_such"):
        scorers.wait_until_ready()
    scorers.close()


def test_f04_a_rank_killed_in_the_middle_of_an_epoch_changes_nothing(
    crew_of_two: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    watch = at("started", 2, lambda: mark("rank1-training-kill", after=3))
    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])


@pytest.mark.slow
def test_f05_a_rank_that_hangs_is_told_by_its_silence_and_the_crew_is_started_again(
    crew_of_two: Any,
    twins: dict[int, Left],
    tmp_path: Path,
    mark: Mark,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(crew_of_two, "resources", resources(call_timeout_s=5, max_failures=9))
    watch = at("started", 2, lambda: mark("rank1-training-stop", after=3))
    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])
    assert "no sign of life from rank" in caplog.text


def test_f05_a_mailbox_that_hangs_is_replaced_and_changes_nothing(
    crew_of_two: Any,
    twins: dict[int, Left],
    tmp_path: Path,
    mark: Mark,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr("raysubset.cluster.crew.MAILBOX_S", 3)
    stopped = process_of(crew_of_two.mailbox)
    watch = at("done", 1, lambda: os.kill(stopped, signal.SIGSTOP))
    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])
    assert "the mailbox is silent for 3 s" in caplog.text
    assert process_of(crew_of_two.mailbox) != stopped


def test_f04_a_state_lost_before_it_was_committed_is_trained_again(
    crew_of_two: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    # In `crew` placement: rank 0 dies while it scores with weights that no manifest has yet.
    watch = at("started", 2, lambda: mark("rank0-scoring-kill", after=1))
    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])


def test_f05_a_mailbox_killed_while_an_order_is_open_changes_nothing(
    crew_of_two: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    mark("rank0-training-slow")
    killed: list[int] = []

    def see(_: int, name: str) -> None:
        if name == "training" and len(killed) < 2:
            killed.append(1)
            ray.kill(crew_of_two.mailbox, no_restart=False)

    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=Watcher(see))[1]
    assert killed
    assert_same_learning(left, twins[2])


def test_f05_a_mailbox_killed_after_ranks_answered_changes_nothing(
    crew_of_two: Any, twins: dict[int, Left], tmp_path: Path
):
    watch = at("done", 1, lambda: ray.kill(crew_of_two.mailbox, no_restart=False))
    left = play_on(hands_of(crew_of_two), ready(2), tmp_path, watch=watch)[1]
    assert_same_learning(left, twins[2])


def test_a_ranks_refusal_reaches_the_driver_and_the_crew_goes_on(
    crew_of_one: Any, twins: dict[int, Left], tmp_path: Path, mark: Mark
):
    watch = at("started", 2, lambda: mark("rank0-scoring-nan"))
    with pytest.raises(TrainingDiverged, match="NaN or infinity for 8 rows") as caught:
        play_on(hands_of(crew_of_one), ready(1), tmp_path / "bad", watch=watch)
    assert type(caught.value) is TrainingDiverged
    left = play_on(hands_of(crew_of_one), ready(1), tmp_path / "good")[1]
    assert_same_learning(left, twins[1])


def test_f04_an_accident_beyond_max_failures_names_the_rank_and_the_cause(
    last_of_one: Any, tmp_path: Path, mark: Mark
):
    mark("rank0-training-raise", after=2)
    with pytest.raises(
        CrewLost, match=r"rank 0: .*RuntimeError: the marked model was told to raise.*--resume"
    ):
        play_on(hands_of(last_of_one), ready(1), tmp_path)
    with pytest.raises(CrewLost, match=r"rank 0: .*told to raise"):  # and every order after it
        play_on(hands_of(last_of_one), ready(1), tmp_path / "more")
