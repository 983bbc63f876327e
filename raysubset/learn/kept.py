"""Embeddings of a frozen backbone, kept from round to round by whoever computed them.

What is kept is a range of fixed rows; it is found again only by the same ids of the same data, at
the same backbone. Beyond the memory for it, it lies on a disk; beyond the disk, nothing is kept.
Shape letters: B rows of a range, H embedding width.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace

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


def content_digest(*arrays: np.ndarray) -> str:
    """Return the BLAKE2b (hex) of rows, for those that nothing else tells from others."""
    digest = hashlib.blake2b()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class KeptEmbeddings:
    """What one process knows of one backbone."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        """Know nothing yet."""
        self._spool = Spool(memory_bytes)
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
        elif (part, index) not in self._written and self._has_room(size):
            # Once: where other ids come in every round, a file would only grow.
            self._written.add((part, index))
            self._held[part, index] = replace(kept, embeddings=self._on_disk(kept.embeddings))

    def _has_room(self, size: int) -> bool:
        return shutil.disk_usage(self._spool.folder).free >= size + SPARE_BYTES

    def _on_disk(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the rows as they lie at the end of the file."""
        path = self._spool.folder / FILE
        with path.open("ab") as file:
            at = file.tell()
            file.write(np.ascontiguousarray(embeddings).data)
        return np.memmap(path, np.float32, "r", at, embeddings.shape)

    def _forget(self) -> None:
        self._backbone, self._bytes = "", 0
        self._held: dict[tuple[PartName, int], Kept] = {}
        self._written = set[tuple[PartName, int]]()
        if self._spool.made:
            (self._spool.folder / FILE).unlink(missing_ok=True)
