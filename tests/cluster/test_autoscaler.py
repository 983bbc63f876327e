"""What an autoscaler says of itself, as a person reads it; all pure."""

from __future__ import annotations

from typing import Any

import pytest
from ray.core.generated import autoscaler_pb2

from raysubset.cluster import autoscaler
from raysubset.cluster.autoscaler import Autoscaler, types_of

YAML: dict[str, Any] = {
    "head_node_type": "head",
    "max_workers": 3,
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "gpu_spot": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 8},
        "cpu": {"resources": {"CPU": 4}, "max_workers": 1},
    },
}


def state(**fields: Any) -> Any:
    return autoscaler_pb2.AutoscalingState(**fields)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_cluster_yaml_tells_how_many_nodes_of_each_type_there_may_be():
    assert types_of(YAML) == {
        "gpu_spot": (3, {"CPU": 8, "GPU": 1}),
        "cpu": (1, {"CPU": 4}),
    }
    kinds = {**YAML["available_node_types"], "unknown": {}}
    assert types_of({**YAML, "available_node_types": kinds}) is None


def test_what_stands_is_not_counted_again():
    could = autoscaler._could_start(types_of(YAML) or {}, autoscaler.Counter({"gpu_spot": 2}))
    assert could == [{"CPU": 8, "GPU": 1}, {"CPU": 4}]


@pytest.mark.parametrize("newer", [True, False])
def test_nodes_on_their_way_are_counted_by_type_and_stage(newer: bool):
    if newer:
        told = state(
            pending_instance_requests=[{"ray_node_type_name": "gpu_spot", "count": 1}],
            pending_instances=[{"ray_node_type_name": "gpu_spot"}],
            failed_instance_requests=[{"ray_node_type_name": "cpu", "reason": "no capacity"}],
        )
        scaler = autoscaler._of_state(told, None)
    else:
        report = {
            "pending_launches": {"gpu_spot": 1},
            "pending_nodes": [["10.0.0.3", "gpu_spot", "setting-up"]],
            "failed_nodes": [["10.0.0.4", "cpu"]],
        }
        scaler = autoscaler._of_report(report, None)
    assert "waiting for 2 nodes of gpu_spot: 1 launching, 1 pending" in scaler.told()
    assert "cpu failed: " in scaler.told()
    assert not scaler.infeasible


def test_nothing_on_its_way_is_said_too():
    idle = Autoscaler(could_start=[], launching={}, pending={}, failed={})
    assert idle.told() == "waiting for the autoscaler to start nodes"


@pytest.mark.parametrize(
    ("active", "managed"),
    [
        ({"node_3f": 1}, False),
        ({"local.cluster.node": 1}, False),
        ({"gpu_spot": 1}, True),
        ({}, False),
    ],
)
def test_a_monitor_that_only_reads_is_no_autoscaler(active: dict[str, int], managed: bool):
    assert autoscaler._manages_nodes({"active_nodes": active}) == managed
