"""The screen: a line per check, the remedy under what is damaged, a verdict last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from raysubset.doctor.finding import Status
from raysubset.doctor.text import lines_of_finding
from raysubset.report.wording import printable
from raysubset.verifying.examination import Examined

MARKS: Mapping[Status, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "warning": ("WARNING", "yellow"),
    "failed": ("FAILED", "bold red"),
    "skipped": ("not checked", "yellow"),
}


def lines_of(examined: Examined, width: int) -> Iterator[Text]:
    """Yield the lines, wrapped at a width; without colour they say the same."""
    yield Text(f"raysubset verify: {printable(examined.where, 400)}")
    for folder, findings in examined.folders:
        yield Text()
        if len(examined.folders) > 1:
            yield Text(printable(folder), style="bold")
        for finding in findings:
            yield from lines_of_finding(finding, width, MARKS)
    yield Text()
    style = "bold red" if examined.exit_code else "bold"
    yield Text(printable(examined.verdict, 2000), style=style)
