"""A checkpoint or embeddings behind URIs, as paths of this machine: what is read is fetched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from raysubset.errors import RaySubsetError, RunFolderError
from raysubset.learn.embedded import FIT, EmbeddingFiles
from raysubset.learn.states import SAFE_SUFFIXES, TORCH_SUFFIXES
from raysubset.storage.addresses import is_uri, refuse_bad_uri, without_credentials
from raysubset.storage.data import Names, held
from raysubset.storage.staging import fetch_files, shown, staged

_FITTED = ("head", FIT)
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


@contextmanager
def files_at_hand(files: EmbeddingFiles) -> Generator[tuple[EmbeddingFiles, Names]]:
    """Give embedding files with local paths in place of URIs, and the names to tell of them.

    Raises:
        DataError: an address or a store that cannot be used.
    """
    texts = {option: text for option, text in files.named.items() if (option, text) != _FITTED}
    with held({f"--{option}": text for option, text in texts.items()}) as (paths, names):
        own = {option.replace("-", "_"): paths[f"--{option}"] for option in texts}
        yield replace(files, **own), names


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
