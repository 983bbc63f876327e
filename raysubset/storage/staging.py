"""Staging: the local folder in which this process works on a run folder behind a URI.

Everything above works on paths. A path inside a staging folder is known here by its process, so
`shown` gives what a person should read instead, and `keep` and its siblings mirror what was
written; for any other path they do nothing. What is not in the store does not exist: staging is
made anew each time a run folder is opened.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from raysubset.errors import RunFolderError
from raysubset.faultpoints import reach
from raysubset.files import TRACES
from raysubset.storage.addresses import is_uri
from raysubset.storage.faults import cause_of
from raysubset.storage.mending import Ours
from raysubset.storage.owner import Owner
from raysubset.storage.probing import probe
from raysubset.storage.remote import Remote, Stamp
from raysubset.storage.reserving import last_names, reserved

logger = logging.getLogger(__name__)
RECORDS = {
    *("experiment.yaml", "environment.json", "fingerprint.json", "parts.parquet"),
    *("skipped.csv", "transform.json"),
    *("history.jsonl", "result.json", "tracking.json"),
    *("selection.parquet", "metrics.json", "MANIFEST.json"),
    *("frontier.yaml", "equal_time.json", "tuned.json"),
    *("trial.json", "failed.json", "stopped.json"),
    "round.json",
}
"""What is fetched when a folder is opened; a checkpoint is when it is asked for, the rest never."""
HEAVY = {"weights.safetensors", "trainer.pt", "observations.safetensors"}
LAST_WORD_S = 5.0
"""How long a run waits at a stop for a store that does not take what is only for readers."""
_open: dict[Path, Staging] = {}  # of this process: paths know nothing of where they are mirrored


class Staging:
    """A local folder and the remote one that it stands in for.

    Attributes:
        folder: the local one.
        remote: the truth.
    """

    def __init__(self, folder: Path, remote: Remote, lock: Path | None) -> None:
        """Stand in for a remote folder; `lock` is the local lock that a writer holds."""
        self.folder, self.remote, self.lock = folder, remote, lock
        self._there: dict[str, Stamp | None] = {}  # the store's objects; None: ours, unlisted
        self._local: dict[str, Stamp] = {}  # files here that equal the store's
        self._owners: dict[Path, Owner] = {}
        self._ours = Ours()

    def name_of(self, path: Path) -> str:
        """Return a path's name in the remote folder; "" for the folder itself."""
        name = path.relative_to(self.folder).as_posix()
        return "" if name == "." else name

    def uri_of(self, path: Path) -> str:
        """Return the URI that a path stands in for."""
        name = self.name_of(path)
        return str(self.remote / name) if name else str(self.remote)

    def fetch(self, path: Path) -> None:
        """Make the records below a path what they are in the store; empty files mark the rest."""
        under = self.name_of(path)
        there = {n: s for n, s in self.remote.list(under).items() if not _is_hidden(n)}
        for name in [n for n in self._there if _below(n, under) and n not in there]:
            self._forget(name)
        stale = [n for n in there if n not in self._local or self._there.get(n) != there[n]]
        records = [n for n in stale if n.rpartition("/")[2] in RECORDS]
        self.remote.download_all(records, self.folder)
        for name in stale:
            self._there[name] = there[name]
            if _is_heavy(name):
                continue
            local = self.folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            if name not in records:
                local.touch()
            self._local[name] = _stamp(local)
        path.mkdir(parents=True, exist_ok=True)

    def fetch_files(self, paths: Iterable[Path]) -> None:
        """Download files that were left in the store; one that is not there stays missing."""
        names = [self.name_of(path) for path in paths if not path.is_file()]
        self.remote.download_all(names, self.folder)
        for name in names:
            if (self.folder / name).is_file():
                self._local[name] = _stamp(self.folder / name)

    def keep(self, path: Path, within_s: float | None = None) -> None:
        """Upload one file, whole, if it is not in the store as it is here."""
        name, stamp = self.name_of(path), _stamp(path)
        if self._local.get(name) == stamp:
            return
        check = partial(self.check_owner, path, within_s)
        check()
        reach("upload.begun")
        self.remote.upload(path, name, within_s, again=check)
        self._ours.wrote(name)
        reach("upload.done")
        self._there[name], self._local[name] = None, stamp

    def drop(self, path: Path, within_s: float | None = None, but: str = "") -> None:
        """Delete what the store holds at or below a path; manifests first."""
        name = self.name_of(path)
        doomed = [n for n in self._there if n == name or _below(n, name)]
        if but:
            doomed = [n for n in doomed if not _below(n, f"{name}/{but}")]
        check = partial(self.check_owner, path, within_s)
        for each in sorted(doomed, key=lambda n: (not n.endswith("/MANIFEST.json"), n)):
            check()
            self.remote.delete(each, within_s, again=check)
            self._ours.forget(each)
            self._there.pop(each)
            self._local.pop(each, None)

    def push(self, path: Path, within_s: float | None = None) -> None:
        """Upload what changed below a path and delete what is gone, but for rounds and trials."""
        under = self.name_of(path)
        gone = [
            name
            for name in self._local
            if _below(name, under) and not (self.folder / name).exists()
        ]
        for name in gone:
            if not _is_apart(name, under):
                self.drop(self.folder / name, within_s)
        for file in sorted(_files(path)):
            name = self.name_of(file)
            if not (_is_hidden(name) or _is_apart(name, under)):
                with suppress(FileNotFoundError):  # who follows a run deletes older event files
                    self.keep(file, within_s)

    def mend(self, path: Path, within_s: float | None = None) -> None:
        """Write again what the late write of an owner that was taken over replaced."""
        owner = self._owner_of(path)
        if owner is None or not owner.took_over:
            return
        there = self.remote.list(self.name_of(path))
        for name in self._ours.replaced(there, self._is_same):
            if _below(name, self.name_of(path)) and (self.folder / name).is_file():
                self._local.pop(name, None)
                self.keep(self.folder / name, within_s)

    def _is_same(self, name: str, told: Stamp) -> bool:
        path = self.folder / name
        if not path.is_file():
            return True  # it is ours no more
        if _is_heavy(name):  # its bytes are the same again, and its hash is looked at by a resume
            return told[0] == path.stat().st_size
        return self.remote.read(name) == path.read_bytes()

    def own(self, path: Path) -> None:
        """Become the one writer of a folder.

        Raises:
            RunFolderError: another process is; it is named.
        """
        assert self.lock is not None, "only a folder staged for writing is owned"
        remote = Remote(self.uri_of(path))
        self._owners[path] = Owner(remote, self.lock)

    def disown(self, path: Path) -> None:
        """Leave a folder to whoever comes next."""
        owner = self._owners.pop(path, None)
        if owner is not None:
            owner.release()

    def below(self, path: Path) -> set[str]:
        """Return what the store is known to hold below a path, named from there."""
        start = f"{self.name_of(path)}/"
        return {name.removeprefix(start) for name in self._there if name.startswith(start)}

    def know(self, path: Path, names: Iterable[str]) -> None:
        """Take word of what the store holds below a path: `mirror` writes there by itself."""
        names, start = set(names), f"{self.name_of(path)}/"
        for name in self.below(path) - names:
            self._there.pop(start + name)
            self._local.pop(start + name, None)
        for name in names:
            self._there.setdefault(start + name, None)

    def has(self, path: Path) -> bool:
        """Return whether the store is known to hold a file."""
        return self.name_of(path) in self._there

    def is_kept(self, path: Path) -> bool:
        """Return whether the store holds a file as it is here."""
        return path.is_file() and self._local.get(self.name_of(path)) == _stamp(path)

    def check_owner(self, path: Path, within_s: float | None) -> None:
        """Refuse to write below a path where another process took its folder over."""
        if (owner := self._owner_of(path)) is not None:
            owner.check(within_s)

    def refuse_lost(self, path: Path) -> None:
        """Refuse to go on where it is known that another process took a path's folder over."""
        if (owner := self._owner_of(path)) is not None:
            owner.refuse_lost()

    def _owner_of(self, path: Path) -> Owner | None:
        return next((self._owners[p] for p in (path, *path.parents) if p in self._owners), None)

    def _forget(self, name: str) -> None:
        self._there.pop(name)
        if self._local.pop(name, None) is not None:
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def staged(place: str | Path, *, write: bool = True, whole: bool = True) -> Generator[Path]:
    """Give the local folder of a run folder: the path itself, or staging for a URI.

    Args:
        place: a path or a URI.
        write: a run works there: the store is probed, and another such process of this machine
            is refused. Else the folder is only read from, beside whoever writes to it.
        whole: fetch its records at once; else only what `fetch_files` is asked for.

    Raises:
        RunFolderError: a bad URI, or a store that cannot be used; named before any work.
    """
    if not is_uri(place):
        yield Path(place).absolute() if write else Path(place)
        return
    remote = Remote.at(str(place))
    if write:
        probe(remote.uri)
    with reserved(remote, write=write) as (home, lock):
        folder = home.joinpath(*last_names(remote.uri))
        staging = Staging(folder, remote, lock)
        _open[folder] = staging
        try:
            with _copied(staging):
                folder.mkdir(parents=True)
                if whole:
                    staging.fetch(folder)
            yield folder
            staging.push(folder)
        finally:
            del _open[folder]


@contextmanager
def _copied(staging: Staging) -> Generator[None]:
    """Tell a disk of this machine that cannot hold the copy; the store's own errors are told."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"the local copy of {staging.remote} cannot be written ({cause_of(error)}): "
            f"{staging.folder}. Make room there, or set TMPDIR elsewhere."
        ) from error


def staging_of(path: Path) -> Staging | None:
    """Return the staging that a path lies in; None for a plain path."""
    if not _open:
        return None
    return next((_open[p] for p in (path, *path.parents) if p in _open), None)


def shown(path: Path) -> str:
    """Return what a person should read for a path: its URI, or itself."""
    staging = staging_of(path)
    return str(path) if staging is None else staging.uri_of(path)


def place_of(folder: Path) -> str | Path:
    """Return what another process has to open for a folder: its URI, or itself."""
    return folder if staging_of(folder) is None else shown(folder)


def keep(path: Path) -> None:
    """Upload a file that was just written, where its folder is staged; what is not there is not."""
    if (staging := staging_of(path)) is not None and path.is_file():
        staging.keep(path)


def keep_readable(path: Path) -> None:
    """Upload what changed in a folder besides its rounds; a store in trouble is only told of.

    For what nobody resumes from: event files, pages, a tracker's memory.
    """
    if (staging := staging_of(path)) is None:
        return
    try:
        staging.push(path, LAST_WORD_S)
        staging.mend(path, LAST_WORD_S)
    except RunFolderError as error:
        logger.warning("%s is not up to date for readers: %s", shown(path), error)


def fetch(path: Path) -> None:
    """Make the records below a path what they are in the store, where it is staged."""
    if (staging := staging_of(path)) is not None:
        staging.fetch(path)


def fetch_files(paths: Iterable[Path]) -> None:
    """Download files of one folder that were left in the store."""
    paths = list(paths)
    if paths and (staging := staging_of(paths[0])) is not None:
        staging.fetch_files(paths)


def is_there(path: Path) -> bool:
    """Return whether a file is here, or was left in the store."""
    if path.is_file():
        return True
    staging = staging_of(path)
    return staging is not None and staging.has(path)


def drop(*paths: Path, but: str = "") -> None:
    """Delete files, or all below folders but one of their folders, in the store."""
    for path in paths:
        if (staging := staging_of(path)) is not None:
            staging.drop(path, but=but)


def take(path: Path) -> None:
    """Become the one writer of a staged folder, and see what the one before left."""
    if (staging := staging_of(path)) is not None:
        staging.own(path)
        staging.fetch(path)


def disown(path: Path) -> None:
    """Leave a staged folder to whoever comes next, as it is."""
    if (staging := staging_of(path)) is not None:
        staging.disown(path)


def refuse_lost(path: Path) -> None:
    """Refuse to go on in a staged folder that another process is known to have taken over."""
    if (staging := staging_of(path)) is not None:
        staging.refuse_lost(path)


def leave(path: Path) -> None:
    """Leave a staged folder to whoever comes next, with what readers look at."""
    keep_readable(path)
    disown(path)


def _stamp(path: Path) -> Stamp:
    told = path.stat()
    return told.st_size, told.st_mtime_ns


def _is_heavy(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last in HEAVY or last.startswith(TRACES)


def _below(name: str, under: str) -> bool:
    return not under or name.startswith(f"{under}/")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _is_apart(name: str, under: str) -> bool:
    """Return whether a file is kept by its own rule: a round's by its commit, a trial's by it."""
    inner = name.removeprefix(f"{under}/") if under else name
    return bool({"rounds", "trials"} & set(inner.split("/")[:-1])) or inner == "history.jsonl"


def _files(path: Path) -> Iterator[Path]:
    return (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
