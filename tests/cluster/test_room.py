"""Room is counted before anything starts; all pure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from raysubset.cluster.ray_run import hands
from raysubset.cluster.room import Room, beside_other_trials, local_cpus, plan_room
from raysubset.cluster.session import refuse_overlap, settled_on_ray
from raysubset.cluster.sweeping import plan_places
from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings
from tests.small_runs import experiment, prepared


def asked(workers: int = 2, scorers: int = 2, **options: Any) -> ResourceSettings:
    return ResourceSettings(workers=workers, scorers=scorers, **options)


def there(cpus: float, gpus: float = 0) -> dict[str, float]:
    return {"CPU": cpus, "memory": 1e9} | ({"GPU": gpus} if gpus else {})


@pytest.mark.parametrize(
    ("placement", "cpus", "expected", "scorers", "size"),
    [
        ("auto", 4, "actors", 2, 4),
        ("auto", 3, "crew", 0, 2),
        ("auto", 2, "crew", 0, 2),
        ("actors", 4, "actors", 2, 4),
        ("actors", 64, "actors", 2, 4),
        ("crew", 64, "crew", 0, 2),
    ],
)
def test_scorers_stand_beside_the_crew_where_there_is_room(
    placement: Any, cpus: float, expected: str, scorers: int, size: int
):
    room = plan_room(asked(placement=placement), there(cpus))
    assert (room.placement, room.scorers, room.cpus, room.gpus) == (expected, scorers, size, 0)
    assert room.device == "cpu"
    assert room.workers == 2


@pytest.mark.parametrize(
    ("device", "placement", "gpus", "expected"),
    [
        ("auto", "auto", 0, ("cpu", "actors", 0)),
        ("auto", "auto", 0.5, ("cpu", "actors", 0)),
        ("auto", "auto", 2, ("cuda", "crew", 2)),
        ("auto", "auto", 3, ("cuda", "crew", 2)),
        ("auto", "auto", 4, ("cuda", "actors", 4)),
        ("auto", "crew", 4, ("cuda", "crew", 2)),
        ("cuda", "actors", 4, ("cuda", "actors", 4)),
        ("cuda", "auto", 2.5, ("cuda", "crew", 2)),
        ("cpu", "actors", 8, ("cpu", "actors", 0)),
    ],
)
def test_every_rank_and_every_scorer_has_a_whole_gpu(
    device: Any, placement: Any, gpus: float, expected: tuple[str, str, float]
):
    room = plan_room(asked(device=device, placement=placement), there(16, gpus))
    assert (room.device, room.placement, room.gpus) == expected


@pytest.mark.parametrize(
    ("gpus", "ranks", "scorers"), [(0, 2, 2), (1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 2, 2), (8, 2, 6)]
)
def test_auto_is_two_ranks_one_on_one_gpu_and_a_scorer_on_every_gpu_to_spare(
    gpus: int, ranks: int, scorers: int
):
    settled = ResourceSettings().settled(gpus)
    room = plan_room(settled, there(64, gpus))
    assert (settled.workers, room.workers, room.scorers) == (ranks, ranks, scorers)
    assert room.placement == ("actors" if scorers else "crew")
    assert settled.settled(5) == settled  # once settled, it stays


def test_what_others_hold_is_not_spare_and_asked_for_is_waited_for():
    nodes, free = [there(8, 4)], [there(4, 2.5)]
    auto = ResourceSettings(workers=1)
    assert plan_room(auto, nodes).scorers == 3
    assert plan_room(auto, nodes, free=free).scorers == 1
    assert plan_room(auto, nodes, free=[]).placement == "crew"
    wanted = ResourceSettings(workers=1, scorers=3, placement="actors")
    assert plan_room(wanted, nodes, free=free).scorers == 3


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_f35_two_ranks_on_one_gpu_are_refused_by_name_and_nobody_is_sent_to_the_cpu(device: Any):
    with pytest.raises(
        RoomError, match=r"2 training ranks.* need 2 GPUs, and the cluster has 1"
    ) as e:
        plan_room(asked(device=device), there(16, 1))
    assert "--resources.workers" in str(e.value)
    assert plan_room(asked(1, device=device), there(16, 1)).placement == "crew"
    assert plan_room(asked(device="cpu"), there(16, 1)).device == "cpu"


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        ([there(2, 1.5), there(2, 0.5)], "need 2 GPUs, and the cluster has 1"),
        ([there(0, 2), there(8, 1)],
         "need 2 GPUs, and the cluster has 3, of which 1 are whole with a CPU beside it"),
        ([there(1, 4), there(7)], "has 4, of which 1 are whole with a CPU beside it on one node"),
    ],
)  # fmt: skip
def test_a_rank_s_gpu_and_cpu_lie_whole_on_one_node(nodes: list[dict[str, float]], sentence: str):
    with pytest.raises(RoomError, match=sentence):
        plan_room(asked(2, device="auto"), nodes)


def test_halves_of_nodes_are_no_place():
    with pytest.raises(RoomError, match="has 2, of which 1 are whole on one node"):
        plan_room(asked(2), [there(1.5), there(0.5)])
    assert plan_room(asked(2), [there(0), there(2), there(2)]).placement == "actors"


def test_a_trial_of_a_sweep_leaves_the_spare_gpus_to_other_trials():
    nodes = [there(8, 4), there(8, 4)]
    auto = ResourceSettings(workers=2)
    assert beside_other_trials(auto, nodes).placement == "crew"
    assert beside_other_trials(auto, [there(8)]) == auto
    assert beside_other_trials(asked(2, 1), nodes).placement == "auto"
    assert plan_places(auto, nodes, "auto").at_once == 4
    assert plan_places(asked(2, 1), nodes, "auto").at_once == 2
    assert plan_places(ResourceSettings(workers=1), nodes, "auto").mode == "local"


@pytest.mark.parametrize(
    ("resources", "cluster", "sentence"),
    [
        (asked(64), there(4), "64 training ranks need 64 CPUs, and the cluster has 4; "
         "lower --resources.workers"),
        (asked(2), {}, "2 training ranks need 2 CPUs, and the cluster has 0"),
        (asked(2, 3, placement="actors"), there(4),
         "2 training ranks and 3 scorers need 5 CPUs, and the cluster has 4; "
         "lower --resources.scorers"),
        (asked(2, 1, placement="actors", device="cuda"), there(16, 2),
         "2 training ranks and 1 scorers need 3 GPUs, and the cluster has 2"),
        (asked(2, device="cuda"), there(16, 1),
         "2 training ranks on GPUs need 2 GPUs, and the cluster has 1"),
        (asked(2, device="cuda"), there(16), "need 2 GPUs, and the cluster has 0"),
    ],
)  # fmt: skip
def test_f35_too_little_room_is_told_with_both_numbers(
    resources: ResourceSettings, cluster: dict[str, float], sentence: str
):
    with pytest.raises(RoomError) as caught:
        plan_room(resources, cluster)
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_room_is_a_plain_value():
    assert plan_room(asked(), there(4)) == Room(
        placement="actors", device="cpu", workers=2, scorers=2, cpus=4, gpus=0
    )


@pytest.mark.parametrize(
    ("cores", "resources", "cpus"),
    [
        (1, asked(2, 2), 4),
        (2, asked(2, 2), 4),
        (2, asked(1, 8), 9),
        (2, asked(2, 64, placement="crew"), 2),
        (16, asked(2, 2), 16),
    ],
)
def test_a_private_ray_counts_logical_cpus(
    monkeypatch: pytest.MonkeyPatch, cores: int, resources: ResourceSettings, cpus: int
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert local_cpus(resources) == cpus
    assert plan_room(resources, {"CPU": cpus}).workers == resources.workers


@pytest.mark.parametrize(
    ("resources", "sentence"),
    [
        (asked(64), "resources.workers=64, and this machine of 2 cores places at most 2"),
        (asked(3), "resources.workers=3, and this machine of 2 cores places at most 2"),
        (asked(2, 9), "resources.scorers=9, and this machine of 2 cores places at most 8"),
    ],
)
def test_a_machine_says_how_many_it_places(
    monkeypatch: pytest.MonkeyPatch, resources: ResourceSettings, sentence: str
):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(RoomError) as caught:
        local_cpus(resources)
    assert sentence in str(caught.value)
    assert "RAY_ADDRESS" in str(caught.value)


@pytest.mark.parametrize("gpus", [1, 2])
def test_selecting_beside_training_needs_scorers_and_auto_takes_them_where_they_fit(gpus: int):
    overlapped = experiment(selection__overlap=True, resources__workers=1)
    room = plan_room(overlapped.resources, there(16, gpus))
    if gpus == 2:
        assert room.placement == "actors"
        refuse_overlap(overlapped, room.placement)
        return
    assert room.placement == "crew"
    with pytest.raises(RoomError, match=r"no room beside them.*placement actors.*--local"):
        refuse_overlap(overlapped, room.placement)


def test_ranks_that_score_are_refused_beside_training_before_ray_is_looked_for(tmp_path: Path):
    before = ray.is_initialized()
    run = prepared(selection__overlap=True, resources__placement="crew")
    for refuse in (
        lambda: settled_on_ray(run.experiment),
        hands(run.experiment, run.problem, tmp_path).__enter__,
    ):
        with pytest.raises(RoomError, match=r"selection\.overlap=true.*add --local"):
            refuse()
    assert ray.is_initialized() == before
