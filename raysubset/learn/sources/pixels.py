"""Encoded images as one uint8 array: decoded in threads, stacked in order, odd ones named.

Letters: A images asked for, K of them good.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.paged import Rows, empty_rows, repeated, taken
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.rows import Loaded, OnBadRow, shown

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# a closed list: Pillow would hand an EPS file to Ghostscript, which runs what it holds
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_GRAY = frozenset({"L", "1", "LA"})
_COLOUR = frozenset({"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "RGBa"})
# what Pillow's decoders raise on damaged bytes; none of them means a fault of ours
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, RuntimeError),
    *(struct.error, zlib.error, OverflowError, MemoryError),
)

# what a container may use, by version 2 and version 1 of control groups
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

Encoded = tuple[int, bytes | Path | None]
"""Place among the images asked for, and the encoded image or its file."""


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    place: int
    pixels: NDArray[np.uint8] | None = None
    """(height, width), or (height, width, 3)."""
    change: str = ""
    """What was done to fit it into gray or RGB; empty for nothing."""
    failure: str = ""


def decode_images(
    batches: Iterable[list[Encoded]],
    row_A: NDArray[np.int64],
    name_of: Callable[[int], str],
    on_bad: OnBadRow,
) -> Loaded:
    """Return images as one uint8 array (K, channels, height, width), gray or RGB throughout.

    Args:
        batches: the images with their places 0..A-1, in order; read while others decode.
        row_A: their row numbers in the source.
        name_of: how a person finds the image at a place.
        on_bad: whether an image that cannot be decoded stops the load or is left out.

    Raises:
        DataError: an image that cannot be decoded (unless skipped), of another size than the
            first, or deeper than 8 bits; names the images. Or images that neither memory nor the
            disk of temporary files can hold.
    """
    from PIL import Image

    stack = ImageStack(row_A, name_of)
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # above Pillow's limit of pixels an image may be a decompression bomb: bad, not a warning
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for decoded in _windowed(pool, batches):
            for image in decoded:
                stack.add(image)
    return stack.loaded(on_bad)


def _windowed(
    pool: ThreadPoolExecutor, batches: Iterable[list[Encoded]]
) -> Iterator[list[_Decoded]]:
    """Map in order with few batches under way: Executor.map would read all of them at once."""
    waiting: deque[Future[list[_Decoded]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_decode_batch, batch))
        if len(waiting) > 2 * (os.cpu_count() or 1):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode_batch(batch: list[Encoded]) -> list[_Decoded]:
    return [_decode(place, encoded) for place, encoded in batch]


def _decode(place: int, encoded: bytes | Path | None) -> _Decoded:
    from PIL import Image

    try:
        if not encoded or (isinstance(encoded, Path) and not encoded.stat().st_size):
            return _Decoded(place=place, failure="it is empty (0 bytes)")
        source = BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        with Image.open(source, formats=_FORMATS) as image:
            image.load()
            return _converted(place, image)
    except Image.UnidentifiedImageError:
        return _Decoded(place=place, failure=f"it is no image ({', '.join(_FORMATS)} are read)")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, *_DAMAGE) as error:
        return _Decoded(place=place, failure=f"{type(error).__name__}: {error}")


def _converted(place: int, image: Image) -> _Decoded:
    if image.mode not in _GRAY and image.mode not in _COLOUR:
        return _Decoded(place=place, failure=_too_deep(image))
    pixels, change = _gray_or_rgb(image)
    return _Decoded(place=place, pixels=pixels, change=change)


def gray_or_rgb(image: Image, where: str) -> tuple[NDArray[np.uint8], str]:
    """Return an image's pixels, (height, width) or (height, width, 3), and what that changed.

    Raises:
        DataError: it is deeper than 8 bits.
    """
    if image.mode not in _GRAY and image.mode not in _COLOUR:
        raise DataError(f"{where}: {_too_deep(image)}")
    return _gray_or_rgb(image)


def _too_deep(image: Image) -> str:
    return f"mode {image.mode} is not 8 bits deep; convert it to 8"


def _gray_or_rgb(image: Image) -> tuple[NDArray[np.uint8], str]:
    mode = image.mode
    target = "L" if mode in _GRAY else "RGB"
    change = "" if mode == target else f"converted from {mode} to {target}"
    if getattr(image, "n_frames", 1) > 1:  # only formats that can be animated have it
        change = f"{change} and " * bool(change) + "reduced to the first of several frames"
    if mode in ("P", "PA"):  # a palette with transparency goes through RGBA, or Pillow warns
        image = image.convert("RGBA")
    return np.asarray(image if image.mode == target else image.convert(target)), change


class ImageStack:
    """The array that fills up while images arrive in order, and what was odd about them."""

    def __init__(self, row_A: NDArray[np.int64], name_of: Callable[[int], str]) -> None:
        self._count = len(row_A)
        self._row_A = row_A
        self._name_of = name_of
        self._content: Rows | None = None
        self._first = 0
        self._kept_A = np.zeros(len(row_A), dtype=np.bool_)
        self._bad: list[Skipped] = []
        self._changes: Counter[str] = Counter()
        self._gray = 0

    def add(self, image: _Decoded) -> None:
        """Put one image in its place."""
        if image.pixels is None:
            row, where = int(self._row_A[image.place]), self._name_of(image.place)
            bad = Skipped(row=row, where=where, cause="unreadable image", detail=image.failure)
            self._bad.append(bad)
            return
        self.put(image.place, image.pixels, image.change)

    def put(self, place: int, pixels: NDArray[np.uint8], change: str) -> None:
        """Put pixels in their place: (height, width) or (height, width, 3).

        Raises:
            DataError: another size than the first ones, or beyond this machine's memory.
        """
        content = self._room_for(place, pixels)
        colour = pixels.ndim == 3
        content[place] = pixels.transpose(2, 0, 1) if colour else pixels
        self._kept_A[place] = True
        self._gray += not colour
        self._changes.update([change] if change else [])

    def _room_for(self, place: int, pixels: NDArray[np.uint8]) -> Rows:
        channels = 3 if pixels.ndim == 3 else 1
        if self._content is None:
            shape = (self._count, channels, *pixels.shape[:2])
            self._content = self._empty(place, shape)
            self._first = place
        if self._content.shape[2:] != pixels.shape[:2]:
            raise DataError(
                f"{self._name_of(place)} is {_size(pixels.shape)} pixels, but "
                f"{self._name_of(self._first)} is {_size(self._content.shape[2:])}; all images "
                "need one size (width x height): resize them first"
            )
        if channels > self._content.shape[1]:  # colour after gray: repeat the gray in three
            self._content = repeated(self._content, 3)
        return self._content

    def _empty(self, place: int, shape: tuple[int, ...]) -> Rows:
        """Return room for all images; the first one tells the size of all."""
        what = (
            f"{self._name_of(place)} is {_size(shape[2:])} pixels, and {self._count:,} images of "
            "this size are beyond what may lie in memory"
        )
        return empty_rows(shape, np.uint8, what)

    def loaded(self, on_bad: OnBadRow) -> Loaded:
        """Return what arrived."""
        if self._bad and (on_bad == "refuse" or self._content is None):
            raise DataError(
                f"{len(self._bad):,} of {self._count:,} images cannot be used: "
                f"{shown(self._named_bad(), 3)}; repair or remove them, or leave them out with "
                "--data.on_bad_row skip"
            )
        assert self._content is not None, "an empty file is refused before it is decoded"
        kept = np.flatnonzero(self._kept_A)
        content = self._content if self._kept_A.all() else taken(self._content, kept)
        notes, skipped = tuple(self._notes()), tuple(self._bad)
        return Loaded(content=content, kept_A=self._kept_A, notes=notes, skipped=skipped)

    def whole(self) -> tuple[NDArray[np.generic], tuple[str, ...]]:
        """Return all rows, arrived or not, and what was odd about them."""
        assert self._content is not None, "something arrived"
        return self._content, tuple(self._notes())

    def _named_bad(self) -> list[str]:
        return [f"{bad.where}: {bad.detail}" for bad in self._bad]

    def _notes(self) -> Iterator[str]:
        assert self._content is not None
        if self._bad:
            yield f"skipped {len(self._bad):,} bad images: {shown(self._named_bad())}"
        if self._gray and self._content.shape[1] == 3:
            yield f"{self._gray:,} gray images among colour ones were repeated in 3 channels"
        for change, count in sorted(self._changes.items()):
            yield f"{count:,} images were {change}"


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or its container's."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            there = min(there, int(Path(path).read_text()))
    return there


def _size(height_width: tuple[int, ...]) -> str:
    return f"{height_width[1]}x{height_width[0]}"
