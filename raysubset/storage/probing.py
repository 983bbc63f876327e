"""The probe: whether this process may write, read and delete in a run folder, asked beforehand."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from raysubset.errors import RunFolderError
from raysubset.files import nearest_folder
from raysubset.storage.remote import Remote, is_uri

PROBE_S = 20.0
"""How long a store may take to answer before anything has begun."""


def probe(place: str | Path) -> float:
    """Write, read back and delete a small object of a run folder; return the seconds it took.

    It needs no Ray and makes no folder: for a path, the nearest of its parents that is there is
    asked. Cheap enough for every node.

    Args:
        place: a path, or s3://, gs://, abfs:// or file:// with no credentials in it.

    Raises:
        RunFolderError: it cannot; the sentence names the place, the cause and the remedy.
    """
    start = time.monotonic()
    name, content = f".probe-{secrets.token_hex(8)}", secrets.token_bytes(16)
    if is_uri(place):
        back = _through_store(Remote(str(place)), name, content)
    else:
        back = _through_disk(Path(place).absolute(), name, content)
    if back != content:
        raise RunFolderError(
            f"{place} gives back other bytes than were written; choose another --run-dir."
        )
    return time.monotonic() - start


def _through_store(remote: Remote, name: str, content: bytes) -> bytes | None:
    remote.write(name, content, PROBE_S)
    back = remote.read(name, PROBE_S)
    remote.delete(name, PROBE_S)
    return back


def _through_disk(place: Path, name: str, content: bytes) -> bytes:
    try:
        path = nearest_folder(place) / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
            return path.read_bytes()
        finally:
            with suppress(FileNotFoundError):
                path.unlink()
    except OSError as error:
        raise RunFolderError(
            f"{place} cannot be written ({error.strerror}); choose another --run-dir."
        ) from None
