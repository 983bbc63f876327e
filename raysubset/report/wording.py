"""How numbers, strategies and untrusted text are said: one way for tables, charts and pages."""

from __future__ import annotations

import html
import math
import re

STRATEGY_TITLES = {
    "glister": "GLISTER",
    "adaptive-random": "adaptive random",
    "random": "random",
    "full-compressed": "full at equal compute",
    "full-validation-compressed": "full plus validation rows at equal compute",
    "validation-only": "validation rows alone",
    "random-validation": "random plus validation rows",
    "full": "full",
}
NOTHING = "-"
_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|])")


def title_of(strategy: str) -> str:
    """Return how a sentence calls a strategy."""
    return STRATEGY_TITLES.get(strategy, strategy)


def is_number(value: float | None) -> bool:
    """Return whether a recorded figure is there: JSON's null stands for NaN."""
    return value is not None and math.isfinite(value)


def count(value: float | None) -> str:
    """Return for instance "7,740"."""
    return f"{value:,.0f}" if value is not None and is_number(value) else NOTHING


def counted(value: int, noun: str) -> str:
    """Return for instance "1 id" or "7,740 ids"."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def decimal(value: float | None, digits: int = 2) -> str:
    """Return for instance "1,234.50"."""
    return f"{value:,.{digits}f}" if value is not None and is_number(value) else NOTHING


def significant(value: float | None, digits: int = 3) -> str:
    """Return for instance "0.0713": digits that count, whatever the size."""
    return f"{value:.{digits}g}" if value is not None and is_number(value) else NOTHING


def percent(share: float | None, digits: int = 1) -> str:
    """Return for instance "97.5 %" for 0.975."""
    if share is None or not is_number(share):
        return NOTHING
    return f"{100 * share:,.{digits}f} %"


def percent_asked(share: float) -> str:
    """Return a fraction as a person wrote it: "10 %", "0.5 %", without noughts behind."""
    return f"{100 * share:.6g} %"


def at_least(share: float | None) -> str:
    """Return a lower bound as "65 %", rounded down so that it stays one."""
    if share is None or not is_number(share):
        return NOTHING
    return f"{math.floor(100 * share + 1e-9)} %"


def duration(seconds: float | None) -> str:
    """Return for instance "0.25 s", "42 s", "3 min 12 s" or "2 h 5 min"."""
    if seconds is None or not is_number(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def printable(text: str, limit: int = 200) -> str:
    """Return untrusted text on one line: no control characters, cut at `limit` with an ellipsis."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def markdown(text: str) -> str:
    """Return text that Markdown and the HTML inside it show as it is written."""
    return _MARKDOWN_SIGNS.sub(r"\\\1", html.escape(printable(text, 2000), quote=False))
