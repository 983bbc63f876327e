"""What the doctor asks of a Ray cluster: one small task a node, no actor, nothing on a GPU."""

from __future__ import annotations

import logging
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.utils import read_ray_address
from ray.experimental.internal_kv import _internal_kv_get

from raysubset.cluster.asking_nodes import ask_nodes, first_line
from raysubset.doctor import look as look_module
from raysubset.doctor.facts import ClusterFacts, NodeFacts, node_facts
from raysubset.doctor.storing import DriverProbe
from raysubset.doctor.within import Late, within
from raysubset.errors import RoomError

KNOCK_S = 10.0
CONNECT_S = 40.0
LOOK_S = 40.0
GATHER_S = 90.0
HTTP_S = 5.0
HEAD = "node:__internal_head__"


class NoCluster(RoomError):
    """No cluster answers where one was named."""


def asked_address(address: str | None) -> str | None:
    """Return the cluster that is meant: named, connected, or in RAY_ADDRESS; None for none."""
    if address is None and ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    return address or os.environ.get("RAY_ADDRESS") or None


def found_here() -> str | None:
    """Return the address of a Ray that `ray start` left running on this machine, if any."""
    return read_ray_address()


@contextmanager
def connected(address: str) -> Generator[None]:
    """Connect to a cluster, and let go of it again; what is connected already is used as it is.

    Raises:
        NoCluster: nobody answers there in time, or the token is not accepted.
    """
    if ray.is_initialized():
        yield
        return
    if "://" in address:
        raise NoCluster(
            f"{address} is no cluster to connect to from here; send the doctor there with `ray job "
            "submit --address ADDRESS -- python -m raysubset.cli doctor`, or give --address "
            "HOST:PORT of its GCS."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        _knock(address)
    except OSError as error:
        raise NoCluster(f"no Ray cluster lets us in at {address}: {first_line(error)}.") from error
    try:
        within(CONNECT_S, partial(_join, address), "connecting")
    except (Late, Exception) as error:  # Ray raises whatever is at hand, plain Exception included
        ray.shutdown()
        silent = look_module.auth_mode() != "token"
        hint = "; this process sends no token, because RAY_AUTH_MODE is not token" * silent
        raise NoCluster(
            f"no Ray cluster lets us in at {address}: {first_line(error)}{hint}."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)


def gather(driver: DriverProbe) -> ClusterFacts:
    """Ask every alive node, each by one small task, all at once and not for long.

    Raises:
        NoCluster: its head stopped answering in between.
    """
    try:
        return within(GATHER_S, partial(_gather, driver), "asking the cluster")
    except Late as late:
        raise NoCluster(f"{late}; look at it with `ray status`.") from late


def _gather(driver: DriverProbe) -> ClusterFacts:
    address = ray.get_runtime_context().gcs_address
    dashboard = _dashboard()
    ports = [int(p) for p in (_port(address), _port(dashboard)) if p is not None]
    nodes, silent = _look_around(ports, driver)
    return ClusterFacts(
        address=address,
        nodes=tuple(nodes),
        silent=silent,
        dashboard=dashboard,
        gcs_port=_port(address),
        http_status=None if dashboard is None else status_without_token(dashboard),
        total=ray.cluster_resources(),
        free=ray.available_resources(),
    )


def status_without_token(dashboard: str) -> int | None:
    """Return the HTTP status of a request to the dashboard's API that brings no token."""
    url = f"http://{dashboard.removeprefix('http://')}/api/version"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=HTTP_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _look_around(ports: list[int], driver: DriverProbe) -> tuple[list[NodeFacts], dict[str, str]]:
    """Return the facts of the nodes that answer, and why the others do not."""
    alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
    names = _names(list(alive.values()))
    args = (ports, driver.folder, driver.nonce)
    answers, silent = ask_nodes(look_module.look, args, alive, LOOK_S, "doctor:look", max_retries=0)
    found = [_facts(names[node], told, alive[node]["Resources"]) for node, told in answers.items()]
    found.sort(key=lambda facts: (not facts.is_head, facts.name))
    return found, {names[node]: why for node, why in silent.items()}


def _facts(name: str, told: Mapping[str, Any], resources: Mapping[str, float]) -> NodeFacts:
    store = resources.get("object_store_memory")
    return node_facts(
        name,
        told,
        is_head=HEAD in resources,
        object_store_bytes=None if store is None else int(store),
    )


def _names(nodes: list[dict[str, Any]]) -> dict[str, str]:
    """Return node id -> address, with a piece of the id where several share one."""
    by_address = [node["NodeManagerAddress"] for node in nodes]
    return {
        node["NodeID"]: address
        if by_address.count(address) == 1
        else f"{address} ({node['NodeID'][:6]})"
        for node, address in zip(nodes, by_address, strict=True)
    }


def _dashboard() -> str | None:
    """Return host:port of the dashboard as the cluster says it; None without one."""
    told = _internal_kv_get(
        ray_constants.DASHBOARD_ADDRESS, namespace=ray_constants.KV_NAMESPACE_DASHBOARD
    )
    return told.decode().removeprefix("http://") if told else None


def _port(address: str | None) -> int | None:
    port = (address or "").rpartition(":")[2]
    return int(port) if port.isdigit() else None


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: ray.init() alone tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
