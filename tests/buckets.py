"""A bucket in a folder of this machine, with the faults that real ones have."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest

from raysubset.storage import owner, remote

URI = "s3://bucket/run"
ENOUGH_S = 60.0
WORDS = "AWS Error {} during PutObject operation: as told by a test"


class Dead(BaseException):
    """The process is gone: nothing it does afterwards reaches the bucket."""


class Bucket:
    """What `pyarrow.fs` gives for s3://bucket/..., over a local folder.

    Attributes:
        folder: what the bucket holds.
        changes: what was written and deleted, in order.
        meet: called with (verb, name) before each call; may raise what a store or a death would.
    """

    type_name = "local"  # so that folders are made: on disk they must be

    def __init__(self, folder: Path) -> None:
        self.folder, self.changes = folder, list[tuple[str, str]]()
        self.inner = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
        self.meet: Callable[[str, str], object] = lambda verb, name: None

    def create_dir(self, path: str, recursive: bool) -> None:
        self.inner.create_dir(path, recursive=recursive)

    def open_input_stream(self, path: str) -> Any:
        self.meet("read", path)
        return self.inner.open_input_stream(path)

    def open_output_stream(self, path: str, compression: None) -> Any:
        self._change("write", path)
        return _seen_whole(self.folder / path)

    def delete_file(self, path: str) -> None:
        self._change("delete", path)
        self.inner.delete_file(path)

    def get_file_info(self, selector: pafs.FileSelector) -> Any:
        self.meet("list", selector.base_dir)
        return self.inner.get_file_info(selector)

    def _change(self, verb: str, path: str) -> None:
        self.meet(verb, path)
        self.changes.append((verb, path))

    def die_at(self, number: int) -> None:
        """Let the process die before its change of this number, and stay dead."""
        left = number
        dead = False

        def meet(verb: str, name: str) -> None:
            nonlocal left, dead
            if verb in ("write", "delete"):
                left -= 1
                dead = dead or left < 0
            if dead:
                raise Dead(f"{verb} {name}")

        self.meet = meet

    def live(self) -> None:
        """Meet no fault any more."""
        self.meet = lambda verb, name: None


@contextmanager
def _seen_whole(path: Path) -> Generator[Any]:
    """Give a stream to an object that is seen once it is closed, as a store's is."""
    with tempfile.NamedTemporaryFile(delete=False) as stream:
        yield stream
    os.replace(stream.name, path)


@contextmanager
def owners_ended(patch: pytest.MonkeyPatch) -> Generator[None]:
    """End the heartbeats that are left: of owners that died, as far as the test goes.

    They would go on in this process, and ask the real store of that name: a look for its region
    holds a lock of Arrow's that whoever makes a filesystem waits for.
    """
    owners, keep = list[owner.Owner](), owner.Owner._keep

    def noted(each: owner.Owner) -> None:
        owners.append(each)
        keep(each)

    patch.setattr(owner.Owner, "_keep", noted)
    try:
        yield
    finally:
        for each in owners:
            each._ended.set()
        for each in owners:
            each._thread.join(ENOUGH_S)
        assert not any(each._thread.is_alive() for each in owners), "a heartbeat does not end"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Bucket]:
    """Give the bucket behind every s3://bucket/..., with staging in the test's own folder."""
    (tmp_path / "bucket").mkdir()
    made = Bucket(tmp_path / "bucket")

    def filesystem_of(uri: str, process: int) -> tuple[Any, str]:
        assert uri.startswith("s3://bucket/")
        return made, uri.removeprefix("s3://bucket/")

    monkeypatch.setattr(remote, "filesystem_of", filesystem_of)
    monkeypatch.setattr(owner, "SETTLE_S", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with owners_ended(monkeypatch):
        yield made
