"""Rows that lie in memory: arrays of images or of features, in whatever layout, as one part.

Letters: N rows, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.paged import taken
from raysubset.learn.settings import Layout
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.roles import Roles
from raysubset.learn.sources.rows import FileRows, Loaded, OnBadRow, Part, RawPart, picked, shown
from raysubset.learn.sources.tables import DEFAULT_LABEL, LabelRule
from raysubset.learn.sources.tabular import open_tables

_CHANNELS = (1, 3)
_STEP = 0.01
"""How far a float may lie from a whole 255th to count as one: ToTensor's float32 is 1e-5 away."""
_BLOCK = 1024  # images turned into bytes at a time
_LAYOUT = "name the order with --data.layout NHWC or --data.layout NCHW"


def part_of(
    content: NDArray[np.generic],
    label: LabelColumn | None,
    keys: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
) -> RawPart:
    """Return a part whose rows are all good and in memory. Shape: (N, ...)."""

    def load(row_A: NDArray[np.int64]) -> Loaded:
        every = len(row_A) == len(content)  # ascending, so these are the rows as they stand
        loaded = Loaded(
            content=content if every else taken(content, row_A),
            kept_A=np.ones(len(row_A), dtype=np.bool_),
        )
        return loaded.with_keys(picked(keys, row_A))

    held = None if keys is None else tuple(keys)
    return RawPart(num_rows=len(content), label=label, load=load, notes=notes, keys=lambda: held)


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Feature vectors of a part.

    Attributes:
        rows_NF: numbers.
        label: of each row; None for train rows whose labels stand beside.
        where: how errors call them.
        keys: a person's own names of the rows.
        bad: rows that are known to be bad, and have no label.
        notes: for a person.
    """

    rows_NF: NDArray[Any]
    label: LabelColumn | None
    where: str
    keys: tuple[str, ...] | None = None
    bad: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def parts_of_one_kind(
    parts: Mapping[Part, RawPart | Features],
    roles: Roles,
    on_bad: OnBadRow,
    *,
    where: str,
    remedy: str,
) -> dict[Part, RawPart]:
    """Return parts that all hold images, or all feature vectors.

    Args:
        parts: as they were read.
        roles: of the columns of features.
        on_bad: what a bad value does.
        where: the data, in the words of an error.
        remedy: what helps where both kinds are there.

    Raises:
        DataError: both kinds are there, or numbers of features that differ between parts.
    """
    images = {part: raw for part, raw in parts.items() if isinstance(raw, RawPart)}
    features = {part: raw for part, raw in parts.items() if isinstance(raw, Features)}
    if images and features:
        raise DataError(
            f"{where}: the parts {shown(sorted(images))} hold images and "
            f"{shown(sorted(features))} feature vectors; {remedy}"
        )
    return images or feature_parts(features, roles, on_bad)


def feature_parts(
    parts: Mapping[Part, Features], roles: Roles, on_bad: OnBadRow
) -> dict[Part, RawPart]:
    """Return feature vectors as the parts of a table with the columns x0, x1, ...

    Raises:
        DataError: numbers of features that differ between parts.
    """
    tables = {part: _table(features) for part, features in parts.items()}
    opened = open_tables(tables, LabelRule(column=None, beside=True, roles=roles), on_bad)
    return {part: _as_given(opened[part], features) for part, features in parts.items()}


def _table(features: Features) -> tuple[pa.Table, FileRows]:
    rows = features.rows_NF
    columns = {f"x{i}": pa.array(np.ascontiguousarray(rows[:, i])) for i in range(rows.shape[1])}
    if features.label is not None:
        columns[DEFAULT_LABEL] = features.label.values
    return pa.table(columns), FileRows.count([Path(features.where)], [len(rows)])


def _as_given(raw: RawPart, features: Features) -> RawPart:
    keys, load = features.keys, raw.load

    def with_keys(row_A: NDArray[np.int64]) -> Loaded:
        return load(row_A).with_keys(picked(keys, row_A))

    notes = (*raw.notes, *features.notes)
    return replace(
        raw, label=features.label, load=with_keys, notes=notes, keys=lambda: keys, bad=features.bad
    )


def images_of(values: NDArray[Any], layout: Layout, what: str) -> tuple[NDArray[np.uint8], str]:
    """Return an array of images as (N, channels, height, width), and what that changed.

    Args:
        values: (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3; uint8, or floats in [0, 1].
        layout: where the channels stand; auto looks at the shape.
        what: the array, in the words of an error.

    Raises:
        DataError: another shape, channels that may stand in two places, numbers that are no pixels.
    """
    if values.ndim == 3:
        values = values[:, None]
    elif channel_axis(values.shape[1:], layout, what) == 2:
        values = values.transpose(0, 3, 1, 2)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values), ""
    content, changes = np.empty(values.shape, dtype=np.uint8), set[str]()
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        content[block], change = bytes_of(values[block], what)
        changes.add(change)
    return content, max(changes, default="")


def channel_axis(shape: Sequence[int], layout: Layout, what: str, first: int | None = None) -> int:
    """Return which axis of an image's three holds its channels: 0 or 2.

    Args:
        shape: of one image.
        layout: what a person said of it.
        what: the image, in the words of an error.
        first: where to look first; None where both are as likely.

    Raises:
        DataError: neither axis has 1 or 3 entries, or both have and nothing says which it is.
    """
    if len(shape) != 3 or 0 in shape:
        raise DataError(
            f"{what} has shape {tuple(shape)}; an image is (H, W), (H, W, C) or (C, H, W)"
        )
    allowed = {"auto": (0, 2), "NHWC": (2,), "NCHW": (0,)}[layout]
    found = [axis for axis in allowed if shape[axis] in _CHANNELS]
    if not found:
        asked = "" if layout == "auto" else f" as --data.layout {layout} says"
        raise DataError(
            f"{what} has shape {tuple(shape)}; no axis{asked} has 1 or 3 entries, the channels of "
            "gray or RGB images: convert the images"
        )
    if len(found) == 2 and first is None:
        raise DataError(
            f"{what} has shape {tuple(shape)}, of which the first or the last axis may be the "
            f"channels; {_LAYOUT}"
        )
    return first if first is not None and first in found else found[0]


def bytes_of(values: NDArray[Any], what: str) -> tuple[NDArray[np.uint8], str]:
    """Return pixels as uint8, and what that changed; any shape.

    Whole numbers in 0..255 stay; floats in [0, 1] become the nearest 255th, as before ToTensor.

    Raises:
        DataError: numbers that are neither; says the range.
    """
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8), ""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what} has type {values.dtype}; pixels are uint8 or floats in [0, 1]")
    least, most = values.min(), values.max()
    is_float = values.dtype.kind == "f"
    if not (least >= -1e-6 and most <= (1 + 1e-6 if is_float else 255)):  # false for NaN too
        raise DataError(
            f"{what} has {values.dtype} values from {least:g} to {most:g}; pixels are uint8, or "
            "floats in [0, 1]. Leave normalisation out: a run normalises by its pool's own mean "
            "and deviation"
        )
    if not is_float:
        return values.astype(np.uint8), ""
    scaled = values.astype(np.float32) * 255
    whole = np.clip(np.rint(scaled), 0, 255)
    rounded = bool(np.abs(scaled - whole).max() > _STEP)
    return whole.astype(np.uint8), "rounded from floats in [0, 1] to 8 bits" if rounded else ""
