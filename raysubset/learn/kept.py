"""Embeddings of a frozen backbone, kept from round to round by whoever computed them.

What is kept is a range of fixed rows; it is found again only by the same ids of the same data, at
the same backbone. Beyond the memory for it, it lies on a disk; beyond the disk, nothing is kept.
Shape letters: B rows of a range, H embedding width.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from raysubset.learn.parts import PartName
from raysubset.learn.spool import Spool

MEMORY_BYTES = 1 << 30
"""Of embeddings that a process keeps in memory; what is beyond goes to TMPDIR."""
SPARE_BYTES = 1 << 28  # of the disk, for what else is written there
FILE = "embeddings"
OWN = "own"
"""The source of rows out of a problem's own parts, which never change."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A range whose embeddings are known.

    Attributes:
        ids: int64 (B,).
        source: what tells the data of its rows from any other.
        labels: int64 (B,).
        embeddings: float32 (B, H); a view of a file where it lies on a disk.
    """

    ids: np.ndarray
    source: str
    labels: np.ndarray
    embeddings: np.ndarray


def content_digest(content: np.ndarray) -> str:
    """Return the BLAKE2b (hex) of rows, for those that nothing else tells from others."""
    header = f"{content.dtype} {content.shape} ".encode()
    digest = hashlib.blake2b(header)
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


class KeptEmbeddings:
    """What one process knows of one backbone."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        """Know nothing yet."""
        self._spool = Spool(memory_bytes)
        self._file: BinaryIO | None = None
        self._forget()

    def stand_at(self, backbone: str) -> None:
        """Go on with this backbone, by its digest; what is known of another is forgotten."""
        if backbone != self._backbone:
            self._forget()
            self._backbone = backbone

    def find(self, part: PartName, index: int, ids: np.ndarray, source: str) -> Kept | None:
        """Return the range if it was kept with these very ids of this very data."""
        kept = self._held.get((part, index))
        if kept is None or kept.source != source or not np.array_equal(kept.ids, ids):
            return None
        return kept

    def keep(self, part: PartName, index: int, kept: Kept) -> None:
        """Keep a range in place of the one of its number before; not where there is no room."""
        before = self._held.pop((part, index), None)
        if before is not None and not isinstance(before.embeddings, np.memmap):
            self._bytes -= before.embeddings.nbytes
        size = kept.embeddings.nbytes
        if self._bytes + size <= self._spool.memory_bytes:
            self._bytes += size
            self._held[part, index] = kept
        elif (lies := self._written(kept.embeddings)) is not None:
            self._held[part, index] = Kept(
                ids=kept.ids, source=kept.source, labels=kept.labels, embeddings=lies
            )

    def _written(self, embeddings: np.ndarray) -> np.ndarray | None:
        """Return the rows as they lie at the file's end; None where the disk is full."""
        if shutil.disk_usage(self._spool.folder).free < embeddings.nbytes + SPARE_BYTES:
            return None
        path = self._spool.folder / FILE
        if self._file is None:
            self._file = path.open("w+b")
        at = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(embeddings).data)
        self._file.flush()
        return np.memmap(path, np.float32, "r", at, embeddings.shape)

    def _forget(self) -> None:
        self._backbone, self._bytes = "", 0
        self._held: dict[tuple[PartName, int], Kept] = {}
        if self._file is not None:
            self._file.close()
            (self._spool.folder / FILE).unlink()
            self._file = None
