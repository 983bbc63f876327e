"""Spilling: whether Ray may write to the disk that a full object store goes to."""

from __future__ import annotations

from collections.abc import Sequence

from raysubset.doctor.facts import NodeFacts
from raysubset.doctor.finding import Finding, failed, ok, warning

REFUSED_FROM = 0.95  # Ray's local_fs_capacity_threshold: from here on it writes nothing there
NEARLY = 0.90


def check_spill_disk(nodes: Sequence[NodeFacts]) -> Finding:
    """Judge the fullest of the disks that Ray's session folders lie on."""
    used = {n.name: (n.spill_used, n.spill_folder) for n in nodes if n.spill_used is not None}
    if not used:
        return ok("spill disk", "how full the disk of Ray's session folder is, is not known")
    worst = max(used, key=lambda name: used[name][0])
    share, folder = used[worst]
    facts = {name: {"used": told[0], "folder": told[1]} for name, told in used.items()}
    found = f"{share:.0%} of the disk under {folder} on {worst} is used"
    if share >= REFUSED_FROM:
        return failed("spill disk", f"{found}: Ray writes nothing there", _MAKE_ROOM, nodes=facts)
    if share >= NEARLY:
        told = f"{found}: from {REFUSED_FROM:.0%} on, Ray writes nothing there"
        return warning("spill disk", told, _MAKE_ROOM, nodes=facts)
    return ok("spill disk", found, nodes=facts)


_MAKE_ROOM = "make room there, or start Ray with RAY_TMPDIR (--temp-dir) on a larger disk"
