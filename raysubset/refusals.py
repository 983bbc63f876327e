"""Refusals: what pydantic says of bad values, as sentences that name option, value and remedy."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from raysubset.redaction import lines_of, redacted

_SHOWN = 10
LineOf = Callable[[Sequence[str]], int | None]
"""Nested keys -> the line of a file where they stand; None where that is not known."""


def told(error: ValidationError, known: Sequence[str], line_of: LineOf | None = None) -> str:
    """Return a line per option, the first ten: pydantic tells every branch of a union apart.

    Args:
        error: of a value made of sections and options.
        known: every "section.option" that there is.
        line_of: where an option stands in the file that was read.
    """
    errors = error.errors()
    whys: dict[str, list[str]] = {}
    lines: dict[str, int | None] = {}
    for each in errors[:_SHOWN]:
        what, why = _sentence(each, known)
        whys.setdefault(what, []).append(why)
        keys = [str(part) for part in each["loc"]]
        lines.setdefault(what, None if line_of is None else line_of(keys))
    sentences = [
        what + ", or ".join(why) + (f" (line {lines[what]})" if lines[what] else "")
        for what, why in whys.items()
    ]
    more = [f"... and {len(errors) - _SHOWN} more"] * (len(errors) > _SHOWN)
    return "\n".join(sentences + more)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return "; did you mean x?" by the last part, of the same section first; "" if none is near.

    Whole names of one section look alike by the section alone.
    """
    section, _, last = word.rpartition(".")
    if same := [name for name in known if name.rpartition(".")[2] == last]:
        return f"; did you mean {same[0]}?"
    beside = [name for name in known if name.rpartition(".")[0] == section]
    for names in (beside, known):
        by_last = {name.rpartition(".")[2]: name for name in names}
        near = difflib.get_close_matches(last[:_LONGEST], list(by_last), n=1, cutoff=0.6)
        if near:
            return f"; did you mean {by_last[near[0]]}?"
    return ""


def unknown(name: str, known: Sequence[str], before: str = "") -> str:
    """Return "unknown option x; did you mean y?", with what stands before the name of an option."""
    near = did_you_mean(name, known).replace("mean ", f"mean {before}")
    shown = lines_of(redacted(name)).replace("\n", " ")
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    return f"unknown option {before}{shown}{near}"


def brief(value: object) -> str:
    """Return a repr that ends: a few aliases in YAML can stand for a value of many gigabytes."""
    return redacted(_BRIEF.repr(redacted(value) if isinstance(value, str) else value))


_LONGEST = 100  # what comparing letters with every name may cost


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 2, 200, 200


_BRIEF = _Brief()


def _sentence(error: Any, known: Sequence[str]) -> tuple[str, str]:
    """Return a pydantic error as ("what=its value: ", "why, what to do")."""
    parts = [str(part) for part in error["loc"] if isinstance(part, str)]
    sections = sorted({key[:at] for key in known for at, sign in enumerate(key) if sign == "."})
    if error["type"] == "extra_forbidden":
        return unknown(".".join(parts), sections + list(known)), ""
    while parts and ".".join(parts) not in [*known, *sections]:
        # pydantic appends the tried branch of a union to the place; the option is what precedes.
        parts.pop()
    what = f"{'.'.join(parts) or 'experiment'}={brief(error['input'])}: "
    if error["type"] == "model_type":
        return what, "must be a section of options; give its options or leave it out"
    message = error["msg"].removeprefix("Value error, ")
    return what, f"{message[0].lower()}{message[1:]}"
