"""What a process takes of its machine's memory, and how much of that is its own."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


class Meter:
    """The peaks of this process, as far as it was looked at."""

    def __init__(self) -> None:
        """Begin with what is there now."""
        self._own: int | None = None
        self.look()

    def look(self) -> None:
        """Take notice of the memory that is this process's own now; Linux keeps no peak of it."""
        now = own_bytes()
        if now is not None:
            self._own = max(now, self._own or 0)

    @property
    def figures(self) -> dict[str, int]:
        """Peak bytes: resident, pages shared with others included; and own, where it is known."""
        self.look()
        own = {} if self._own is None else {"own": self._own}
        return {"resident": peak_bytes(), **own}


def peak_bytes() -> int:
    """Return the peak resident memory of this process; pages shared with others count too."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def own_bytes(status: Path = STATUS) -> int | None:
    """Return the memory that no other process shares (RssAnon), or None where /proc has it not."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("RssAnon:")]
    return int(found[0][1]) * 1024 if found else None


def by_kind(figures: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """Return what history.jsonl says of processes: peak_bytes, and private_bytes where known."""
    named = {"peak_bytes": "resident", "private_bytes": "own"}
    told = {
        name: {who: each[kind] for who, each in figures.items() if kind in each}
        for name, kind in named.items()
    }
    return {name: by_process for name, by_process in told.items() if by_process}
