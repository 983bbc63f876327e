"""A case's figures as a person reads them: units, and whether a limit was met, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LIMIT = re.compile(r"at (most|least) ([0-9.]+)")


def rows_of(name: str, found: Mapping[str, Any]) -> list[str]:
    """Return a case's part of the table."""
    took = f"  [{seconds(found['took_s'])}, load {found['load']}]" if "took_s" in found else ""
    if "error" in found:
        return [f"{name}: FAILED: {found['error']}{took}"]
    if "skipped" in found:
        return [f"{name}: not run: {found['skipped']}"]
    wide = max([24, *map(len, (*found["seconds"], *found["ratios"]))])
    rows = [f"{name}: {found['of']}{took}"]
    rows += [f"  {what:<{wide}}  {seconds(taken):>9}" for what, taken in found["seconds"].items()]
    for what, ratio in found["ratios"].items():
        limit = found["limits"].get(what)
        held = f"  {limit}: {verdict(ratio, limit)}" if limit else ""
        rows.append(f"  {what:<{wide}}  {short(ratio):>8}x{held}")
    return rows + points(found["rows"])


def verdict(ratio: float, limit: str) -> str:
    """Return "met" or "MISSED"; a limit in other words than "at most 0.2" is only told."""
    held = _LIMIT.match(limit)
    if held is None:
        return "see there"
    bound = float(held[2])
    return "met" if (ratio <= bound if held[1] == "most" else ratio >= bound) else "MISSED"


def summary(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one line over all cases: how many ran, and which limits were not met."""
    failed = [name for name, found in cases.items() if "error" in found]
    skipped = [name for name, found in cases.items() if "skipped" in found]
    judged = [
        (f"{name}: {what}", verdict(found["ratios"][what], limit))
        for name, found in cases.items()
        for what, limit in found.get("limits", {}).items()
        if what in found["ratios"]
    ]
    missed = [what for what, how in judged if how == "MISSED"]
    told = f"{len(cases) - len(failed) - len(skipped)} of {len(cases)} cases measured"
    told += f"; failed: {', '.join(failed)}" if failed else ""
    told += f"; not run: {', '.join(skipped)}" if skipped else ""
    met = sum(how == "met" for _, how in judged)
    told += f"; limits: {met} met" if judged else ""
    return told + (f", {len(missed)} MISSED ({', '.join(missed)})" if missed else "")


def points(table: list[dict[str, Any]]) -> list[str]:
    """Return the points of a case as a table, one column for each name that any of them has."""
    if not table:
        return []
    names = list(dict.fromkeys(name for point in table for name in point))
    cells = [names, *([short(point.get(name)) for name in names] for point in table)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]


def seconds(taken: float) -> str:
    """Return a time with its unit."""
    if taken >= 120:
        return f"{taken / 60:.1f} min"
    if taken >= 1:
        return f"{taken:.2f} s"
    return f"{taken * 1e3:.3g} ms" if taken >= 1e-3 else f"{taken * 1e6:.3g} us"


def short(value: Any) -> str:
    """Return a figure as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
