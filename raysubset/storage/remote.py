"""A folder behind a URI: whole objects are read and written, with bounded retries."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from raysubset.errors import RaySubsetError, RunFolderError
from raysubset.storage.addresses import child_of, is_uri, refuse_bad_uri, without_credentials
from raysubset.storage.faults import cause_of, is_transient, remedy_for

RETRY_S = 60.0
"""How long a store may be in trouble before a run gives up; a retry costs no finished round."""
AT_ONCE = 8
"""Downloads side by side: a request is mostly waiting."""
MAP_FROM = 64 << 20
"""Checkpoints of this many bytes and more are not copied to be uploaded."""
T = TypeVar("T")
Stamp = tuple[int, int]
"""(bytes, modification time in ns as the store says it): what a changed object differs in."""

__all__ = ["Remote", "Stamp", "holds", "is_uri"]


@dataclass(frozen=True)
class Remote:
    """A folder of an object store.

    The filesystem is made in each process when it is first needed and never pickled: a pickled
    `S3FileSystem` loses its retry strategy (arrow#47348).

    Attributes:
        uri: s3://bucket/x, gs://, abfs:// or file:///; never with credentials.
    """

    uri: str

    def __post_init__(self) -> None:
        """Refuse a URI that cannot be a run folder, before anything touches the network."""
        refuse_bad_uri(self.uri)

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Remote:
        """Return a folder below this one; options behind a question mark stay behind."""
        return Remote(child_of(self.uri, name))

    def read(self, name: str, within_s: float | None = None) -> bytes | None:
        """Return an object's bytes; None where it is not there."""

        def do(filesystem: Any, root: str) -> bytes | None:
            try:
                with filesystem.open_input_stream(f"{root}/{name}") as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

        return self._attempt("read", name, do, within_s)

    def write(self, name: str, content: Any, within_s: float | None = None) -> None:
        """Write an object whole: from bytes, or any buffer."""

        def do(filesystem: Any, root: str) -> None:
            path = f"{root}/{name}"
            if filesystem.type_name == "local":  # object stores have no folders to make
                filesystem.create_dir(path.rpartition("/")[0], recursive=True)
            # One write: a stream that is closed after half of it leaves a short object (arrow
            # #40502). Whatever is left so is not in a manifest, and is written again.
            with filesystem.open_output_stream(path, compression=None) as stream:
                stream.write(content)

        self._attempt("written", name, do, within_s)

    def upload(self, path: Path, name: str, within_s: float | None = None) -> None:
        """Write a local file's content to an object."""
        import pyarrow as pa

        if path.stat().st_size < MAP_FROM:  # a mapped file that others cut short ends the process
            self.write(name, path.read_bytes(), within_s)
            return
        with pa.memory_map(str(path)) as mapped:
            self.write(name, mapped.read_buffer(), within_s)

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

    def list(self, under: str = "", *, recursive: bool = True) -> dict[str, Stamp]:
        """Return name -> stamp of every object below the folder, or below a folder of it."""
        import pyarrow.fs as pafs

        def do(filesystem: Any, root: str) -> dict[str, Stamp]:
            base = f"{root}/{under}".rstrip("/")
            selector = pafs.FileSelector(base, recursive=recursive, allow_not_found=True)
            return {
                info.path.removeprefix(f"{root}/"): (int(info.size or 0), int(info.mtime_ns or 0))
                for info in filesystem.get_file_info(selector)
                if info.type == pafs.FileType.File
            }

        return self._attempt("listed", under, do)

    def delete(self, name: str, within_s: float | None = None) -> None:
        """Delete an object; one that is gone already is no error."""

        def do(filesystem: Any, root: str) -> None:
            try:
                filesystem.delete_file(f"{root}/{name}")
            except FileNotFoundError:
                return

        self._attempt("deleted", name, do, within_s)

    def _attempt(
        self, what: str, name: str, do: Callable[[Any, str], T], within_s: float | None = None
    ) -> T:
        """Return what `do` gives with the filesystem and root, tried again while it may help.

        Raises:
            RunFolderError: a cause that waiting does not mend, or one that outlasted the deadline.
        """
        deadline = time.monotonic() + (RETRY_S if within_s is None else within_s)
        tried = 0
        while True:
            try:
                return do(*filesystem_of(self.uri, os.getpid()))
            except RaySubsetError:  # a signal's: whoever owns it may raise in the middle of a call
                raise
            except Exception as error:  # Arrow and its SDKs raise whatever is at hand
                wait_s = min(5.0, 0.2 * 2**tried) * random.uniform(0.5, 1.5)
                if not is_transient(error) or time.monotonic() + wait_s > deadline:
                    where = child_of(self.uri, name) if name else self.uri
                    raise RunFolderError(
                        f"{without_credentials(where)} cannot be {what} ({cause_of(error)}); "
                        f"{remedy_for(error)}"
                    ) from error
            time.sleep(wait_s)
            tried += 1


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

    filesystem, path = pafs.FileSystem.from_uri(uri)
    return filesystem, path.rstrip("/")
