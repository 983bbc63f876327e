"""Data that needs no path: scikit-learn's digits, and CIFAR-10 through torchvision."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.sources.in_memory import part_of
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.rows import Part, RawPart

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_ARCHIVE = "cifar-10-python.tar.gz"
_SILENCE_S = 30.0


def open_digits() -> dict[Part, RawPart]:
    """Return 1,797 real scans of handwritten digits, 8x8, all of them train rows.

    Intensities 0..16 are stored times 15, so nothing is lost. Needs no download.
    """
    from sklearn.datasets import load_digits

    scans: Any = load_digits()  # a Bunch, which has no types
    content = (scans.images[:, None] * 15).astype(np.uint8)
    names = tuple(str(digit) for digit in scans.target_names)
    return {"train": _in_memory("digits", content, scans.target.astype(np.int64), names)}


def open_cifar10() -> dict[Part, RawPart]:
    """Return the train and test parts of CIFAR-10, fetched once into the cache folder.

    Raises:
        DataError: it cannot be fetched; says which file to put where.
    """
    from torchvision.datasets import CIFAR10

    cache = cache_folder()
    parts: dict[Part, RawPart] = {}
    try:
        for part, train in (("train", True), ("test", False)):
            with _silence_limited():
                images = CIFAR10(str(cache), train=train, download=True)
            content = np.ascontiguousarray(images.data.transpose(0, 3, 1, 2))
            label_N = np.asarray(images.targets, dtype=np.int64)
            parts[part] = _in_memory(f"cifar10 {part}", content, label_N, CIFAR10_CLASSES)
    except (OSError, RuntimeError) as error:  # no network, or a file that fails its checksum
        raise DataError(
            f"CIFAR-10 cannot be fetched into {cache}: {error}; put {_ARCHIVE} from "
            f"https://www.cs.toronto.edu/~kriz/{_ARCHIVE} there, or give a folder with its "
            "train*.parquet and test*.parquet: --data FOLDER"
        ) from error
    return parts


def cache_folder() -> Path:
    """Return where fetched data is kept: $XDG_CACHE_HOME/raysubset or ~/.cache/raysubset."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raysubset"


def _in_memory(
    name: str, content: NDArray[np.uint8], label_N: NDArray[np.int64], names: tuple[str, ...]
) -> RawPart:
    label = LabelColumn(
        values=pa.array(label_N), where=name, row_name=lambda row: f"{name} row {row}", names=names
    )
    return part_of(content, label)


@contextmanager
def _silence_limited() -> Generator[None]:
    """Give up on a server that is silent; torchvision's download has no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
