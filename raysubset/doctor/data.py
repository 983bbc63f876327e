"""Data: what each part holds, and what in it would harm or stop a run.

Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysubset.doctor.finding import Finding, failed, ok, warning
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts, overlap_notes
from raysubset.report.wording import count, printable

PARTS = ("pool", "validation", "tuning", "test")
UNEVEN = 10
"""From here on the largest class of the pool is told to be many times the smallest."""
_SHOWN = 10


def check_data(parts: Parts, bad: str | None) -> tuple[Finding, ...]:
    """Return the findings about the rows.

    Args:
        parts: as the run would split them.
        bad: what the reader said of bad rows that the run as asked for would stop at; None
            where it would not stop.
    """
    return _check_rows(parts, bad), _check_classes(parts), _check_overlap(parts)


def unreadable(error: str) -> Finding:
    """Return the finding about data of which nothing can be used."""
    return failed("data", error, "correct the data, or its options")


def _check_rows(parts: Parts, bad: str | None) -> Finding:
    held, pool = _held(parts), parts.pool
    shape = " x ".join(map(str, pool.content.shape[1:]))
    sizes = ", ".join(f"{name} {count(part.num_examples)}" for name, part in held.items())
    found = f"{pool.name}: {sizes}; {pool.kind} rows of {shape} ({pool.content.dtype})"
    notes = [printable(note, 1500) for part in held.values() for note in part.notes]
    skipped = "; ".join(dict.fromkeys(note for note in notes if "skipped" in note))
    facts = {
        "rows": {name: part.num_examples for name, part in held.items()},
        "shape": list(pool.content.shape[1:]),
        "dtype": str(pool.content.dtype),
        "bytes": bytes_of(parts),
        "notes": notes,
    }
    if bad is not None:
        told = skipped or printable(bad, 1500)
        return failed("data", f"{found}; {told}", _REPAIR, **facts)
    if skipped:
        return warning("data", f"{found}; {skipped}", _LOOK_WHY, **facts)
    return ok("data", found, **facts)


def _check_classes(parts: Parts) -> Finding:
    count_C, names = parts.pool.class_count_C, parts.pool.class_names
    least, most = int(count_C.argmin()), int(count_C.argmax())
    smallest, largest = int(count_C[least]), int(count_C[most])
    found = f"{count(len(names))} classes of {count(smallest)} ({printable(names[least], 40)}) to "
    found += f"{count(largest)} ({printable(names[most], 40)}) pool rows"
    facts = {
        name: dict(zip(part.class_names, part.class_count_C.tolist(), strict=True))
        for name, part in _held(parts).items()
    }
    wrong = _lacking(parts)
    if largest >= UNEVEN * max(smallest, 1):
        wrong.append(f"the largest is {largest / max(smallest, 1):,.0f} times the smallest")
    if wrong:
        found = f"{found}; {'; '.join(wrong)}"
        return warning("classes", found, _RARE, rows_by_class=facts)
    return ok("classes", found, rows_by_class=facts)


_REPAIR = "repair these rows, or leave them out with --data.on_bad_row skip"
_LOOK_WHY = "look whether these rows may be left out"
_RARE = (
    "give rare classes more rows, choose --selection.balance equal, and read macro-F1 beside "
    "accuracy"
)
_TWICE = (
    "--selection.filters duplicates drops repeated pool rows; rows that also stand in test make "
    "its accuracy too good: remove them"
)


def _lacking(parts: Parts) -> list[str]:
    """Return a sentence for each part that has no row of some classes."""
    told: list[str] = []
    for name, part in _held(parts).items():
        empty = np.flatnonzero(part.class_count_C == 0)
        if len(empty):
            told.append(f"{name} has no row of {_some([part.class_names[c] for c in empty])}")
    return told


def _check_overlap(parts: Parts) -> Finding:
    notes = overlap_notes(parts)
    if notes:
        return warning("duplicates", "; ".join(notes), _TWICE, notes=list(notes))
    return ok("duplicates", "no row stands twice in the pool, and none in two parts")


def bytes_of(parts: Parts) -> int:
    """Return the bytes of all parts, as they lie in the object store of a node."""
    return sum(_bytes(part) for part in _held(parts).values())


def _held(parts: Parts) -> dict[str, Dataset]:
    named = {name: getattr(parts, name) for name in PARTS}
    return {name: part for name, part in named.items() if part is not None}


def _bytes(part: Dataset) -> int:
    return part.content.nbytes + part.label_N.nbytes + part.id_N.nbytes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name, 40) for name in names[:_SHOWN]) + more
