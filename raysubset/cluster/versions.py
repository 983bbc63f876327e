"""Versions: a cluster whose nodes compute with other software than the driver is refused.

Other releases of torch or numpy give other bits, and other releases of raysubset or Ray cannot
read each other's messages: better a sentence before any work than ids that nobody can repeat.
"""

from __future__ import annotations

from collections.abc import Mapping

import ray

from raysubset.cluster.asking_nodes import ask_nodes
from raysubset.doctor import look
from raysubset.errors import RoomError

ASK_S = 60.0
"""How long a node may take to start the process that answers."""
Versions = Mapping[str, str | None]


def refuse_other_versions(own: Versions | None = None) -> None:
    """Compare the software of every other node of the connected Ray with the driver's.

    Args:
        own: package -> version at the driver; None to look.

    Raises:
        RoomError: what differs, by package and node, or who did not answer.
    """
    if ray.get_runtime_context().get_actor_id() is not None:
        return  # a trial: its sweep has looked
    own = own or look.versions()
    wrong = [
        f"{package} {theirs} on {node}, {ours} at the driver"
        for node, versions in _asked_of_other_nodes()
        for package, ours, theirs in differences(own, versions)
    ]
    if wrong:
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        raise RoomError(
            f"driver and nodes have different software: {'; '.join(wrong[:6])}{more}. Install one "
            "set of versions everywhere (one image, or jobs/requirements.txt); `raysubset doctor` "
            "shows all of them."
        )


def differences(own: Versions, other: Versions) -> list[tuple[str, str, str]]:
    """Return (package, own version, other version) of those that differ in what they compute.

    Python counts to its minor version, and a build of torch (+cu128, +cpu) as its release: a head
    without a GPU may well have another build.
    """
    pairs = [(name, _release(name, own[name]), _release(name, other.get(name))) for name in own]
    return [(name, ours, theirs) for name, ours, theirs in pairs if ours != theirs]


def _release(package: str, version: str | None) -> str:
    if version is None:
        return "none"
    plain = version.partition("+")[0]
    return ".".join(plain.split(".")[:2]) if package == "python" else plain


def _asked_of_other_nodes() -> list[tuple[str, Versions]]:
    """Return (node, its versions), asked by one small task each, all at once."""
    here = ray.get_runtime_context().get_node_id()
    names = {
        node["NodeID"]: f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})"
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here
    }
    if not names:
        return []
    told, silent = ask_nodes(look.versions, (), names, ASK_S, "look:versions")
    if silent:
        raise RoomError(
            f"{', '.join(names[node] for node in silent)} did not say within {ASK_S:g} s which "
            "software it has; look at it with `ray status`, or take it out of the cluster."
        )
    return [(names[node], versions) for node, versions in told.items()]
