"""What every Ray job here shares: a place that lasts, --resume where it helps, one RESULT line.

    RESULT {"outcome": "stopped", "exit_code": 75, "run_dir": "/shared/runs/demo", "error": "..."}

The line is the last one of the log, however the job ended, but for SIGKILL. Exit codes: 0 done,
2 bad input, 75 terminated and 130 interrupted (the same command goes on), 1 anything else.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from raysubset.errors import RaySubsetError
from raysubset.files import finite
from raysubset.stopping import EXIT_INTERRUPTED, EXIT_TERMINATED, terminable
from raysubset.storage import holds, is_uri
from raysubset.storage.addresses import without_credentials

OUTCOMES = {0: "done", 2: "bad input", EXIT_INTERRUPTED: "stopped", EXIT_TERMINATED: "stopped"}
Facts = Callable[[Any], Mapping[str, Any]]


def run_job(words: list[str], facts: Facts, *, mark: str) -> int:
    """Run a command of `raysubset` as a job and return its exit code.

    Args:
        words: the command and its options.
        facts: from what the command returned to what RESULT tells of it.
        mark: the file that tells a folder to resume from an empty one; "" where nothing is resumed.
    """
    if {"--help", "-h"} & {*words}:
        return attempt(words)[0]
    place = value_of("--run-dir", words)
    if not lasting(place):
        told = (
            "a job needs --run-dir with an absolute path on storage that every node sees, or a "
            f"URI such as s3://bucket/runs/demo; got {place or 'none'}. The folder it starts in is "
            "deleted when it ends."
        )
        print(f"error: {told}", file=sys.stderr)
        return close_job(2, told, {"run_dir": place or None})
    code, told, value = guarded(lambda: _called(words, place, mark))
    found = {} if value is None else facts(value)
    shown = without_credentials(place) if is_uri(place) else place
    return close_job(code, told, {"run_dir": shown, **found})


def attempt(words: list[str]) -> tuple[int, Any, str]:
    """Return what `raysubset.cli.app.attempt` does; a job that runs no command needs no parser."""
    from raysubset.cli.app import attempt as run

    return run(words)


def guarded(do: Callable[[], Any]) -> tuple[int, str, Any]:
    """Return (exit code, error, what `do` gave), whatever happens in it; SIGTERM ends it too."""
    try:
        with terminable():  # from the first second on: it may still read its data
            return 0, "", do()
    except _Ended as error:  # it has been printed
        return error.code, str(error), None
    except RaySubsetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code, str(error), None
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED, "interrupted.", None
    except Exception as error:  # whatever it is, the log must end with its RESULT
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}", None


class _Ended(Exception):
    """A command that ended in another way than well, and has said so."""

    def __init__(self, told: str, code: int) -> None:
        super().__init__(told)
        self.code = code


def _called(words: list[str], place: str, mark: str) -> Any:
    """Run a command, with --resume where its folder is used; return what it gave."""
    if mark and "--resume" not in words and holds(place, mark):
        words = [*words, "--resume"]
    sys.argv[1:] = words  # what a stopped run prints to go on is `raysubset` with these
    code, value, told = attempt(words)
    if code:
        raise _Ended(told, code)
    return value


def close_job(code: int, told: str, found: Mapping[str, Any]) -> int:
    """Print the RESULT line and return the exit code."""
    line: dict[str, Any] = {"outcome": OUTCOMES.get(code, "failed"), "exit_code": code, **found}
    if code:
        line["error"] = (told.strip().splitlines() or [""])[0]
    sys.stderr.flush()
    print("RESULT " + json.dumps(finite(line)), flush=True)
    return code


def lasting(place: str) -> bool:
    """Return whether a place outlives the job: an absolute path or a URI."""
    return "://" in place or os.path.isabs(place)


def value_of(option: str, words: list[str]) -> str:
    """Return the value of an option among the words; "" without one."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else "".join(words[index + 1 : index + 2])
    return ""
