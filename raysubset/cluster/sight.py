"""Sight: whether a process sees a folder of the driver; detected, never presumed.

A run folder may lie on a disk that every node mounts, or on the driver's own: the same path then
means another folder elsewhere, or none. The driver leaves a token in it, and whoever reads the
same nonce there sees the same folder.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NAME = ".driver"


@dataclass(frozen=True, kw_only=True)
class Token:
    """What the driver left.

    Attributes:
        path: the file.
        nonce: what it holds.
    """

    path: str
    nonce: str

    def is_seen(self) -> bool:
        """Return whether this process sees the driver's folder; a late disk counts as unseen."""
        try:
            return Path(self.path).read_text() == self.nonce
        except (OSError, UnicodeDecodeError):
            return False


@contextmanager
def left_in(folder: Path) -> Generator[Token]:
    """Leave a token in a folder, and take it away at the end."""
    token = Token(path=str(folder / NAME), nonce=uuid.uuid4().hex)
    with suppress(OSError):  # a disk that takes no token is told of where the run is written
        Path(token.path).write_text(token.nonce)
    try:
        yield token
    finally:
        with suppress(OSError):
            Path(token.path).unlink(missing_ok=True)
