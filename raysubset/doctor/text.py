"""The screen: a line per check with its mark, remedies under what is not well, a verdict last."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

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
        yield from lines_of_finding(finding, width)
    yield Text()
    style = "bold red" if diagnosis.exit_code else "bold"
    yield Text(diagnosis.verdict, style=style)


def lines_of_finding(
    finding: Finding, width: int, marks: Mapping[Status, tuple[str, str]] = MARKS
) -> Iterator[Text]:
    """Yield the lines of one finding: its mark, name and sentence, and the remedy below."""
    (mark, style), width = marks[finding.status], max(60, width)
    room = max(_MARK, *(len(word) + 2 for word, _ in marks.values()))
    indent = " " * (room + _NAME)
    found = _wrapped(finding.found, width - len(indent))
    yield Text.assemble((f"{mark:<{room}}", style), f"{finding.name:<{_NAME}}{found[0]}")
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
