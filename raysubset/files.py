"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from raysubset.errors import RunFolderError

KINDS = {
    "experiment.yaml": "a run",
    "frontier.yaml": "a frontier",
    "selection.json": "a selection",
}
"""The file that tells what a folder holds -> what that is."""

TRACES = "traces-"
"""How files begin that hold what kept epochs saw; named here for who must not import torch."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, fsync it and move it to `path` in one step."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically; NaN becomes null, because JSON has none."""
    write_text(path, json_bytes(value).decode())


def json_bytes(value: Any) -> bytes:
    """Return a value as the bytes of a JSON file; NaN becomes null, because JSON has none."""
    text = json.dumps(finite(value), indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()


def finite(value: Any) -> Any:
    """Return the value with every NaN or infinity as None, all the way down."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(folder: Path, what: str, shown: object = None) -> IO[str]:
    """Return the open lock of a folder; whoever holds it alone writes there, until it is closed.

    Args:
        folder: where .lock lies.
        what: how an error calls the folder.
        shown: what an error names instead of the folder.

    Raises:
        RunFolderError: another process holds it.
    """
    lock = open(folder / ".lock", "a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read().strip() or "another process"
        lock.close()
        raise RunFolderError(
            f"{what} {shown or folder} is in use by {owner}; wait for it, or choose another "
            "--run-dir."
        ) from None
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {os.uname().nodename}")
    lock.flush()
    return lock


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest of its parents that is there: the disk it would lie on."""
    while not path.exists():
        path = path.parent
    return path
