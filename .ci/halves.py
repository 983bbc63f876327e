"""Run the tests as two processes side by side: those that start Ray mostly wait for it.

They take those of people's own loops too, so that both end at about the same time. The two take
every test between them but those marked `long`, which CONTRIBUTING.md names. Each line is printed
as it comes, behind the name of its half; either half's failure is the failure of both.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

HALVES = {"ray": "(ray or loops) and not long", "rest": "not (ray or loops) and not long"}
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|warnings?)")
NO_TESTS = 5  # pytest's exit code where its arguments select nothing: of one half, no failure
LIMIT_S = float(os.environ.get("HALVES_LIMIT_S", "3600"))  # a third is enough, when all is well
LAST_WORDS_S = float(os.environ.get("HALVES_LAST_WORDS_S", "10"))


def start(marker: str, words: list[str]) -> subprocess.Popen[str]:
    """Start pytest on the tests that a marker selects."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, "-m", marker],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def show(name: str, process: subprocess.Popen[str], last: dict[str, str]) -> None:
    """Print what a process prints, line by line, until it ends; keep its last line with words."""
    assert process.stdout is not None
    for line in process.stdout:
        print(f"{name:4} | {line}", end="", flush=True)
        last[name] = line.strip() or last.get(name, "")


def code_of(name: str, process: subprocess.Popen[str], end: float) -> int:
    """Return a half's exit code; one that does not end in time is made to tell where it stands."""
    try:
        return process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"{name:4} | not done within {LIMIT_S:g} s, and ended; it stood here:", flush=True)
    process.send_signal(signal.SIGABRT)  # pytest has Python print the stack of every thread
    try:
        process.wait(LAST_WORDS_S)
    except subprocess.TimeoutExpired:  # stopped, or deep in some system call
        process.kill()
    return process.wait() or 1


def main(words: list[str]) -> int:
    """Run both halves to their ends and return an exit code."""
    halves = {name: start(marker, words) for name, marker in HALVES.items()}
    last: dict[str, str] = {}
    began = time.monotonic()
    readers = [
        threading.Thread(target=show, args=(*half, last), daemon=True) for half in halves.items()
    ]
    try:
        for reader in readers:
            reader.start()
        codes = {name: code_of(name, half, began + LIMIT_S) for name, half in halves.items()}
    except KeyboardInterrupt:  # the terminal told both: they clean up and end
        codes = {name: process.wait() for name, process in halves.items()} | {"": 130}
    for reader in readers:
        reader.join(LAST_WORDS_S)  # what a half left running may hold its output open for ever
    total: Counter[str] = Counter()
    for line in last.values():
        total.update({what: int(count) for count, what in COUNTED.findall(line)})
    counts = ", ".join(f"{count} {what}" for what, count in total.items()) or "no tests ran"
    print(f"==== both: {counts} in {time.monotonic() - began:.2f}s ====", flush=True)
    failed = [code for code in codes.values() if code not in (0, NO_TESTS)]
    nothing = all(code == NO_TESTS for code in codes.values())
    return failed[0] if failed else NO_TESTS * nothing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
