"""Images or features in numpy files: one .npz, one .npy, or a folder of .npy.

An array's name says its part and what it is: x_train, train_images, y_test, labels, X.
Letters: N rows, F features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raysubset.errors import DataError
from raysubset.learn.sources.arrays import column_of, read_arrays
from raysubset.learn.sources.asked import Layout
from raysubset.learn.sources.files import visible
from raysubset.learn.sources.in_memory import Features, images_of, part_of, parts_of_one_kind
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.rows import PARTS_BY_NAME, FileRows, OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import LabelRule

NUMPY_SUFFIXES = (".npz", ".npy")
_X = ("x", "images", "image", "data", "features", "inputs")
_Y = ("y", "labels", "label", "targets", "target")
_KEYS = ("keys", "filenames", "paths", "names")
_WANTED = (
    "wanted: images or features as x_train, train_images or x, and labels as y_train, "
    "train_labels or y (val and test likewise)"
)
_MOST_BYTES = 8  # of a number: Arrow has no long double
_ONE_HOT = "; if it is one-hot, save labels.argmax(axis=1)"


@dataclass(kw_only=True)
class _Named:
    """The arrays of one part, by what they are: (name, array)."""

    x: tuple[str, Any] | None = None
    y: tuple[str, Any] | None = None
    keys: tuple[str, Any] | None = None


def holds_numpy(folder: Path) -> bool:
    """Return whether a folder holds .npy files."""
    return any(path.suffix.lower() == ".npy" and path.is_file() for path in visible(folder))


def open_numpy(
    sources: Mapping[Part, Path],
    rule: LabelRule,
    layout: Layout,
    on_bad: OnBadRow,
    given: frozenset[Path] = frozenset(),
) -> tuple[dict[Part, RawPart], tuple[str, ...]]:
    """Return the parts of numpy files, and what was left aside. Pickled objects are refused.

    Args:
        sources: train -> a file or a folder of .npy; other parts where a person gave their own.
        rule: what a person calls the labels, as in fine_label for fine_label_train, and whether
            those of the train rows stand in a file beside them.
        layout: where the channels of images stand.
        on_bad: what NaN in features does.
        given: resolved paths of other files in the folder, which are not the data's.

    Raises:
        DataError: a damaged file, an array without labels, or one that is no images or features;
            names the file and the array.
    """
    named, ignored = _sorted(sources["train"], rule.column, given)
    where = dict.fromkeys(named, str(sources["train"]))
    for part, source in sources.items():
        if part != "train":
            own, _ = _sorted(source, rule.column, given)
            named[part] = own.get(part) or own.get("train") or _Named()
            where[part] = str(source)
    if "train" not in named:
        raise DataError(
            f"{sources['train']} has arrays of {shown(sorted(named))} but no train ones"
        )
    made = {part: _part(of, where[part], part, layout, rule.beside) for part, of in named.items()}
    notes = (f"ignored the arrays {shown(ignored)} of {sources['train']}",) if ignored else ()
    where, remedy = sources["train"], "save them in one shape"
    return parts_of_one_kind(made, rule.roles, on_bad, where=str(where), remedy=remedy), notes


def labels_in(path: Path, name: str | None) -> LabelColumn:
    """Return the labels in a numpy file beside the data.

    Args:
        path: .npy, whose array they are, or .npz.
        name: of the array; None for a usual one.

    Raises:
        DataError: damaged, no such array, or no label per row.
    """
    arrays = _arrays(path, frozenset())
    if path.suffix.lower() == ".npy":
        return _labels((path.stem, next(iter(arrays.values()))), str(path))
    found = next((n for n in ([name] if name else _Y) if n in arrays), None)
    if found is None:
        asked = name or " or ".join(_Y)
        raise DataError(f"{path} has no array {asked}; its arrays are {shown(list(arrays), 30)}")
    return _labels((found, arrays[found]), str(path))


def _arrays(path: Path, given: frozenset[Path]) -> dict[str, Any]:
    """Return the arrays at a path: by name, or by the stem of their file."""
    if path.is_dir():
        files = [file for file in visible(path, given) if file.suffix.lower() == ".npy"]
        if not files:
            raise DataError(f"{path} holds no .npy file; {_WANTED}")
        return {file.stem: next(iter(_arrays(file, given).values())) for file in files}
    if path.suffix.lower() not in NUMPY_SUFFIXES:
        raise DataError(f"{path} is no {' or '.join(NUMPY_SUFFIXES)} file, and no folder of .npy")
    return read_arrays(str(path), "--data").values


def _sorted(
    path: Path, label: str | None, given: frozenset[Path]
) -> tuple[dict[Part, _Named], list[str]]:
    """Return the arrays of each part, and the names of those that are none."""
    arrays = _arrays(path, given)
    if path.suffix.lower() == ".npy":
        return {"train": _Named(x=(path.stem, next(iter(arrays.values()))))}, []
    parts: dict[Part, _Named] = {}
    ignored: list[str] = []
    for name, array in arrays.items():
        part, role = _meant(name, label)
        if role is None:
            ignored.append(name)
            continue
        named = parts.setdefault(part, _Named())
        if (before := getattr(named, role)) is not None:
            raise DataError(
                f"{path}: {before[0]} and {name} both look like the {role} of the {part} part; "
                "keep one" + (", or name the labels: --data.label_column NAME" * (role == "y"))
            )
        setattr(named, role, (name, array))
    if not parts:
        raise DataError(f"{path} has the arrays {shown(list(arrays), 30) or 'none'}; {_WANTED}")
    return parts, ignored


def _meant(name: str, label: str | None) -> tuple[Part, str | None]:
    """Return the part of an array and what it is: x, y, keys, or None."""
    words = [word for word in re.split(r"[_\-. ]+", name.lower()) if word]
    part = next((PARTS_BY_NAME[word] for word in words if word in PARTS_BY_NAME), "train")
    rest = "_".join(word for word in words if word not in PARTS_BY_NAME)
    joined = re.fullmatch(r"([xy])(train|val|valid|test)", rest)  # Xtrain, ytest
    if joined:
        rest, part = joined[1], PARTS_BY_NAME[joined[2]]
    if rest in ((label.lower(),) if label else _Y) or name == label:
        return part, "y"
    if rest in _X:
        return part, "x"
    return part, "keys" if rest in _KEYS else None


def _part(
    named: _Named, where: str, part: Part, layout: Layout, beside: bool
) -> RawPart | Features:
    if named.x is None:
        raise DataError(f"{where} has no images or features of the {part} part; {_WANTED}")
    name, values = named.x
    what = f"array {name!r} of {where}"
    numbers = values.dtype.kind in "biuf" and values.dtype.itemsize <= _MOST_BYTES
    if values.ndim not in (2, 3, 4) or 0 in values.shape or not numbers:
        raise DataError(
            f"{what} has shape {values.shape} and type {values.dtype}; wanted: features (N, F), "
            "or images (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    label = None if part == "train" and beside else _label_of(named, len(values), where, part)
    keys = _keys(named, len(values), where)
    if values.ndim == 2:
        return Features(rows_NF=values, label=label, where=where, keys=keys)
    content, change = images_of(values, layout, what)
    notes = (f"{len(content):,} images were {change}",) if change else ()
    return part_of(content, label, keys, notes)


def _label_of(named: _Named, rows: int, where: str, part: Part) -> LabelColumn:
    if named.y is None:
        remedy = "; or give them beside: --data.labels FILE" if part == "train" else ""
        raise DataError(f"{where} has no labels of the {part} part; {_WANTED}{remedy}")
    label = _labels(named.y, where)
    assert named.x is not None
    if len(label.values) != rows:
        raise DataError(
            f"{where}: {named.y[0]} has {len(label.values):,} labels for the {rows:,} rows of "
            f"{named.x[0]}; it needs one per row, in their order"
        )
    return label


def _labels(named: tuple[str, Any], where: str) -> LabelColumn:
    name, values = named
    what = f"array {name!r} of {where}"
    if values.ndim == 2 and values.shape[1] == 1:  # Keras's CIFAR-10, MedMNIST
        values = values[:, 0]
    if values.ndim == 2:
        raise DataError(f"{what} has shape {values.shape}; labels are (N,) or (N, 1){_ONE_HOT}")
    if values.dtype.kind == "f" and np.array_equal(values, np.rint(values)):
        raise DataError(
            f"{what} has type {values.dtype}; labels are whole numbers or text: save "
            "labels.astype('int64')"
        )
    column = column_of(values, what)
    rows = FileRows.count([Path(where)], [len(column)])
    return LabelColumn(values=column, where=what, row_name=rows.name)


def _keys(named: _Named, rows: int, where: str) -> tuple[str, ...] | None:
    if named.keys is None:
        return None
    name, values = named.keys
    if values.shape != (rows,) or values.dtype.kind not in "iuU":
        raise DataError(
            f"{where}: {name} has shape {values.shape} and type {values.dtype}; the {rows:,} rows "
            "need one text or whole number each"
        )
    return tuple(pa.array(values).cast(pa.string()).to_pylist())
