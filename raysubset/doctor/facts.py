"""Facts of nodes as frozen values: what the checks look at."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU, as its driver tells."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class FolderProbe:
    """What a node could do in the run's folder.

    Attributes:
        error: why writing, reading or deleting failed; None where all three worked.
        shared: whether it is the driver's folder; None where nobody looked.
        free_bytes: of its disk.
    """

    error: str | None
    shared: bool | None = None
    free_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What one node tells about itself.

    Attributes:
        name: how a person finds it.
        versions: package -> version, None where it is not installed.
        auth: "token" or "disabled"; None where its Ray does not say.
        token_path: of the token's file; None where the token is in the environment.
        token_mode: permission bits of that file; None where there is none.
        is_head: whether it is the cluster's head.
        listening: port -> addresses at which it listens there.
        gpus: by their driver.
        memory_bytes: of the machine.
        cores: of the machine.
        object_store_bytes: of its Ray; None without one.
        probe: of the run's folder; None where nobody looked.
        spill_folder: where its Ray writes what the object store cannot hold.
        spill_used: share of that folder's disk that is used; None where that is not known.
    """

    name: str
    versions: Mapping[str, str | None]
    auth: str | None = None
    token_path: str | None = None
    token_mode: int | None = None
    is_head: bool = False
    listening: Mapping[int, Sequence[str]] = field(default_factory=dict[int, Sequence[str]])
    gpus: tuple[Gpu, ...] = ()
    memory_bytes: int = 0
    cores: int = 1
    object_store_bytes: int | None = None
    probe: FolderProbe | None = None
    spill_folder: str = ""
    spill_used: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """What a cluster tells.

    Attributes:
        address: of its GCS.
        nodes: that answered.
        silent: names of alive nodes that did not, with why.
        dashboard: host:port as the cluster says; None without a dashboard.
        gcs_port: of its control store, through which anyone with access runs code.
        http_status: of a request to the dashboard's API without a token; None if not answered.
        total: logical resources.
        free: logical resources that nobody holds.
    """

    address: str
    nodes: tuple[NodeFacts, ...]
    silent: Mapping[str, str] = field(default_factory=dict[str, str])
    dashboard: str | None = None
    gcs_port: int | None = None
    http_status: int | None = None
    total: Mapping[str, float] = field(default_factory=dict[str, float])
    free: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def head(self) -> NodeFacts | None:
        """The head, where it answered."""
        return next((node for node in self.nodes if node.is_head), None)


def node_facts(name: str, told: Mapping[str, Any], **more: Any) -> NodeFacts:
    """Return what `look` told as a value."""
    storage = told["storage"]
    return NodeFacts(
        name=name,
        versions=told["versions"],
        auth=told["auth"],
        token_path=told["token"]["path"],
        token_mode=told["token"]["mode"],
        listening={int(port): tuple(found) for port, found in told["listening"].items()},
        gpus=tuple(Gpu(**gpu) for gpu in told["gpus"]),
        memory_bytes=told["memory_bytes"],
        cores=told["cores"],
        probe=None if storage is None else FolderProbe(**storage),
        spill_folder=told["spill"]["folder"],
        spill_used=told["spill"]["used"],
        **more,
    )


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host of this name or address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
