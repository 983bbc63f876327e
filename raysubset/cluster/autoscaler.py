"""The autoscaler: what it could start, and what it is starting, read without the dashboard."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml
from ray._private import ray_constants
from ray._private.state import state
from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue] (compiled)
from ray.core.generated import autoscaler_pb2
from ray.exceptions import RpcError
from ray.experimental.internal_kv import _internal_kv_get

from raysubset.cluster.room import Nodes

logger = logging.getLogger(__name__)
RPC_S = 10.0
BOOTSTRAP = "~/ray_bootstrap_config.yaml"
"""What `ray up` leaves on the head: the cluster.yaml that the autoscaler there goes by."""
MANY = 1000
Types = dict[str, tuple[int, dict[str, float]]]
"""Node type -> (most nodes of it, the resources of one)."""
_READ_ONLY = ("node_", "local.cluster.node")


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """An autoscaler's state.

    Attributes:
        could_start: the resources of every node that it may still add; None where it tells nobody
            (KubeRay): what is too much then only shows when it says so, or when time is up.
        launching: node type -> nodes that are asked for.
        pending: node type -> nodes that exist and do not run Ray yet.
        failed: node type -> why the last one could not be started.
        infeasible: whether it said that it can never place something that is asked for.
    """

    could_start: Nodes | None
    launching: Mapping[str, int]
    pending: Mapping[str, int]
    failed: Mapping[str, str]
    infeasible: bool = False

    def told(self) -> str:
        """Return "waiting for 2 nodes of gpu_spot: 1 launching, 1 pending", or why for none."""
        lines: list[str] = []
        for name in sorted({*self.launching, *self.pending}):
            counts = {
                "launching": self.launching.get(name, 0),
                "pending": self.pending.get(name, 0),
            }
            total = sum(counts.values())
            each = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
            lines.append(f"{total} node{'s' * (total > 1)} of {name}: {each}")
        told = "waiting for " + ("; ".join(lines) or "the autoscaler to start nodes")
        failed = "; ".join(f"{name} failed: {why}" for name, why in sorted(self.failed.items()))
        return f"{told} ({failed})" if failed else told


def find_autoscaler() -> Autoscaler | None:
    """Return the autoscaler of the Ray that is connected; None where nodes are only added by hand.

    Every `ray start --head` has a monitor; one without node types adds nothing.
    """
    try:
        reply, legacy, config = _status(), _legacy_report(), state.get_cluster_config()
    except RpcError as error:  # what the autoscaler does is worth waiting for, not dying of
        logger.warning("Ray does not tell about its autoscaler (%s)", error)
        return None
    newer = bool(reply.autoscaling_state.autoscaler_state_version)
    if config is None and not newer and not _manages_nodes(legacy):
        return None
    types = _types_of_groups(config) if config is not None else _types_on_head()
    could = None if types is None else _could_start(types, _standing(reply, legacy))
    return _of_state(reply.autoscaling_state, could) if newer else _of_report(legacy, could)


def _status() -> Any:
    address = ray.get_runtime_context().gcs_address
    reply: Any = autoscaler_pb2.GetClusterStatusReply()  # pyright: ignore[reportAttributeAccessIssue]
    reply.ParseFromString(GcsClient(address=address).get_cluster_status(timeout_s=RPC_S))
    return reply


def _legacy_report() -> dict[str, Any]:
    """Return the report of the older autoscaler; {} before its first."""
    told = _internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
    return (json.loads(told) if told else {}).get("autoscaler_report") or {}


def _manages_nodes(report: Mapping[str, Any]) -> bool:
    names = [*report.get("active_nodes", {}), *report.get("pending_launches", {})]
    return any(not name.startswith(_READ_ONLY) for name in names)


def _types_of_groups(told: Any) -> Types | None:
    return {g.name: (g.max_count, dict(g.resources)) for g in told.node_group_configs} or None


def _types_on_head() -> Types | None:
    """Return the node types of the cluster.yaml that `ray up` left on this node, the head."""
    here, path = ray.get_runtime_context().get_node_id(), Path(BOOTSTRAP).expanduser()
    mine = next(node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    if "node:__internal_head__" not in mine or not path.is_file():
        return None
    return types_of(yaml.safe_load(path.read_text()))


def types_of(config: Mapping[str, Any]) -> Types | None:
    """Return the node types of a cluster.yaml without the head's; None where one tells too little.

    `ray up` writes the resources of known machines into it; those of others show when they run.
    """
    head, most = config.get("head_node_type"), int(config.get("max_workers", 2))
    kinds = {k: v for k, v in config.get("available_node_types", {}).items() if k != head}
    if not all(kind.get("resources") for kind in kinds.values()):
        return None
    return {
        name: (min(most, int(kind.get("max_workers", most))), dict(kind["resources"]))
        for name, kind in kinds.items()
    }


def _could_start(types: Types, there: Counter[str]) -> Nodes:
    """Return one entry for every node that is not there yet; no number of them is a thousand."""
    return [
        resources
        for name, (most, resources) in types.items()
        for _ in range(MANY if most < 0 else max(0, most - there[name]))
    ]


def _standing(reply: Any, report: Mapping[str, Any]) -> Counter[str]:
    """Return node type -> nodes that run."""
    nodes = reply.cluster_resource_state.node_states
    names = Counter(n.ray_node_type_name for n in nodes if n.ray_node_type_name)
    return names or Counter(report.get("active_nodes", {}))


def _of_state(told: Any, could: Nodes | None) -> Autoscaler:
    launching, pending = Counter[str](), Counter[str]()
    for request in told.pending_instance_requests:
        launching[request.ray_node_type_name] += request.count
    for instance in told.pending_instances:
        pending[instance.ray_node_type_name] += 1
    failed = {f.ray_node_type_name: f.reason for f in told.failed_instance_requests}
    return Autoscaler(
        could_start=could,
        launching=launching,
        pending=pending,
        failed=failed,
        infeasible=bool(told.infeasible_gang_resource_requests),
    )


def _of_report(report: Mapping[str, Any], could: Nodes | None) -> Autoscaler:
    pending = Counter(kind for _, kind, _ in report.get("pending_nodes", []))
    failed = {kind: "its node did not start" for _, kind in report.get("failed_nodes", [])}
    return Autoscaler(
        could_start=could,
        launching=report.get("pending_launches", {}),
        pending=pending,
        failed=failed,
    )
