"""Crews that cannot start say so in time, and leave nothing behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysubset.cluster import session
from raysubset.cluster.crew import Crew
from raysubset.cluster.room import Room
from raysubset.cluster.scorers import Scorers
from raysubset.errors import CrewLost, RoomError
from tests.cluster.crews import living, resources, room, score_all, until
from tests.small_runs import experiment

WAIT_S = 240
pytestmark = pytest.mark.ray


def reserved() -> set[str]:
    groups = ray.util.placement_group_table()
    return {key for key, group in groups.items() if group["state"] != "REMOVED"}


def crews() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "crew"}


def free() -> float:
    return ray.available_resources().get("CPU", 0.0)


def test_f35_a_crew_larger_than_the_cluster_is_refused_and_leaves_nothing(
    problem_ref: Any, tmp_path: Path
):
    before, threads = living() | reserved(), crews()
    with pytest.raises(RoomError, match=r"needs 64 CPUs for 64 ranks.*within 2 s; free: .* CPUs"):
        Crew(problem_ref, room(workers=64), resources(start_timeout_s=2), tmp_path / ".ray")
    assert crews() == threads
    until(lambda: not (living() | reserved()) - before, "nothing is left")
    assert not any(tmp_path.iterdir())


def test_f35_gpus_that_are_not_there_are_named(problem_ref: Any, tmp_path: Path):
    gpus = Room(placement="crew", device="cuda", workers=2, scorers=0, cpus=2, gpus=2)
    with pytest.raises(RoomError, match=r"needs 2 GPUs for 2 ranks.*0 GPUs"):
        Crew(problem_ref, gpus, resources(start_timeout_s=1), tmp_path)


def test_a_crew_that_starts_too_slowly_is_ended_by_force(
    problem_ref: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raysubset.cluster.crew.STOP_S", 0.1)
    before, threads, cpus = living() | reserved(), crews(), free()
    with pytest.raises(RoomError, match=r"1 ranks was placed, but did not start within \d+ s"):
        Crew(problem_ref, room(workers=1), resources(start_timeout_s=1), tmp_path)
    until(lambda: not (living() | reserved()) - before, "the late crew is gone")
    until(lambda: free() >= cpus and crews() == threads, "its CPU is free again")


def test_scorers_without_room_are_refused(problem_ref: Any):
    before = living()
    scorers = Scorers(problem_ref, room(workers=1, scorers=12), resources(start_timeout_s=2))
    with pytest.raises(
        RoomError, match=r"\d+ of 12 scorers did not start within \d+ s \(number [\d, ]+\); lower"
    ):
        scorers.wait_until_ready()
    scorers.close()
    until(lambda: not living() - before, "the scorers are gone")


def test_what_fit_raises_at_its_start_wakes_the_driver(
    problem_ref: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Trainer:
        def fit(self) -> None:
            raise OSError("no space left on device")

    monkeypatch.setattr("raysubset.cluster.crew.make_trainer", lambda *_: Trainer())
    before = living()
    with pytest.raises(CrewLost, match="the training group ended: OSError: no space left"):
        Crew(problem_ref, room(workers=1), resources(), tmp_path)
    until(lambda: not living() - before, "the mailbox is gone")


class Trial:
    """What a Tune trial is to us: an actor whose children its placement group captures."""

    def score(self, problem: list[Any]) -> int:
        scorers = Scorers(problem[0], room(workers=1, scorers=1), resources())
        try:
            scorers.wait_until_ready()
            return len(score_all(scorers).outputs)
        finally:
            scorers.close()


def test_scorers_start_inside_a_tune_trial(problem_ref: Any):
    places = ray.util.placement_group([{"CPU": 0.1}])
    strategy = PlacementGroupSchedulingStrategy(
        placement_group=places, placement_group_capture_child_tasks=True
    )
    trial = ray.remote(Trial).options(num_cpus=0.1, scheduling_strategy=strategy).remote()
    try:
        assert ray.get(trial.score.remote([problem_ref]), timeout=WAIT_S) == 9
    finally:
        ray.kill(trial)
        ray.util.remove_placement_group(places)


def test_a_connected_ray_is_used_as_it_is_and_counted(ray_session: None):
    with session.ray_session(experiment(resources__placement="actors")) as there:
        assert (there.placement, there.workers) == ("actors", 2)
    assert ray.is_initialized()
    with pytest.raises(RoomError, match="64 training ranks need 64 CPUs, and the cluster has 10"):
        with session.ray_session(experiment(resources__workers=64)):
            pass
    assert ray.is_initialized()
