"""Doors: who may enter a cluster. Whoever reaches an open one runs code as its owner."""

from __future__ import annotations

from collections.abc import Sequence

from raysubset.doctor.facts import ClusterFacts, NodeFacts, is_loopback
from raysubset.doctor.finding import Finding, failed, ok, warning

OPEN_TO_OTHERS = 0o077
REFUSED = (401, 403)
DOCS = "https://docs.ray.io/en/latest/ray-security/token-auth.html"


def check_auth(cluster: ClusterFacts) -> Finding:
    """Look whether every node asks for the token, by what it says and by trying to go without."""
    without = [node.name for node in cluster.nodes if node.auth != "token"]
    let_in = cluster.http_status is not None and cluster.http_status not in REFUSED
    facts = {
        "modes": {node.name: node.auth for node in cluster.nodes},
        "dashboard_status_without_token": cluster.http_status,
    }
    if not without and not let_in:
        tried = "; the dashboard refuses a request without it" * (cluster.http_status is not None)
        return ok("authentication", f"every node asks for the token{tried}", **facts)
    told = ["the dashboard answers without a token"] * let_in
    told += [f"no token is asked on {_some(without)}"] * bool(without)
    found = "; ".join(told)
    if _is_closed(cluster):
        found += "; only this machine reaches it"
        return warning("authentication", found, _TURN_ON, **facts)
    found += ": whoever reaches a port runs code there"
    return failed("authentication", found, _TURN_ON, **facts)


def check_token_file(nodes: Sequence[NodeFacts]) -> Finding:
    """Look whether others on a node can read the token; Ray writes it with mode 0644."""
    there = [node for node in nodes if node.token_mode is not None]
    wide = [node for node in there if (node.token_mode or 0) & OPEN_TO_OTHERS]
    files = {node.name: {"path": node.token_path, "mode": _octal(node)} for node in there}
    if wide:
        told = [f"{node.token_path} on {node.name} (mode {_octal(node)})" for node in wide]
        where = f" on {_some([node.name for node in wide])}" if len(nodes) > 1 else ""
        remedy = f"chmod 600 {wide[0].token_path}{where}"
        return warning("token file", f"others can read {_some(told)}", remedy, files=files)
    if not there:
        return ok("token file", "no token lies in a file", files=files)
    found = f"nobody else can read it ({len(there)} of {len(nodes)} nodes have one)"
    return ok("token file", found, files=files)


def check_dashboard(cluster: ClusterFacts) -> Finding:
    """Look where the dashboard listens, and whether it asks who is there."""
    if cluster.dashboard is None:
        return ok("dashboard", "there is none")
    hosts = _dashboard_hosts(cluster)
    wide = [host for host in hosts if not is_loopback(host)]
    facts = {
        "address": cluster.dashboard,
        "listens": hosts,
        "status_without_token": cluster.http_status,
    }
    if not wide:
        return ok("dashboard", f"{cluster.dashboard} listens for its machine alone", **facts)
    told = f"{cluster.dashboard} listens at {', '.join(wide)}"
    if _asks(cluster):
        found = f"{told} and asks for the token, which travels there unencrypted"
        return warning("dashboard", found, _CLOSE, **facts)
    found = f"{told} and asks for no token: {_SHADOW_RAY}"
    return failed("dashboard", found, f"{_CLOSE}; and turn authentication on", **facts)


_TURN_ON = (
    "ray get-auth-token --generate, then the same token on every node and RAY_AUTH_MODE=token "
    f"where Ray is started (cluster.yaml does both); {DOCS}"
)
_CLOSE = (
    "start the head with --dashboard-host=127.0.0.1, and reach it by `ray dashboard` or an SSH "
    "tunnel"
)
_SHADOW_RAY = (
    'whoever reaches it runs code on your nodes (CVE-2023-48022, "ShadowRay": no version fixes it)'
)


def _octal(node: NodeFacts) -> str:
    return f"{node.token_mode:04o}"


def _asks(cluster: ClusterFacts) -> bool:
    """Return whether the dashboard asks for a token: by what it did, else by what its node says."""
    if cluster.http_status is not None:
        return cluster.http_status in REFUSED
    nodes = [cluster.head] if cluster.head else cluster.nodes
    return bool(nodes) and all(node.auth == "token" for node in nodes)


def _is_closed(cluster: ClusterFacts) -> bool:
    """Return whether only the head's own machine reaches dashboard and control store."""
    port, head = cluster.gcs_port, cluster.head
    seen = () if head is None or port is None else head.listening.get(port, ())
    hosts = [*_dashboard_hosts(cluster), *(seen or [cluster.address.rpartition(":")[0]])]
    return len(cluster.nodes) == 1 and all(map(is_loopback, hosts))


def _dashboard_hosts(cluster: ClusterFacts) -> list[str]:
    """Return where it listens: as the head's sockets show, else as the cluster says."""
    if cluster.dashboard is None:
        return []
    host, _, port = cluster.dashboard.rpartition(":")
    seen = cluster.head.listening.get(int(port), ()) if cluster.head and port.isdigit() else ()
    return list(seen) or [host.removeprefix("http://")]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
