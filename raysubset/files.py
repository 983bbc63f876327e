"""Files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from raysubset.errors import RunFolderError
from raysubset.faultpoints import reach

KINDS = {
    "experiment.yaml": "a run",
    "frontier.yaml": "a frontier",
    "selection.json": "a selection",
}
"""The file that tells what a folder holds -> what that is."""

LOCK, TEMPORARY = ".lock", ".tmp"
"""What a lock is called, and how a file ends that is being written."""

SEAL = "sha256"
"""The key of a JSON file under which its own hash stands; see `sealed`."""

TRACES = "traces-"
"""How files begin that hold what kept epochs saw; named here for who must not import torch."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, fsync it and move it to `path` in one step."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with suppress(OSError):  # no locks on this disk: then nothing is taken for left over
            fcntl.flock(handle, fcntl.LOCK_SH)
        write(temporary)
        _sync(temporary)
        reach("file.written")
        os.replace(temporary, path)
        reach("file.visible")
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)
    _sync(path.parent)


def forget_unfinished(folder: Path) -> None:
    """Delete the temporary files at or below a folder whose writers are dead."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        with suppress(OSError), open(path, "rb") as file:  # its writer lives, or was quicker
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


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


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value with the SHA-256 of its own JSON, by which it is known to be whole."""
    digest = hashlib.sha256(json_bytes(dict(value))).hexdigest()
    return {**value, SEAL: digest}


def unsealed(value: Any) -> dict[str, Any]:
    """Return a sealed value without its seal; an older version's, which has none, as it is.

    Raises:
        ValueError: no JSON object, or not what its seal says.
    """
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    rest = {name: each for name, each in value.items() if name != SEAL}
    if SEAL in value and sealed(rest) != value:
        raise ValueError("it is not what its own SHA-256 says")
    return rest


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
        folder: where its .lock lies; it is there.
        what: how an error calls the folder.
        shown: what an error names instead of the folder.

    Raises:
        RunFolderError: another process holds it, or a link in it leads elsewhere.
    """
    refuse_links_out(folder, what, shown)
    while True:
        lock = open(folder / LOCK, "a+", encoding="utf-8")
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
        if not _is_deleted(lock):
            break
        lock.close()  # whoever held it deleted it meanwhile
    try:
        lock.truncate(0)
        lock.write(_me())
        lock.flush()
    except OSError:  # a full disk: closing it would try once more
        with suppress(OSError):
            lock.close()
        raise
    return lock


def refuse_lost(lock: IO[str], what: str) -> None:
    """Refuse to write where another process took a lock over.

    It could: somebody deleted the lock's file, or the disk's locks do not reach other machines.

    Raises:
        RunFolderError: the lock is not this process's any more.
    """
    lock.seek(0)
    owner = "another process" if _is_deleted(lock) else lock.read().strip()
    if owner != _me():
        raise RunFolderError(
            f"{what} was taken over by {owner or 'another process'}, so this process writes "
            "nothing more to it; what was committed before is kept."
        )


def _is_deleted(lock: IO[str]) -> bool:
    """Return whether the file of an open lock has no name any more, whoever has it now."""
    told = os.fstat(lock.fileno())
    try:
        # Both: what a mounted store says of links, or of inodes, is not always so.
        return not told.st_nlink and not os.path.samestat(told, os.stat(lock.name))
    except FileNotFoundError:
        return True


def _me() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


def refuse_links_out(folder: Path, what: str, shown: object = None) -> None:
    """Refuse to write in a folder of which a part is a link to somewhere else.

    Whoever made the link would decide which other files are overwritten, or deleted as old rounds.

    Raises:
        RunFolderError: the link, where it leads and the remedy.
    """
    root = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and _leads_out(path, root):
                raise RunFolderError(
                    f"{what} {shown or folder} holds a link, {path.relative_to(folder)}, that "
                    f"leads out of it, to {os.readlink(path)}; nothing is written there. Put what "
                    "it leads to in its place (--run-dir itself may be a link), or choose another "
                    "--run-dir."
                )


def _leads_out(link: Path, root: Path) -> bool:
    try:
        return not link.resolve().is_relative_to(root)
    except OSError:  # where this user may not look
        return True


def read_object(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where there is none, or none that can be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest of its parents that is there: the disk it would lie on."""
    while not path.exists():
        path = path.parent
    return path
