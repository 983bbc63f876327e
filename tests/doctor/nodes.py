"""Facts of healthy nodes, for a test to spoil."""

from __future__ import annotations

from typing import Any

from raysubset.doctor.facts import ClusterFacts, FolderProbe, NodeFacts

VERSIONS: dict[str, str | None] = {
    "python": "3.11.7",
    "raysubset": "0.1.0",
    "ray": "2.60.0",
    "torch": "2.15.0+cu128",
    "numpy": "2.4.6",
    "pyarrow": "26.0.1",
}
DASHBOARD, GCS = 8265, 6379


def node(name: str = "10.0.0.1", **changes: Any) -> NodeFacts:
    versions = VERSIONS | changes.pop("versions", {})
    healthy: dict[str, Any] = {
        "auth": "token",
        "token_path": "/home/ray/.ray/auth_token",
        "token_mode": 0o600,
        "memory_bytes": 32 * 10**9,
        "object_store_bytes": 9 * 10**9,
        "probe": FolderProbe(error=None, shared=True, free_bytes=10**12),
    }
    return NodeFacts(name=name, versions=versions, **(healthy | changes))


def head(**changes: Any) -> NodeFacts:
    listening = {DASHBOARD: ("127.0.0.1",), GCS: ("0.0.0.0",)}
    return node("10.0.0.9", **({"is_head": True, "listening": listening} | changes))


def cluster(*nodes: NodeFacts, **changes: Any) -> ClusterFacts:
    healthy: dict[str, Any] = {
        "address": f"10.0.0.9:{GCS}",
        "dashboard": f"127.0.0.1:{DASHBOARD}",
        "gcs_port": GCS,
        "http_status": 401,
    }
    return ClusterFacts(nodes=nodes or (head(), node()), **(healthy | changes))
