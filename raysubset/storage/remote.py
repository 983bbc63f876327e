"""A folder behind a URI: whole objects are read and written, with bounded retries."""

from __future__ import annotations

import functools
import os
import random
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from raysubset.errors import RaySubsetError
from raysubset.storage.addresses import child_of, is_uri, refuse_bad_uri, without_credentials
from raysubset.storage.faults import RUN_FOLDER, Purpose, cause_of, is_missing, is_transient

RETRY_S = 60.0
"""How long a store may be in trouble before a run gives up; a retry costs no finished round."""
CONNECT_S, REQUEST_S = 3.0, 5.0
"""How long one request waits for a connection, and for the next byte."""
AT_ONCE = 8
"""Downloads side by side: a request is mostly waiting."""
MAP_FROM = 64 << 20
"""Checkpoints of this many bytes and more are not copied to be uploaded."""
T = TypeVar("T")
Again = Callable[[], object]
"""Called before a call is tried again: a writer may have been taken over meanwhile."""
Stamp = tuple[int, int]
"""(bytes, modification time in ns as the store says it): what a changed object differs in."""

__all__ = ["Again", "Remote", "Stamp", "holds", "is_uri"]


@dataclass(frozen=True)
class Remote:
    """A folder of an object store.

    The filesystem is made in each process when it is first needed and never pickled: a pickled
    `S3FileSystem` loses its retry strategy (arrow#47348).

    Attributes:
        uri: s3://bucket/x, gs://, abfs:// or file:///; never with credentials.
        purpose: a run folder, or data.
    """

    uri: str
    purpose: Purpose = RUN_FOLDER

    def __post_init__(self) -> None:
        """Refuse a URI that cannot be what it is for, before anything touches the network."""
        refuse_bad_uri(self.uri, self.purpose)

    @classmethod
    def at(cls, place: str) -> Remote:
        """Return the folder that a person named; a slash at the end of its name says nothing."""
        return cls(place if "?" in place else place.rstrip("/"))

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Remote:
        """Return a folder below this one; options behind a question mark stay behind."""
        return Remote(child_of(self.uri, name), self.purpose)

    def read(self, name: str, within_s: float | None = None) -> bytes | None:
        """Return an object's bytes; None where it is not there."""

        def do(filesystem: Any, root: str) -> bytes | None:
            try:
                with filesystem.open_input_stream(f"{root}/{name}") as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

        return self._attempt("read", name, do, within_s)

    def write(
        self, name: str, content: Any, within_s: float | None = None, again: Again | None = None
    ) -> None:
        """Write an object whole: from bytes, or any buffer; `again` may refuse another try."""

        def do(filesystem: Any, root: str) -> None:
            path = f"{root}/{name}"
            if filesystem.type_name == "local":  # object stores have no folders to make
                filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            with _seen_whole(filesystem, path) as target:
                # One write: a stream that is closed after half of it leaves a short object (arrow
                # #40502). Whatever is left so is not in a manifest, and is written again.
                with filesystem.open_output_stream(target, compression=None) as stream:
                    stream.write(content)

        self._attempt("written", name, do, within_s, again)

    def upload(
        self, path: Path, name: str, within_s: float | None = None, again: Again | None = None
    ) -> None:
        """Write a local file's content to an object; `again` may refuse another try."""
        import pyarrow as pa

        if path.stat().st_size < MAP_FROM:  # a mapped file that others cut short ends the process
            self.write(name, path.read_bytes(), within_s, again)
            return
        with pa.memory_map(str(path)) as mapped:
            self.write(name, mapped.read_buffer(), within_s, again)

    def download(self, name: str, path: Path) -> bool:
        """Write an object's content to a local file; return whether it was there."""
        content = self.read(name)
        if content is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return True

    def download_all(self, names: list[str], folder: Path) -> None:
        """Write objects below a local folder, side by side; what vanished meanwhile is left out."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda name: self.download(name, folder / name), names):
                pass

    def read_range(
        self, name: str, start: int, count: int, again: Again | None = None
    ) -> tuple[bytes, str]:
        """Return bytes of an object, and the ETag of its content ("" where the store has none).

        Raises:
            FileNotFoundError: it is not there.
        """

        def do(filesystem: Any, root: str) -> tuple[bytes, str] | None:
            try:
                with filesystem.open_input_file(f"{root}/{name}" if name else root) as stream:
                    told: dict[str | bytes, Any] = stream.metadata() or {}
                    etag = told.get("ETag", told.get(b"ETag", ""))
                    return stream.read_at(count, start), str(etag)
            except OSError as error:
                if not is_missing(error):
                    raise
                return None

        read = self._attempt("read", name, do, None, again)
        if read is None:
            raise FileNotFoundError(name)
        return read

    def stamp(self, within_s: float | None = None) -> Stamp | None:
        """Return the stamp of the object at this very address; None for a folder, or nothing."""
        import pyarrow.fs as pafs

        def do(filesystem: Any, root: str) -> Stamp | None:
            info = filesystem.get_file_info(root)
            return _stamp(info) if info.type == pafs.FileType.File else None

        return self._attempt("read", "", do, within_s)

    def list(self, under: str = "", *, recursive: bool = True) -> dict[str, Stamp]:
        """Return name -> stamp of every object below the folder, or below a folder of it."""
        import pyarrow.fs as pafs

        def do(filesystem: Any, root: str) -> dict[str, Stamp]:
            base = f"{root}/{under}".rstrip("/")
            selector = pafs.FileSelector(base, recursive=recursive, allow_not_found=True)
            return {
                info.path.removeprefix(f"{root}/"): _stamp(info)
                for info in filesystem.get_file_info(selector)
                if info.type == pafs.FileType.File
            }

        return self._attempt("listed", under, do)

    def delete(self, name: str, within_s: float | None = None, again: Again | None = None) -> None:
        """Delete an object; one that is gone already is no error. `again` may refuse a retry."""

        def do(filesystem: Any, root: str) -> None:
            try:
                filesystem.delete_file(f"{root}/{name}")
            except FileNotFoundError:
                return

        self._attempt("deleted", name, do, within_s, again)

    def _attempt(
        self,
        what: str,
        name: str,
        do: Callable[[Any, str], T],
        within_s: float | None = None,
        again: Again | None = None,
    ) -> T:
        """Return what `do` gives with the filesystem and root, tried again while it may help.

        Raises:
            RunFolderError, DataError: by the purpose; a cause that waiting does not mend, or one
                that outlasted the deadline.
        """
        deadline = time.monotonic() + (RETRY_S if within_s is None else within_s)
        tried = 0
        while True:
            try:
                return do(*filesystem_of(self.uri, os.getpid()))
            except RaySubsetError:  # a signal's: whoever owns it may raise in the middle of a call
                raise
            except Exception as error:  # Arrow and its SDKs raise whatever is at hand
                wait_s = min(5.0, 0.2 * 2 ** min(tried, 5)) * random.uniform(0.5, 1.5)
                if not is_transient(error) or time.monotonic() + wait_s > deadline:
                    where = child_of(self.uri, name) if name else self.uri
                    raise self.purpose.error(
                        f"{without_credentials(where)} cannot be {what} ({cause_of(error)}); "
                        f"{self.purpose.remedy(self.uri, error)}"
                    ) from error
            time.sleep(wait_s)
            if again is not None:
                again()
            tried += 1


def _stamp(info: Any) -> Stamp:
    return int(info.size or 0), int(info.mtime_ns or 0)


@contextmanager
def _seen_whole(filesystem: Any, path: str) -> Generator[str]:
    """Give where to write an object that is seen once it is whole: a disk shows it before."""
    import pyarrow.fs as pafs

    if not isinstance(filesystem, pafs.LocalFileSystem):
        yield path
        return
    folder, _, name = path.rpartition("/")
    hidden = f"{folder}/.{name}.{secrets.token_hex(4)}"
    try:
        yield hidden
        filesystem.move(hidden, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(hidden)
        raise


def holds(place: str | Path, name: str) -> bool:
    """Return whether a run folder, by path or URI, holds a file.

    Raises:
        RunFolderError: a store that cannot be asked.
    """
    if is_uri(place):
        return name in Remote(str(place)).list(recursive=False)
    return (Path(place) / name).is_file()


@functools.lru_cache(maxsize=512)
def filesystem_of(uri: str, process: int) -> tuple[Any, str]:
    """Return (filesystem, path in it) of a URI, once a process: a fork makes its own."""
    import pyarrow.fs as pafs

    parts = urlsplit(uri)
    given = dict(parse_qsl(parts.query))
    if parts.scheme in ("gs", "gcs") and "retry_limit_seconds" not in given:
        limited = urlencode({**given, "retry_limit_seconds": f"{REQUEST_S:g}"})
        uri = urlunsplit(parts._replace(query=limited))
    filesystem, path = pafs.FileSystem.from_uri(uri)
    if parts.scheme == "s3":
        filesystem = _bounded(filesystem, given)
    return filesystem, path.rstrip("/")


def _bounded(filesystem: Any, given: Mapping[str, str]) -> Any:
    """Return an S3 filesystem whose calls come back, so that `_attempt` can count its deadline.

    Made from a URI, one tries again by itself for 96 s where a server is silent, and needs three
    requests for what one writes here.
    """
    from pyarrow.fs import AwsStandardS3RetryStrategy

    # All that it was made with but its retries; credentials that it found are found again.
    options = dict(filesystem.__reduce__()[1][0])
    if given.keys() - options.keys():
        return filesystem  # asked for what cannot be passed on
    wanted = {
        "connect_timeout": CONNECT_S,
        "request_timeout": REQUEST_S,
        "allow_delayed_open": True,
    }
    options |= {name: value for name, value in wanted.items() if name in options}  # by version
    once = AwsStandardS3RetryStrategy(max_attempts=1)
    return type(filesystem)(**options, retry_strategy=once)
