"""A checkpoint behind a URI, as a path of this machine: only what is read of it is fetched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from raysubset.errors import RaySubsetError, RunFolderError
from raysubset.learn.states import SAFE_SUFFIXES, TORCH_SUFFIXES
from raysubset.storage.addresses import is_uri, refuse_bad_uri, without_credentials
from raysubset.storage.staging import fetch_files, shown, staged

FILES = (*SAFE_SUFFIXES, *TORCH_SUFFIXES)


@contextmanager
def at_hand(checkpoint: str | None) -> Generator[str | None]:
    """Give the local path of a checkpoint: of a run, a round of one, or a file of weights.

    Raises:
        RunFolderError: an address that cannot be used, or a file that is not there.
    """
    if checkpoint is None or not is_uri(checkpoint):
        yield checkpoint
        return
    refuse_bad_uri(checkpoint)
    folder, inner = _split(checkpoint)
    of_file = inner.endswith(FILES)
    with staged(folder, write=False, whole=not of_file) as staging:
        path = staging / inner
        if of_file:
            fetch_files([path])
            if not path.is_file():
                raise RunFolderError(f"{without_credentials(checkpoint)}: there is no such file.")
        try:
            yield str(path)
        except RaySubsetError as error:  # what reads it knows the path only
            error.message = error.message.replace(str(staging), shown(staging))
            raise


def _split(uri: str) -> tuple[str, str]:
    """Return the folder to look into, and what is meant in it: a file, a round, or "" for all."""
    parts = urlsplit(uri)
    names = parts.path.rstrip("/").split("/")
    if names[-1] == "checkpoint":
        names.pop()
    count = 0
    if names[-1].endswith(FILES):
        count = 1
    elif len(names) > 2 and names[-1].isdigit() and names[-2] == "rounds":
        count = 2
    outer, inner = names[: len(names) - count], names[len(names) - count :]
    return urlunsplit(parts._replace(path="/".join(outer))), "/".join(inner)
