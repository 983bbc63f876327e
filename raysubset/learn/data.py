"""A dataset is rows addressed by id: whole arrays, in memory or seen in a file (`paged`).

Letters: N rows, C classes, F features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raysubset.errors import DataError
from raysubset.learn.columns import Column
from raysubset.learn.paged import taken
from raysubset.learn.skipped import Skipped

_NAMED_AT_MOST = 10


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """Rows of one part, each known by its id: the number that it has in its source, for ever.

    Only numpy arrays and tuples inside, so that Ray shares it without a copy; the arrays may be
    read-only views. Ids ascend; rows left out (by a limit, or skipped as bad) leave gaps.

    Raises:
        DataError: the arrays do not fit together.
    """

    name: str
    kind: Literal["image", "tabular"]
    content: NDArray[np.generic]
    """Images: uint8 (N, channels, height, width), 0..255. Tabular: float32 (N, F)."""
    label_N: NDArray[np.int64]
    """Class of each row, 0..C-1."""
    class_names: tuple[str, ...]
    id_N: NDArray[np.int64]
    """Row number of each held row in its source, ascending."""
    keys: tuple[str, ...] | None = None
    """The user's own name of each held row, such as the path of an image."""
    feature_names: tuple[str, ...] | None = None
    """Names of the F features; None for images."""
    columns: tuple[Column, ...] | None = None
    """How a table's columns became the F features; None for images and embeddings."""
    notes: tuple[str, ...] = ()
    """What a person should be told: rows skipped, files ignored, images converted."""
    skipped: tuple[Skipped, ...] = ()
    """Rows of the source that are not held because they are bad; no part of the fingerprint."""

    def __post_init__(self) -> None:
        self._check_content()
        self._check_rows()

    def _check_content(self) -> None:
        wanted_dtype, wanted_ndim = (np.uint8, 4) if self.kind == "image" else (np.float32, 2)
        if self.content.dtype != wanted_dtype or self.content.ndim != wanted_ndim:
            raise DataError(
                f"{self.name}: {self.kind} content must be {np.dtype(wanted_dtype)} with "
                f"{wanted_ndim} axes, not {self.content.dtype} of shape {self.content.shape}"
            )
        if self.feature_names is not None and len(self.feature_names) != self.content.shape[1]:
            raise DataError(
                f"{self.name}: {len(self.feature_names)} feature names for "
                f"{self.content.shape[1]} features; give one name per feature"
            )

    def _check_rows(self) -> None:
        held = len(self.content)
        sizes = {"label_N": len(self.label_N), "id_N": len(self.id_N)}
        if self.keys is not None:
            sizes["keys"] = len(self.keys)
        for field, size in sizes.items():
            if size != held:
                raise DataError(f"{self.name}: {field} has {size} entries for {held} rows")
        if self.label_N.dtype != np.int64 or self.id_N.dtype != np.int64:
            raise DataError(f"{self.name}: label_N and id_N must be int64")
        if held and not 0 <= self.label_N.min() <= self.label_N.max() < self.num_classes:
            raise DataError(f"{self.name}: labels must lie in 0..{self.num_classes - 1}")
        if np.any(np.diff(self.id_N) <= 0):
            raise DataError(f"{self.name}: ids must ascend and be unique; sort the rows by id")

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {self.num_examples:,} {self.kind} rows of shape "
            f"{self.content.shape[1:]}, {self.num_classes} classes)"
        )

    @property
    def num_examples(self) -> int:
        """Number of held rows, N."""
        return len(self.id_N)

    @property
    def num_classes(self) -> int:
        """Number of classes, C; every part of a source has the same."""
        return len(self.class_names)

    @property
    def class_count_C(self) -> NDArray[np.int64]:
        """Held rows of each class. Shape: int64 (C,)."""
        return np.bincount(self.label_N, minlength=self.num_classes).astype(np.int64)

    def position_of(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Return where the rows with these ids are held. Shape: (K,) -> int64 (K,).

        Raises:
            DataError: an id that is not an integer, or that no held row has.
        """
        id_K = np.asarray(ids)
        if id_K.size and id_K.dtype.kind not in "iu":
            raise DataError(f"{self.name}: ids are integers, not {id_K.dtype}")
        id_K = id_K.astype(np.int64).reshape(-1)
        position_K = np.searchsorted(self.id_N, id_K)
        known_K = position_K < self.num_examples
        known_K[known_K] = self.id_N[position_K[known_K]] == id_K[known_K]
        if not known_K.all():
            unknown = id_K[~known_K]
            named = ", ".join(str(i) for i in unknown[:_NAMED_AT_MOST])
            raise DataError(
                f"{self.name}: {len(unknown)} of {len(id_K)} ids are not held here (first: "
                f"{named}); give ids, which are row numbers of the source, not positions"
            )
        return position_K

    def take(self, ids: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Return copies of the content and the labels of these ids, in their order.

        Shape: (K,) -> (K, ...), int64 (K,).

        Raises:
            DataError: an id that no held row has.
        """
        position_K = self.position_of(ids)
        return self.content[position_K], self.label_N[position_K]

    def at(
        self,
        positions: NDArray[np.int64],
        notes: Sequence[str] = (),
        skipped: tuple[Skipped, ...] = (),
    ) -> Dataset:
        """Return a copy of the rows at these ascending positions, with these notes instead."""
        keys = None if self.keys is None else tuple(self.keys[i] for i in positions)
        return replace(
            self,
            content=taken(self.content, positions),
            label_N=self.label_N[positions],
            id_N=self.id_N[positions],
            keys=keys,
            notes=tuple(notes),
            skipped=skipped,
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of content, labels, ids and class names; equal on every machine."""
        header = [self.kind, list(self.content.shape), list(self.class_names)]
        digest = hashlib.sha256(json.dumps(header).encode())
        for array in (self.content, self.label_N, self.id_N):
            digest.update(_little_endian(array).data)
        return digest.hexdigest()

    @cached_property
    def content_digest_N(self) -> NDArray[np.uint64]:
        """Hash of each row's content without its label: equal rows have equal digests.

        Shape: uint64 (N,). Eight bytes of BLAKE2b: a false match among 1e6 rows has odds 3e-8.
        """
        rows = _little_endian(self.content).reshape(self.num_examples, prod(self.content.shape[1:]))
        digests = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _little_endian(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array in the one byte layout that is hashed; no copy where it is in it."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
