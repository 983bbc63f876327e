"""The disk that a run folder lies on, or the local copy of one behind a URI: when it is full.

Where the folder is behind a URI, what fails here is the copy's disk, and the store holds every
round that was committed.
"""

from __future__ import annotations

from pathlib import Path

from raysubset.errors import RunFolderError
from raysubset.storage.faults import FULL, cause_of
from raysubset.storage.staging import shown, staging_of


def unwritable(path: Path, error: OSError, what: str = "run folder") -> RunFolderError:
    """Return the error of a folder in which nothing was begun or taken up."""
    remedy = "choose another with --run-dir"
    if error.errno in FULL:
        remedy = f"{_make_room(path)}, or {remedy}"
    return RunFolderError(f"{what} {_named(path)} cannot be written ({cause_of(error)}); {remedy}.")


def no_longer_writable(path: Path, error: OSError) -> RunFolderError:
    """Return the error of a run that its disk ends; its committed rounds are whole."""
    room = _make_room(path)
    return RunFolderError(
        f"run folder {_named(path)} can no longer be written ({cause_of(error)}); finished rounds "
        f"are kept. {room[0].upper()}{room[1:]}, then run the same command with --resume."
    )


def _named(path: Path) -> str:
    copy = "" if staging_of(path) is None else f" (its local copy {path})"
    return f"{shown(path)}{copy}"


def _make_room(path: Path) -> str:
    return "make room" if staging_of(path) is None else "make room there, or set TMPDIR elsewhere"
