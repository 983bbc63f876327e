"""What memory a process takes while something is done: its own, and pages of files, apart."""

from __future__ import annotations

import resource
import threading
from pathlib import Path

_LOOK_S = 0.01


class Memory:
    """The peaks of this process while it is looked at, in bytes; pages of files apart."""

    def __enter__(self) -> Memory:
        """Begin to look."""
        self.before = _status()
        self.peak = dict(self.before)
        self.faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._end.set()
        self._thread.join()

    def figures(self) -> dict[str, float]:
        """Return the peaks: of what is the process's own (beyond its start), and of file pages."""
        after = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        return {
            "anonymous_bytes": self.peak["RssAnon"] - self.before["RssAnon"],
            "process_bytes": self.peak["RssAnon"],
            "mapped_bytes": self.peak["RssFile"] - self.before["RssFile"],
            "high_water_bytes": self.peak["VmHWM"],
            "swap_bytes": self.peak["VmSwap"],
            "major_faults": after - self.faults,
        }

    def _look(self) -> None:
        while not self._end.wait(_LOOK_S):
            for name, value in _status().items():
                self.peak[name] = max(value, self.peak[name])


def _status() -> dict[str, int]:
    wanted = ("RssAnon", "RssFile", "VmSwap", "VmHWM")
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0][:-1]: int(line[1]) * 1024 for line in lines if line[0][:-1] in wanted}
