"""Redaction: texts without what could be a secret, for what is shown, logged or written down."""

from __future__ import annotations

import re

NAMES = r"pass|pwd|token|secret|key|sas|sig|credential"
"""What the name of an option in an address holds whose value is a secret."""

_SECRET = rf"[?&][^=&\s]*(?:{NAMES})[^=&\s]*="
_USER = r"(?://[^\s'\"]*|[^\s'\"/(]+:[^\s'\"]*)@"
_PLAIN = r"(?:abfss?://[^\s/:@?#]+|gc?s://anonymous)@"
"""A container, and nobody: what stands before an @ and is no secret."""
_PLAIN_AT_END = re.compile(rf"(?<![A-Za-z0-9+.-]){_PLAIN}\Z")
_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://")


def redacted(text: str) -> str:
    """Return a text without what stands before an @, or after token= and the like, in addresses."""
    text = re.sub(_USER, _without_user, text) if "@" in text else text
    return re.sub(f"({_SECRET})[^&\\s'\"]*", r"\1***", text, flags=re.IGNORECASE)


def _without_user(found: re.Match[str]) -> str:
    return found[0] if _PLAIN_AT_END.search(found[0]) else "//***@"


def holds_credentials(address: str) -> bool:
    """Return whether a text is an address with a user, a password or a token in it."""
    found = re.search(f"{_USER}|{_SECRET}", re.sub(rf"\A{_PLAIN}", "s3://", address), re.IGNORECASE)
    return bool(_ADDRESS.match(address) and found)


def unprintable(text: str) -> str:
    """Return the first character of a text that is no part of a name: a control or half of one.

    A NUL ends a path early, a newline or an escape forges lines of a log or a terminal, and half
    of a surrogate pair (bytes that are not UTF-8) can be written nowhere.
    """
    odd = _ODD.search(text)
    return odd.group() if odd else ""


def lines_of(text: str) -> str:
    """Return a text whose lines a terminal shows as they are: a name in it can hold an escape."""
    return _ODD.sub(lambda odd: odd[0] if odd[0] == "\n" else "\N{REPLACEMENT CHARACTER}", text)


_ODD = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
