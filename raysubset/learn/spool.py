"""A temporary folder for what is larger than the memory that it may take.

It lies where TMPDIR says, and ends with the value that holds it (after a kill: see `scratch`).
Letters: N rows of the file, P pool rows, V validation rows, H embedding width.
"""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.mapped import Stored
from raysubset.learn.parts import Parts
from raysubset.learn.sources.embeddings import RawEmbeddings
from raysubset.learn.sources.streams import Stream
from raysubset.scratch import Scratch

POOL = "pool"


class Spool:
    """A folder of this process, made when it is first needed and deleted with this value.

    Attributes:
        memory_bytes: what may be held in memory instead.
    """

    def __init__(self, memory_bytes: int) -> None:
        """Make nothing yet."""
        self.memory_bytes = memory_bytes

    @cached_property
    def folder(self) -> Path:
        """The folder."""
        scratch = Scratch()
        weakref.finalize(self, scratch.close)
        return scratch.path

    @property
    def made(self) -> bool:
        """Whether there is a folder: nothing was beyond the memory before it."""
        return "folder" in vars(self)

    def require(self, needed: int, what: str) -> None:
        """Refuse what does not fit the disk.

        Raises:
            DataError: with both numbers.
        """
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DataError(
                f"{what} need {needed / 1e9:,.1f} GB in {self.folder.parent}, which has "
                f"{free / 1e9:,.1f} GB left; name a folder on a larger disk with TMPDIR."
            )


def filled(parts: Parts, raw: RawEmbeddings, spool: Spool, *, validation_too: bool) -> Parts:
    """Return the parts with the rows that their stand-in stands for.

    The pool's rows go to a file, in the order of their ids, and are seen from there; those of
    validation, where they are of the same file, into memory.

    Args:
        parts: split by ids and labels.
        raw: its matrix is a stream.
        spool: where the file lies.
        validation_too: whether the validation rows are of the same file.
    """
    stream = raw.matrix
    assert isinstance(stream, Stream), "what is in memory needs no file"
    width, size = stream.shape[1], parts.pool.num_examples
    spool.require(4 * width * size, f"the pool's {size:,} rows of {raw.where}")
    pool_N, validation = _places(parts.pool.id_N, raw), parts.validation
    place_N = _places(validation.id_N, raw) if validation_too else np.full(len(stream), -1)
    held = validation.num_examples if validation_too else 0
    content = np.empty((held, width), dtype=np.float32)
    stored = pool_rows(spool, size, width)
    file = np.memmap(stored.path, np.float32, "w+", 0, stored.shape)
    for rows, tile in stream.tiles():
        for place, target in ((pool_N[rows], file), (place_N[rows], content)):
            target[place[place >= 0]] = tile[place >= 0]
    file.flush()
    if validation_too:
        validation = replace(validation, content=content)
    none = np.empty((0, width), dtype=np.float32)  # what is held out to report: nothing
    return replace(
        parts,
        pool=replace(parts.pool, content=stored.array()),
        validation=validation,
        test=replace(parts.test, content=none),
    )


def pool_rows(spool: Spool, rows: int, width: int) -> Stored:
    """Return where the pool's rows lie."""
    return Stored(path=str(spool.folder / POOL), dtype="float32", shape=(rows, width))


def is_spooled(spool: Spool) -> bool:
    """Return whether the pool's rows lie there."""
    return spool.made and (spool.folder / POOL).exists()


def _places(id_P: NDArray[np.int64], raw: RawEmbeddings) -> NDArray[np.int64]:
    """Return each file row's place among ascending ids; -1 where it is not of them."""
    id_N = np.arange(len(raw.matrix)) if raw.id_N is None else raw.id_N
    place_N = np.minimum(np.searchsorted(id_P, id_N), max(0, len(id_P) - 1))
    return np.where(id_P[place_N] == id_N, place_N, -1) if len(id_P) else np.full(len(id_N), -1)
