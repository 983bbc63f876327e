"""Run the tests as two processes side by side: those that start Ray mostly wait for it.

The two take every test between them, whatever marks it has. Each line is printed as it comes,
behind the name of its half; either half's failure is the failure of both.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter

HALVES = {"ray": "ray", "rest": "not ray"}
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|warnings?)")
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


def show(name: str, process: subprocess.Popen[str], total: Counter[str]) -> None:
    """Print what a process prints, line by line, until it ends; add what it counted."""
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(f"{name:4} | {line}", end="", flush=True)
        last = line.strip() or last
    total.update({what: int(count) for count, what in COUNTED.findall(last)})


def main(words: list[str]) -> int:
    """Run both halves to their ends and return an exit code."""
    halves = {name: start(marker, words) for name, marker in HALVES.items()}
    total: Counter[str] = Counter()
    began = time.monotonic()
    readers = [threading.Thread(target=show, args=(*half, total)) for half in halves.items()]
    try:
        for reader in readers:
            reader.start()
        codes = {name: process.wait() for name, process in halves.items()}
    except KeyboardInterrupt:  # the terminal told both: they clean up and end
        codes = {name: process.wait() for name, process in halves.items()} | {"": 130}
    for reader in readers:
        reader.join()
    counts = ", ".join(f"{count} {what}" for what, count in total.items()) or "no tests ran"
    print(f"==== both: {counts} in {time.monotonic() - began:.2f}s ====", flush=True)
    failed = [code for code in codes.values() if code not in (0, NO_TESTS)]
    nothing = all(code == NO_TESTS for code in codes.values())
    return failed[0] if failed else NO_TESTS * nothing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
