"""The place of a staging folder on this machine: this user's alone, and of one writer."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from raysubset.files import LOCK, take_lock
from raysubset.scratch import empty, end_lock, forget_dead, scratch_folder, scratch_root
from raysubset.storage.remote import Remote


@contextmanager
def reserved(remote: Remote, *, write: bool) -> Generator[tuple[Path, Path | None]]:
    """Give an empty folder, and the local lock that a writer holds; delete it again."""
    if not write:
        with scratch_folder("read") as home:
            yield home, None
        return
    own_root = scratch_root() / hashlib.sha256(remote.uri.encode()).hexdigest()[:16]
    lock = _locked(own_root, remote)
    try:
        empty(own_root)  # of a driver that was killed: a cache
        forget_dead(own_root.parent)
        yield own_root / "w", own_root / LOCK
    finally:
        empty(own_root)
        end_lock(lock, own_root)


def _locked(own_root: Path, remote: Remote) -> IO[str]:
    while True:
        own_root.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # a writer that has just ended took the folder away
            return take_lock(own_root, "run folder", remote)


def last_names(uri: str) -> list[str]:
    """Return the last names of a URI's path: a tracked run is called by its folder's."""
    # Unquoted first: %2F and %2e%2e are a slash and a step up, and staging is never left.
    names = unquote(urlsplit(uri).path).split("/")
    return [n for n in names if n not in ("", ".", "..")][-3:]
