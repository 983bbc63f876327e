"""Run the tests as two processes side by side: those that start Ray mostly wait for it.

The two take every test between them, whatever marks it has. Each line is printed as it comes,
behind the name of its half; either half's failure is the failure of both.
"""

from __future__ import annotations

import subprocess
import sys
import threading

HALVES = {"ray": "ray", "rest": "not ray"}
NO_TESTS = 5  # pytest's exit code where its arguments select nothing: of one half, no failure


def start(marker: str, words: list[str]) -> subprocess.Popen[str]:
    """Start pytest on the tests that a marker selects."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, "-m", marker],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def show(name: str, process: subprocess.Popen[str]) -> None:
    """Print what a process prints, line by line, until it ends."""
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{name:4} | {line}", end="", flush=True)


def main(words: list[str]) -> int:
    """Run both halves to their ends and return an exit code."""
    halves = {name: start(marker, words) for name, marker in HALVES.items()}
    readers = [threading.Thread(target=show, args=half) for half in halves.items()]
    try:
        for reader in readers:
            reader.start()
        codes = {name: process.wait() for name, process in halves.items()}
    except KeyboardInterrupt:  # the terminal told both: they clean up and end
        codes = {name: process.wait() for name, process in halves.items()} | {"": 130}
    for reader in readers:
        reader.join()
    failed = [code for code in codes.values() if code not in (0, NO_TESTS)]
    nothing = all(code == NO_TESTS for code in codes.values())
    return failed[0] if failed else NO_TESTS * nothing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
