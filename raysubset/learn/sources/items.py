"""Items of a person's dataset, one by one: what of an item is the image, the vector, the label.

Letters: N items, F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.asked import Layout
from raysubset.learn.sources.in_memory import (
    Features,
    bytes_of,
    channel_axis,
    part_of,
)
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.pixels import ImageStack, gray_or_rgb
from raysubset.learn.sources.rows import RawPart

_X = ("image", "img", "pixel_values", "x", "features", "input", "data")
_Y = ("label", "labels", "y", "target", "targets")
_FORMS = "(image or vector, label) or a dict with 'image' and 'label'"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An item taken apart: its content, and its label as a plain value or None."""

    x: Any
    label: Any

    @classmethod
    def of(cls, item: Any, where: str, *, labelled: bool) -> Pair:
        """Return what an item holds.

        Args:
            item: (x, label), (x, label, ...), (x,), x alone, or a dict of usual names.
            where: the item, in the words of an error.
            labelled: whether its label is wanted.

        Raises:
            DataError: an item of another form, or a label that is no class.
        """
        if isinstance(item, Mapping):
            x = _first(item, _X)
            if x is None:
                raise DataError(
                    f"{where} is a dict of {', '.join(map(str, item))}; wanted: {_FORMS}"
                )
            label = _first(item, _Y)
        elif _is_pair(item):
            x, label = item[0], item[1] if len(item) > 1 else None
        else:
            x, label = item, None
        return cls(x=x, label=plain_label(label, where) if labelled else None)


def _is_pair(item: Any) -> bool:
    """Return whether an item is (x, label): a list is one only where it begins with an array."""
    listed = isinstance(item, list) and bool(item) and hasattr(item[0], "shape")
    return listed or (isinstance(item, tuple) and bool(item))


def plain_label(label: Any, where: str) -> Any:
    """Return a label as int, bool, str or None.

    Raises:
        DataError: something else.
    """
    if isinstance(label, (np.ndarray, np.generic, torch.Tensor)) and np.prod(label.shape) == 1:
        label = label.item()
    if label is None or isinstance(label, (bool, int, str)):
        return label
    raise DataError(
        f"{where} has a label of type {type(label).__name__} ({str(label)[:100]}); labels are "
        "whole numbers, text or booleans, one per item"
    )


def settled_image(x: Any) -> Any:
    """Return an item's content, its pixels read where it is a lazy image: damage shows here."""
    from PIL import Image

    if isinstance(x, Image.Image):
        try:
            x.load()
        except Exception:
            x.close()  # or its file stays open
            raise
    return x


def _first(item: Mapping[Any, Any], names: tuple[str, ...]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


class Items:
    """The array that fills up while items arrive in order: images or vectors, not both."""

    def __init__(self, count: int, row_name: Callable[[int], str], layout: Layout) -> None:
        """Expect this many items.

        Args:
            count: N.
            row_name: how a person finds an item.
            layout: where the channels of arrays stand.
        """
        self._count, self._row_name = count, row_name
        self._layout: Layout = layout
        self._stack: ImageStack | None = None
        self._vectors: NDArray[Any] | None = None
        self._first = 0

    def add(self, row: int, x: Any) -> None:
        """Put one item in its place.

        Raises:
            DataError: no image and no vector, or another shape than the first one's.
        """
        where = self._row_name(row)
        value = _array_of(x, where)
        if isinstance(value, np.ndarray) and value.ndim == 1:
            self._add_vector(row, value, where)
            return
        if self._vectors is not None:
            raise DataError(
                f"{where} is an image, {self._row_name(self._first)} a vector; give all items one "
                "shape"
            )
        if self._stack is None:
            row_N = np.arange(self._count)
            self._stack, self._first = ImageStack(row_N, self._row_name), row
        if isinstance(value, np.ndarray):
            pixels, change = self._pixels(value, where, is_tensor=isinstance(x, torch.Tensor))
        else:
            pixels, change = gray_or_rgb(value, where)
        self._stack.put(row, pixels, change)

    def _add_vector(self, row: int, value: NDArray[Any], where: str) -> None:
        if self._stack is not None:
            raise DataError(
                f"{where} is a vector, {self._row_name(self._first)} an image; give all items one "
                "shape"
            )
        if self._vectors is None:
            # float64 holds what items of other types bring later
            self._vectors, self._first = np.zeros((self._count, len(value))), row
        if len(value) != self._vectors.shape[1]:
            raise DataError(
                f"{where} has {len(value)} features, {self._row_name(self._first)} "
                f"{self._vectors.shape[1]}; all items need the same"
            )
        self._vectors[row] = value

    def _pixels(
        self, value: NDArray[Any], where: str, is_tensor: bool
    ) -> tuple[NDArray[np.uint8], str]:
        """Return an array as (H, W) or (H, W, 3): a tensor has its channels first, as a rule."""
        if value.ndim == 3:
            axis = channel_axis(value.shape, self._layout, where, 0 if is_tensor else 2)
            value = value if axis == 2 else value.transpose(1, 2, 0)
            value = value[:, :, 0] if value.shape[2] == 1 else value
        return bytes_of(value, where)

    def part(
        self,
        label: LabelColumn | None,
        keys: tuple[str, ...] | None,
        bad: tuple[Skipped, ...],
        where: str,
    ) -> RawPart | Features:
        """Return what arrived, with the labels of all items."""
        told = Counter(skipped.detail for skipped in bad).most_common(3)
        said = "; ".join(f"{count:,} with {detail}" for detail, count in told)
        notes = (f"skipped {len(bad):,} items that failed: {said}",) if bad else ()
        if self._vectors is not None:
            return Features(
                rows_NF=self._vectors, label=label, where=where, keys=keys, bad=bad, notes=notes
            )
        assert self._stack is not None, "a dataset whose items all fail is refused"
        content, odd = self._stack.whole()
        return replace(part_of(content, label, keys, (*notes, *odd)), bad=bad)


def _array_of(x: Any, where: str) -> Any:
    """Return an item's content as a numpy array, or as the Pillow image that it is."""
    from PIL import Image

    if isinstance(x, Image.Image):
        return x
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, types numpy lacks
        raise DataError(f"{where} is no array ({error}); wanted: {_FORMS}") from error
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2, 3) or 0 in array.shape:
        raise DataError(
            f"{where} is {type(x).__name__} of type {array.dtype} and shape {array.shape}; wanted: "
            "a Pillow image, (H, W), (H, W, C) or (C, H, W) pixels, or a vector of features"
        )
    return array
