"""Fetching: what lies behind URIs, copied to this machine whole, and as it was listed.

Listed, counted, and held against the free disk before the first byte; read in chunks, each tried
again as a run folder's objects are; listed once more at the end, so that what was written to
meanwhile is refused and never half of each.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from raysubset.errors import DataError, Stopped
from raysubset.storage.addresses import child_of, without_credentials
from raysubset.storage.faults import DATA, cause_of
from raysubset.storage.remote import Remote, Stamp

logger = logging.getLogger(__name__)
CHUNK = 32 << 20
"""Bytes of one read: what a fault costs, and what each of the readers holds in memory."""
AT_ONCE = 16
"""Files side by side: a folder of images is mostly waiting."""
FIRST_S = 20.0
"""How long a store may be in trouble before it has answered at all."""
STEP_S = 0.5
"""How long a stop may be unheard."""
FIRST_LINE_S, LINE_S = 3.0, 10.0
"""When the first line on a long fetch is told, and how often the others are."""
MARKERS = ("_SUCCESS", "_started_", "_committed_")
"""How the files begin that writers of tables leave beside them."""
_tell: ContextVar[Callable[[str], object]] = ContextVar("raysubset_fetching", default=logger.info)


@contextmanager
def telling(tell: Callable[[str], object]) -> Generator[None]:
    """Let lines on long fetches go to a person, and not to the log."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


@dataclass(frozen=True)
class Listed:
    """What stands behind a URI.

    Attributes:
        remote: the folder, or the file itself.
        files: name below it -> stamp; the one name "" where it is a file.
    """

    remote: Remote
    files: Mapping[str, Stamp]

    def uri_of(self, name: str) -> str:
        """Return how a person names one of the files."""
        return without_credentials(child_of(self.remote.uri, name) if name else self.remote.uri)


def listed(uri: str) -> Listed:
    """Return the file at a URI, or the files below it; hidden ones and markers left out.

    Raises:
        DataError: a bad address, a store that refuses or does not answer, nothing there, or a name
            that no file can have; with the remedy.
    """
    remote = Remote(uri, DATA)
    told = without_credentials(uri)
    stamp = None if uri.partition("?")[0].endswith("/") else remote.stamp(FIRST_S)
    found = Listed(remote, {"": stamp} if stamp else _visible(remote))
    if not found.files:
        raise DataError(
            f"{told}: there is nothing behind this address, neither a file nor a folder with "
            "visible files; check the names of the bucket and the folder."
        )
    _refuse_odd_names(found)
    return found


def fetch(wanted: Mapping[Path, Listed], within: Path) -> None:
    """Copy what was listed to local paths; a file that two of them hold is read once.

    Args:
        wanted: where each file or folder goes.
        within: the folder that all of it goes into; what is in there is another's.

    Raises:
        DataError: too little room, a store in trouble for too long, or data that changed meanwhile.
    """
    files = {path / name if name else path: (at, name) for path, at, name in _each(wanted)}
    total = sum(at.files[name][0] for at, name in files.values())
    _check_room(within, total, wanted.values())
    progress = _Progress(
        total, ", ".join(without_credentials(a.remote.uri) for a in wanted.values())
    )
    with _written(within):
        _copy_all(files, progress)
    for at in wanted.values():
        _refuse_changed(at)
    progress.end()


def _each(wanted: Mapping[Path, Listed]) -> Iterable[tuple[Path, Listed, str]]:
    return ((path, at, name) for path, at in wanted.items() for name in at.files)


def _visible(remote: Remote) -> dict[str, Stamp]:
    return {name: stamp for name, stamp in remote.list().items() if not _is_left_out(name)}


def _is_left_out(name: str) -> bool:
    steps = name.split("/")
    hidden = any(step.startswith(".") and step not in (".", "..") for step in steps)
    return hidden or steps[-1].startswith(MARKERS)


def _refuse_odd_names(found: Listed) -> None:
    """Refuse names that no file of this machine has: nothing is written beside its folder."""
    for name in found.files:
        steps = name.split("/")
        if name and any(step in ("", ".", "..") or "\0" in step for step in steps):
            why = "an empty step, . or .. in it"
        elif any("/".join(steps[:i]) in found.files for i in range(1, len(steps))):
            why = "a name that is a file and a folder"
        else:
            continue
        raise DataError(
            f"{without_credentials(found.remote.uri)} holds {name!r}, {why}, which no file of this "
            "machine can be called; rename it."
        )


def _check_room(within: Path, total: int, wanted: Iterable[Listed]) -> None:
    free = shutil.disk_usage(within).free
    if total > free:
        named = ", ".join(without_credentials(at.remote.uri) for at in wanted)
        raise DataError(
            f"{named}: {_size(total)} are read through a temporary copy in {within.parent}, and "
            f"{_size(free)} are free there; make room, or set TMPDIR to a larger disk."
        )


def _copy_all(files: Mapping[Path, tuple[Listed, str]], progress: _Progress) -> None:
    """Write all files, some side by side; the first that cannot be had ends the others."""
    left, lock, ended = iter(files.items()), threading.Lock(), threading.Event()

    def taken() -> tuple[Path, tuple[Listed, str]] | None:
        with lock:
            return next(left, None)

    def work() -> None:
        while (item := taken()) is not None:
            path, (at, name) = item
            _copy(path, at, name, progress, ended)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            working = {pool.submit(work) for _ in range(min(AT_ONCE, len(files)))}
            while working:
                # In steps: a signal that comes just before a wait is heard after it.
                done, working = wait(working, STEP_S, FIRST_EXCEPTION)
                for each in done:
                    each.result()
        finally:  # whoever was interrupted waits for no file
            ended.set()


def _copy(path: Path, at: Listed, name: str, progress: _Progress, ended: threading.Event) -> None:
    """Write one file, chunk by chunk."""

    def go_on() -> None:
        if ended.is_set():
            raise Stopped("the fetch was ended")

    path.parent.mkdir(parents=True, exist_ok=True)
    size, first = at.files[name][0], None
    with open(path, "xb") as file:
        while file.tell() < size:
            go_on()
            wanted = min(CHUNK, size - file.tell())
            try:
                content, tag = at.remote.read_range(name, file.tell(), wanted, again=go_on)
            except FileNotFoundError:
                raise _changed(at, name) from None
            first = tag if first is None else first
            if len(content) != wanted or tag != first:
                raise _changed(at, name)
            file.write(content)
            progress.add(wanted)


def _refuse_changed(at: Listed) -> None:
    """Refuse what was written to while it was read."""
    now = {"": at.remote.stamp()} if "" in at.files else _visible(at.remote)
    other = sorted(n for n in {**at.files, **now} if at.files.get(n) != now.get(n))
    if other:
        raise _changed(at, other[0])


def _changed(at: Listed, name: str) -> DataError:
    return DataError(
        f"{at.uri_of(name)} changed while it was read; run the same command again when nobody "
        "writes there."
    )


@contextmanager
def _written(within: Path) -> Generator[None]:
    """Tell a disk of this machine that cannot hold the copy."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the temporary copy of the data cannot be written ({cause_of(error)}): {within}. Make "
            "room there, or set TMPDIR elsewhere."
        ) from error


class _Progress:
    """Tells now and then how far a fetch has come; nothing of one that is short."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done = total, what, 0
        self._tell, self._lock = _tell.get(), threading.Lock()
        self._began = time.monotonic()
        self._next = self._began + FIRST_LINE_S
        self._told = False

    def add(self, count: int) -> None:
        """So many bytes more are here."""
        with self._lock:
            self.done += count
            now = time.monotonic()
            if now < self._next or self.done == self.total:
                return
            self._next, self._told = now + LINE_S, True
            pace = self.done / max(now - self._began, 1e-9)
            left_s = (self.total - self.done) / pace
            self._tell(
                f"fetching {self.what}: {_size(self.done)} of {_size(self.total)}, "
                f"{_size(round(pace))}/s, ETA {left_s:,.0f} s"
            )

    def end(self) -> None:
        """All of it is here."""
        if self._told:
            took_s = time.monotonic() - self._began
            self._tell(f"fetched {self.what}: {_size(self.total)} in {took_s:,.0f} s")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
