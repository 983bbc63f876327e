"""The screen: a line per check with its mark, remedies under what is not well, a verdict last."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.text import Text

from raysubset.doctor.finding import Diagnosis, Finding, Status
from raysubset.report.wording import printable

MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("WARNING", "yellow"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("skipped", "dim"),
}
_MARK, _NAME = 9, 16
_LONGEST = 3000


def lines_of(diagnosis: Diagnosis, width: int) -> Iterator[Text]:
    """Yield the lines, wrapped at a width; without colour they say the same."""
    yield Text(f"raysubset doctor: {printable(diagnosis.where)}")
    yield Text()
    for finding in diagnosis.findings:
        yield from _lines(finding, max(60, width))
    yield Text()
    style = "bold red" if diagnosis.exit_code else "bold"
    yield Text(diagnosis.verdict, style=style)


def _lines(finding: Finding, width: int) -> Iterator[Text]:
    mark, style = MARKS[finding.status]
    indent = " " * (_MARK + _NAME)
    found = _wrapped(finding.found, width - len(indent))
    yield Text.assemble((f"{mark:<{_MARK}}", style), f"{finding.name:<{_NAME}}{found[0]}")
    for line in found[1:]:
        yield Text(indent + line)
    if finding.remedy and finding.status != "ok":
        remedy = _wrapped(finding.remedy, width - len(indent) - 3)
        for index, line in enumerate(remedy):
            yield Text(indent + ("-> " if index == 0 else "   ") + line, style="bold")


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines; no option, address or path is cut in two."""
    line = printable(" ".join(text.split()), _LONGEST)
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
