"""The app: its commands register themselves; errors end as sentences and exit codes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cyclopts
from cyclopts import App
from pydantic import ValidationError

from raysubset import faultpoints, logs
from raysubset.cli.options import long_forms
from raysubset.errors import RaySubsetError
from raysubset.experiment import options, sentences
from raysubset.redaction import lines_of, redacted
from raysubset.refusals import unknown
from raysubset.stopping import EXIT_INTERRUPTED, terminable
from raysubset.storage.faults import FULL
from raysubset.storage.fetching import telling

OWN = ("data", "strategy", "fraction", "epochs", "run-dir", "resume", "local")
OF_FRONTIER = (
    "goal",
    *("fractions", "strategies", "seeds", "max-drop", "no-controls", "price-per-hour"),
    *("tune-lr", "sweep", "search", "samples", "early-stop"),
)
OF_SELECT = (
    *("checkpoint", "embeddings", "validation-embeddings", "labels", "validation-labels"),
    *("head", "format"),
)
OF_DOCTOR = ("address", "patience", "strict", "json")
OF_VERIFY = ("gains",)

app = App(
    name="raysubset",
    help="Which of my examples are worth training on, and how few are enough?",
    help_epilogue=(
        "Short forms: --data (digits, cifar10 or a path), --strategy, --fraction, --epochs, "
        "--seed, --run-dir. Without --data: scikit-learn's digits."
    ),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # it is told of here, with its exit code
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command returns that did its work and still ends with a code of its own."""

    code: int
    value: Any


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted, 75 terminated."""
    code = call(sys.argv[1:] if tokens is None else tokens)[0]
    if any(thread.name.startswith("doctor-") for thread in threading.enumerate()):
        # A call of it hangs, and Python's end may abort under it: 134, whatever was found.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def call(tokens: Sequence[str]) -> tuple[int, Any]:
    """Return (exit code, what the command returned); errors are sentences, not tracebacks."""
    return attempt(tokens)[:2]


def attempt(tokens: Sequence[str]) -> tuple[int, Any, str]:
    """Return what `call` does, and the error that was printed ("" for none)."""
    try:
        logs.start()
        faultpoints.arm()
        with terminable(), telling(_on_stderr):  # temporary folders go, also while data is loaded
            value = app(
                long_forms(tokens),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
    except cyclopts.CycloptsError as error:
        return _fail(_told(error), 2)
    except RaySubsetError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in FULL:  # else it is a bug of ours, with its traceback
            raise
        return _fail(_told_full(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted.", EXIT_INTERRUPTED)
    return (value.code, value.value, "") if isinstance(value, Ended) else (0, value, "")


def _told(error: cyclopts.CycloptsError) -> str:
    """Return a parser's error in our words."""
    if isinstance(error.__cause__, ValidationError):
        return sentences(error.__cause__)
    if isinstance(error, cyclopts.UnknownOptionError):
        word = str(error.token.keyword or error.token.value).removeprefix("--")
        known = [*options(), *OWN, *OF_FRONTIER, *OF_SELECT, *OF_DOCTOR, *OF_VERIFY]
        if word in known:
            return f"--{word} is an option of another command; see --help of this one"
        return unknown(word, known, "--")
    return str(error)


def _told_full(error: OSError) -> str:
    """Return the sentence of a disk that is full where no run folder is being written."""
    return (
        f"{error.filename or 'a temporary file'} cannot be written ({error.strerror}); make room, "
        "then run the same command again (a run that was begun goes on with --resume)."
    )


def _on_stderr(line: str) -> None:
    """Print how far a long fetch has come; what a program reads of a command is on stdout."""
    print(lines_of(redacted(line)), file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> tuple[int, None, str]:
    message = lines_of(redacted(message))
    print(f"error: {message}", file=sys.stderr)
    return code, None, message
