"""Processes and their descendants, told apart from later ones of the same id."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def _stats() -> dict[int, tuple[int, str]]:
    """Return pid -> (parent's pid, start time) of every process that runs."""
    stats: dict[int, tuple[int, str]] = {}
    for path in PROC.iterdir():
        if not path.name.isdigit():
            continue
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if fields[0] != "Z":  # whoever has not reaped it yet
            stats[int(path.name)] = int(fields[1]), fields[19]
    return stats


def all_processes() -> set[tuple[int, str]]:
    """Return (pid, start time) of every process that runs."""
    return {(pid, start) for pid, (_, start) in _stats().items()}


def descendants(root: int) -> set[tuple[int, str]]:
    """Return (pid, start time) of a process's children, and theirs, and so on."""
    stats = _stats()
    found, new = set[int](), {root}
    while new:
        new = {pid for pid, (parent, _) in stats.items() if parent in new} - found
        found |= new
    return {(pid, stats[pid][1]) for pid in found}
