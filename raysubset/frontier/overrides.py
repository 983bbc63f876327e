"""Overrides of a trial: fields of the experiment that were tuned, and how they are written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

Values = Mapping[str, Any]
"""Field of the experiment ("training.lr") -> its value."""
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+")
_LONGEST = 60


def suffix_of(values: Values) -> str:
    """Return what tells a trial's folder from its neighbours': "-lr0.1"; "" without overrides.

    A digest stands where that would be long, no name for a folder, or the same for two fields.
    """
    if not values:
        return ""
    lasts = [field.rpartition(".")[2] for field in values]
    plain = "".join(f"-{last}{shown(v)}" for last, v in zip(lasts, values.values(), strict=True))
    if len({*lasts}) == len(lasts) and len(plain) <= _LONGEST and _PLAIN.fullmatch(plain):
        return plain
    text = json.dumps(dict(values), sort_keys=True)
    return f"-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def in_words(values: Values) -> str:
    """Return for instance "training.lr=0.1, training.momentum=0.5"; "" without overrides."""
    return ", ".join(f"{field}={shown(value)}" for field, value in values.items())


def shown(value: Any) -> str:
    """Return a value as a person would type it, all its digits kept."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        short = f"{value:.12g}"
        return short if float(short) == value else repr(value)
    return str(value)


def brief(value: Any) -> str:
    """Return a value for a table: a number with the digits that count."""
    return f"{value:.4g}" if isinstance(value, float) else shown(value)
