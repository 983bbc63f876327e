"""Software: the same versions on every node, and none with a known hole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysubset.doctor.facts import NodeFacts
from raysubset.doctor.finding import Finding, failed, ok

REQUIRED = ("python", "raysubset", "ray", "torch", "numpy", "pyarrow")
_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A known vulnerability, and the first version without it."""

    package: str
    name: str
    what: str
    fixed: tuple[int, int]


HOLES = (
    Hole(
        package="ray",
        name="CVE-2025-62593",
        what="a web page can run code through the dashboard of who looks at it (DNS rebinding)",
        fixed=(2, 52),
    ),
    Hole(
        package="ray",
        name="GHSA-gx77-xgc2-4888",
        what="authentication is off by default",
        fixed=(2, 54),
    ),
    Hole(
        package="ray",
        name="CVE-2026-27482",
        what="the dashboard deletes without authentication",
        fixed=(2, 54),
    ),
    Hole(
        package="torch",
        name="CVE-2026-24747",
        what="a checkpoint can corrupt memory even with weights_only",
        fixed=(2, 10),
    ),
)


def check_versions(nodes: Sequence[NodeFacts], silent: Mapping[str, str]) -> Finding:
    """Compare what is installed, node by node; name what differs, lacks or does not answer."""
    by_package = {package: _who_has(package, nodes) for package in REQUIRED}
    wrong = [_wrong_with(package, found) for package, found in by_package.items()]
    wrong += [f"{name} did not answer ({why})" for name, why in silent.items()]
    facts = {node.name: dict(node.versions) for node in nodes}
    if any(wrong):
        told = "; ".join(filter(None, wrong))
        return failed("versions", told, _SAME, nodes=facts, silent=dict(silent))
    one = ", ".join(f"{name} {next(iter(found))}" for name, found in by_package.items())
    where = "" if len(nodes) == 1 else f", the same in {len(nodes)} places"
    return ok("versions", one + where, nodes=facts)


def check_holes(nodes: Sequence[NodeFacts]) -> Finding:
    """Look for versions that have a known vulnerability which a later one fixes."""
    told: list[str] = []
    floors: dict[str, tuple[int, int]] = {}
    for hole in HOLES:
        where = [node for node in nodes if _is_below(node.versions.get(hole.package), hole.fixed)]
        if where:
            names, version = _named([n.name for n in where]), where[0].versions[hole.package]
            told.append(f"{hole.package} {version} on {names} has {hole.name}: {hole.what}")
            floors[hole.package] = max(hole.fixed, floors.get(hole.package, (0, 0)))
    if not told:
        return ok("known holes", _NO_HOLES)
    wanted = " and ".join(f"{name}>={a}.{b}" for name, (a, b) in floors.items())
    return failed("known holes", "; ".join(told), f"install {wanted} on every node", holes=told)


_SAME = (
    "install one set of versions everywhere (one image, or jobs/requirements.txt), and look at "
    "nodes that do not answer with `ray status`"
)
_NO_HOLES = (
    "Ray and torch are above the floor of every hole that a version fixes (CVE-2023-48022 has no "
    "such version: authentication and a closed dashboard are its cure)"
)


def _wrong_with(package: str, found: Mapping[str | None, Sequence[str]]) -> str:
    if len(found) > 1:
        return _unequal(package, found)
    return f"no {package} on {_named(found[None])}" if None in found else ""


def _who_has(package: str, nodes: Sequence[NodeFacts]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for node in nodes:
        found.setdefault(node.versions.get(package), []).append(node.name)
    return found


def _unequal(package: str, found: Mapping[str | None, Sequence[str]]) -> str:
    told = [f"{version or 'none'} on {_named(names)}" for version, names in found.items()]
    return f"{package} differs: {', '.join(told)}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_below(version: str | None, floor: tuple[int, int]) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < floor
