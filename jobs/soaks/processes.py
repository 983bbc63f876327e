"""The processes of a soak: told from all others by what they hold open, and ended by their ids."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def belongs(pid: int, root: Path) -> bool:
    """Return whether a process holds a file under a folder open, as all that a soak starts do.

    The nodes, their workers and the drivers write their logs there; a process's environment would
    tell less, for the workers write their titles over it.
    """
    try:
        links = [os.readlink(link) for link in (PROC / str(pid) / "fd").iterdir()]
    except OSError:  # it is gone, or somebody else's
        return False
    return any(link.startswith(f"{root}/") for link in links)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that waits to be reaped does not."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def all_of(root: Path) -> set[int]:
    """Return every living process that belongs to a folder, but for this one."""
    pids = (int(path.name) for path in PROC.iterdir() if path.name.isdigit())
    return {p for p in pids if p != os.getpid() and belongs(p, root) and alive(p)}


def title(pid: int) -> str:
    """Return what `ps` shows of a process."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return "gone"
    return words.decode(errors="replace").strip()[:100]


def gone_within(pids: Iterable[int], wait_s: float) -> list[int]:
    """Wait until processes are gone; return those that are not."""
    end, left = time.monotonic() + wait_s, [pid for pid in pids if alive(pid)]
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left = [pid for pid in left if alive(pid)]
    return left
