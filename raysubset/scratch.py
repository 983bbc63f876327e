"""Scratch: temporary folders of this user, and the end of what dead processes left of theirs.

    TMPDIR/raysubset-1000/tmp-x1y2/.lock     held for as long as whoever made the folder lives

A process that is killed cannot clean up, but the system takes its locks away: whoever makes a
folder removes, once a process, those that nobody holds.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from raysubset.errors import RunFolderError
from raysubset.files import LOCK, take_lock


class Scratch:
    """A temporary folder of this process.

    Attributes:
        path: the folder; a lock lies in it.
    """

    def __init__(self, kind: str = "tmp") -> None:
        """Make it, and remove what dead processes left."""
        root = scratch_root()
        _forget_dead_once(root, os.getpid())
        self.path, self._lock = _made(root, kind)

    def close(self) -> None:
        """Delete it; what cannot be deleted goes with what dead processes leave."""
        empty(self.path)
        end_lock(self._lock, self.path)


@contextmanager
def scratch_folder(kind: str = "tmp") -> Generator[Path]:
    """Give a temporary folder, and delete it."""
    scratch = Scratch(kind)
    try:
        yield scratch.path
    finally:
        scratch.close()


def scratch_root() -> Path:
    """Return where this user's temporary folders lie, closed to everybody else.

    Raises:
        RunFolderError: somebody else made a folder of its name.
    """
    root = Path(tempfile.gettempdir()).absolute() / f"raysubset-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    told = root.lstat()
    # Anybody may have made a folder of this name in /tmp.
    if not stat.S_ISDIR(told.st_mode) or told.st_uid != os.getuid():
        raise RunFolderError(f"{root} is not this user's; remove it, or set TMPDIR.")
    root.chmod(0o700)
    return root


def forget_dead(root: Path) -> None:
    """Remove the folders below a root whose lock is there and held by nobody."""
    for path in root.iterdir():
        if not (path / LOCK).is_file():
            continue
        with suppress(RunFolderError, FileNotFoundError):  # in use, or another process was first
            _bury(path, take_lock(path, "folder"), root)


def empty(folder: Path) -> None:
    """Delete what lies in a folder, but for its lock."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def end_lock(lock: IO[str], folder: Path) -> None:
    """Delete a folder's lock and the folder, if it is empty, and let go of the lock."""
    with lock, suppress(OSError):  # somebody came meanwhile, or took all of it away
        if os.listdir(folder) == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


def _bury(folder: Path, lock: IO[str], root: Path) -> None:
    """Delete a folder by another name: whoever needs its own again does not wait for that."""
    grave, held = _made(root, "dead")
    for path in folder.iterdir():
        if path.name != LOCK:
            path.rename(grave / path.name)
    end_lock(lock, folder)
    empty(grave)
    end_lock(held, grave)


@cache
def _forget_dead_once(root: Path, process: int) -> None:
    forget_dead(root)


def _made(root: Path, kind: str) -> tuple[Path, IO[str]]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=root))
        with suppress(RunFolderError, FileNotFoundError):  # taken for dead before it was locked
            return path, take_lock(path, "folder")
