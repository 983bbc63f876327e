"""Rows of a run by the person's own names of them: one row, or what was probably meant."""

# pyarrow.compute makes its functions at import time, so its stubs lack them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import difflib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysubset.errors import ConfigError

IN_ORDER = ("pool", "validation", "tuning", "test")
"""The parts, the first meaning of an id or a key first."""
_NAMED = 3
_COMPARED = 20_000  # keys looked at for a near one: difflib takes about 10 us for each


def rows_named(parts: pa.Table, key: str) -> list[dict[str, Any]]:
    """Return the rows that a key names, at most one of a part.

    Args:
        parts: parts.parquet of a run.
        key: as a person typed it.

    Raises:
        ConfigError: no row is called so (the nearest keys are named), the run has no keys, or
            several rows of a part share the key.
    """
    keys = parts["key"]
    found = parts.filter(pc.equal(keys, key)).to_pylist()
    if not found:
        raise ConfigError(_unknown(keys.drop_null(), key))
    for part in IN_ORDER:
        ids = [row["id"] for row in found if row["part"] == part]
        if len(ids) > 1:
            named = ", ".join(str(i) for i in ids[:_NAMED])
            raise ConfigError(
                f"--key={key} names {len(ids):,} rows of the {part} (ids {named}"
                f"{' and more' if len(ids) > _NAMED else ''}); ask for one of them: --id {ids[0]}."
            )
    return found


def _unknown(keys: pa.ChunkedArray, key: str) -> str:
    if not len(keys):
        return (
            f"--key={key}: this run has no keys, its rows are known by their number: "
            "--id NUMBER. (A table's own come by --data.key_column NAME, in a new run.)"
        )
    near = near_keys(keys, key)
    hint = f"did you mean {' or '.join(repr(k) for k in near)}? " if near else ""
    return (
        f"--key={key} names no row of this run; {hint}Its {len(keys):,} keys look like "
        f"{keys[0].as_py()!r}."
    )


def near_keys(keys: pa.ChunkedArray, key: str) -> list[str]:
    """Return up to three keys that were probably meant, the nearest first.

    Keys that hold what was typed, or its last part (a file name without its folders), come first.
    """
    last = key.rstrip("/").rpartition("/")[2]
    inside: list[str] = []
    for text in dict.fromkeys((key, last)):
        if text:
            holds = pc.match_substring(keys, text, ignore_case=True)
            inside += keys.filter(holds).slice(0, _NAMED).to_pylist()
    texts = keys.slice(0, _COMPARED).to_pylist()
    close = difflib.get_close_matches(key, texts, n=_NAMED, cutoff=0.75)
    return list(dict.fromkeys([*inside, *close]))[:_NAMED]
