"""Ray gives the ids and the bits of one process, whoever scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray

from jobs.soaks.folders import differences
from raysubset.errors import Stopped
from tests.cluster.crews import assert_same_learning, hands_of, play_on, ready
from tests.small_runs import Left, Watcher, play

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Left]:
    """What one process gives, playing one rank and two."""
    return {w: play(ready(w), tmp_path_factory.mktemp(f"twin{w}"))[1] for w in (1, 2)}


def test_another_number_of_ranks_is_another_run(twins: dict[int, Left]):
    assert twins[1].ids[0] == twins[2].ids[0]  # nothing is learned yet
    assert twins[1].ids[1:] != twins[2].ids[1:]


@pytest.mark.parametrize("scorers", [1, 2, 3, 0], ids=["1", "2", "3", "crew"])
def test_f34_two_ranks_give_the_twins_bits_with_any_scorers(
    crew_of_two: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, scorers: int
):
    hands = hands_of(crew_of_two, three_scorers, scorers)
    outcome, left = play_on(hands, ready(2), tmp_path)
    assert_same_learning(left, twins[2])
    assert differences(left.path, twins[2].path, across=True) == []
    assert outcome.test_accuracy == twins[2].result["test_accuracy"]
    wholly = [line for line in left.history if line["kind"] == "round"]
    retries = [line["scoring_retries"] for line in wholly if line["examples_scored"] and scorers]
    assert not any(retries)


@pytest.mark.parametrize("scorers", [2, 0], ids=["2", "crew"])
def test_one_rank_gives_the_twins_bits(
    crew_of_one: Any, three_scorers: Any, twins: dict[int, Left], tmp_path: Path, scorers: int
):
    hands = hands_of(crew_of_one, three_scorers, scorers)
    assert_same_learning(play_on(hands, ready(1), tmp_path)[1], twins[1])


@pytest.mark.parametrize(
    "options",
    [
        {"selection__strategy": "adaptive-random"},
        {"selection__warm_start": 0.4, "selection__candidates": 2.0},
        {"selection__glister": {"gradient": "bias", "picks": "block(5)"}},
        {"selection__strategy": "full", "training__epochs": 2},
    ],
    ids=["adaptive-random", "warm-candidates", "bias-blocks", "full"],
)
def test_other_strategies_have_twins_too(crew_of_two: Any, tmp_path: Path, options: dict[str, Any]):
    run = ready(2, **_hashable(options))
    left = play_on(hands_of(crew_of_two), run, tmp_path / "ray")[1]
    assert_same_learning(left, play(run, tmp_path / "twin")[1])


@pytest.mark.parametrize("first", ["here", "on Ray"])
def test_a_run_begun_on_one_side_goes_on_on_the_other(
    crew_of_two: Any, twins: dict[int, Left], tmp_path: Path, first: str
):
    def play_there(**how: Any) -> Left:
        return play_on(hands_of(crew_of_two), ready(2), tmp_path, **how)[1]

    def play_here(**how: Any) -> Left:
        return play(ready(2), tmp_path, **how)[1]

    begin, go_on = (play_here, play_there) if first == "here" else (play_there, play_here)
    with pytest.raises(Stopped):
        begin(watch=Watcher(_stop_in_round(2)))
    done = Left(tmp_path).history[-1]["round"]
    assert done < len(twins[2].rounds) - 1
    assert_same_learning(go_on(resume=True), twins[2])


def test_f34_runs_on_ray_leave_one_folder_but_for_times_and_no_references_to_objects(
    crew_of_two: Any, three_scorers: Any, tmp_path: Path
):
    hands = hands_of(crew_of_two, three_scorers, 2)
    counts: list[int] = []
    for n in range(3):
        play_on(hands, ready(2), tmp_path / str(n))
        counts.append(_references())
    assert counts[2] <= counts[0]
    assert differences(tmp_path / "0", tmp_path / "1") == []


def _references() -> int:
    return len(ray._private.worker.global_worker.core_worker.get_all_reference_counts())


def _stop_in_round(number: int) -> Any:
    started: list[str] = []

    def see(_: int, name: str) -> None:
        started.extend([name] * (name == "started"))
        if len(started) > number:
            raise Stopped("enough.")

    return see


def _hashable(options: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}__{k}".rstrip("_"): v for k, v in inner.items()}
    return flat
