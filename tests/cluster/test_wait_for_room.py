"""Places that are not free yet are waited for so long and no longer, and it is told; no Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raysubset.cluster import group
from raysubset.cluster.autoscaler import Autoscaler
from raysubset.cluster.group import wait_for_room
from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings
from tests.cluster.crews import room

POLL_S = group.ROOM_POLL_S


class Cluster:
    """A Ray that has no room, for so long, and a clock that only waits move."""

    def __init__(self, patch: pytest.MonkeyPatch, free_after_s: float = 1e9) -> None:
        self.now, self.reserved, self.free_after_s = 0.0, 0, free_after_s
        self.scaler: Autoscaler | None = None
        patch.setattr(group, "placement_group", self._reserve)
        patch.setattr(group, "remove_placement_group", self._let_go)
        patch.setattr(group, "ray", SimpleNamespace(wait=self._wait))
        patch.setattr(group, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(group, "find_autoscaler", lambda: self.scaler)
        patch.setattr(group, "available_resources_per_node", lambda: {"node": {"CPU": 1.0}})

    def _reserve(self, bundles: list[Any], strategy: str) -> Any:
        self.reserved += len(bundles)
        return SimpleNamespace(ready=lambda: "ready", size=len(bundles))

    def _let_go(self, places: Any) -> None:
        self.reserved -= places.size

    def _wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self.now += timeout
        return (refs, []) if self.now >= self.free_after_s else ([], refs)


def scaler(**more: Any) -> Autoscaler:
    told: dict[str, Any] = {"could_start": [], "launching": {}, "pending": {}, "failed": {}}
    return Autoscaler(**told | more)


def test_f35_a_cluster_that_is_too_small_is_told_within_a_minute(monkeypatch: pytest.MonkeyPatch):
    cluster = Cluster(monkeypatch)
    told = r"needs 2 CPUs for 2 ranks and as many for 3 scorers.*within 60 s; free: 1 CPUs, 0 GPUs"
    with pytest.raises(RoomError, match=told) as caught:
        wait_for_room(room(workers=2, scorers=3), ResourceSettings())
    assert cluster.now <= 60
    assert "--resources.start_timeout_s" in str(caught.value)
    assert cluster.reserved == 0


def test_f35_nodes_on_their_way_are_told_at_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    cluster = Cluster(monkeypatch, free_after_s=300)
    cluster.scaler = scaler(launching={"gpu_spot": 2})
    wait_for_room(room(workers=2), ResourceSettings())
    assert cluster.now == 300 and cluster.reserved == 0
    first = "waiting for 2 nodes of gpu_spot: 2 launching; 1 s"
    assert [record.message for record in caplog.records] == [first]


@pytest.mark.parametrize(
    ("infeasible", "limit_s", "sentence"),
    [
        (False, 900, "within 900 s; free: .*The autoscaler: waiting for the autoscaler"),
        (True, 60, "within 60 s; .*no node type of its can hold what is asked for"),
    ],
)
def test_f35_an_autoscaler_is_waited_for_no_longer_than_it_can_help(
    monkeypatch: pytest.MonkeyPatch, infeasible: bool, limit_s: float, sentence: str
):
    cluster = Cluster(monkeypatch)
    cluster.scaler = scaler(infeasible=infeasible)
    with pytest.raises(RoomError, match=sentence):
        wait_for_room(room(workers=2), ResourceSettings())
    assert limit_s <= cluster.now <= limit_s + POLL_S
    assert cluster.reserved == 0
