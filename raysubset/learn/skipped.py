"""Rows that a run leaves out because they are bad: which, why, and how a person finds them."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raysubset.errors import DataError

Cause = Literal[
    "unreadable image",
    "unreadable item",
    "missing or non-finite value",
    "no label",
    "no trusted label",
]
SKIPPED = "skipped.csv"
"""The file that lists them, in the folder of a run or a selection."""

_MOST = 2  # one row of this many may be bad; beyond it the data or its options are wrong
_FIRST = 3
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a spreadsheet knows a formula
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that is left out.

    Attributes:
        row: its id: its number in the source, where its place stays empty.
        where: how a person finds it.
        cause: what is wrong, in a few words.
        detail: what is wrong with this very row; may be empty.
    """

    row: int
    where: str
    cause: Cause
    detail: str = ""


def causes_of(rows: Iterable[Skipped]) -> str:
    """Return how many rows there are of each cause: "no label: 2, unreadable image: 1"."""
    counts = Counter(row.cause for row in rows)
    return ", ".join(f"{cause}: {count:,}" for cause, count in sorted(counts.items()))


def refuse_mostly_bad(bad: Sequence[Skipped], num_rows: int, where: str) -> None:
    """Refuse to go on without most rows of a part: what is left would be other data.

    Args:
        bad: what would be left out.
        num_rows: good and bad.
        where: how an error calls the part.

    Raises:
        DataError: more than half of the rows are bad.
    """
    if len(bad) * _MOST <= num_rows:
        return
    first = "; ".join(f"{b.where} ({b.detail or b.cause})" for b in bad[:_FIRST])
    raise DataError(
        f"{where}: {len(bad):,} of {num_rows:,} rows are bad ({causes_of(bad)}), and "
        f"--data.on_bad_row skip leaves out half at most; first: {first}. Repair these rows, or "
        "see whether the options name the right file and columns"
    )


def summary(skipped: Mapping[str, Sequence[Skipped]]) -> dict[str, Any]:
    """Return how many rows of each part are left out, and a hash of which; {} where none is."""
    told = {part: len(rows) for part, rows in skipped.items() if rows}
    if not told:
        return {}
    named = [(part, [bad.row for bad in rows]) for part, rows in sorted(skipped.items()) if rows]
    return {**told, "sha256": hashlib.sha256(repr(named).encode()).hexdigest()}


def note_of(skipped: Mapping[str, Sequence[Skipped]]) -> tuple[str, ...]:
    """Return the sentence on rows left out, for console and report; none where none is."""
    every = [bad for rows in skipped.values() for bad in rows]
    if not every:
        return ()
    parts = ", ".join(f"{part} {len(rows):,}" for part, rows in skipped.items() if rows)
    return (
        f"left out {len(every):,} bad rows ({parts}; {causes_of(every)}), never chosen and never "
        f"trained on; {SKIPPED} lists each with its reason",
    )


def csv_of(skipped: Mapping[str, Sequence[Skipped]]) -> str:
    """Return "part,id,where,cause,detail" as CSV text that no spreadsheet takes for formulas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["part", "id", "where", "cause", "detail"])
    for part, rows in skipped.items():
        for bad in rows:
            writer.writerow(
                [part, bad.row, no_formula(bad.where), bad.cause, no_formula(bad.detail)]
            )
    return text.getvalue()


def no_formula(cell: str) -> str:
    """Return a cell's text; what a spreadsheet would run as a formula gets a quote before it."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell
