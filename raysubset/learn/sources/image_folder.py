"""Images in folders named after their classes: ROOT/class/x.png or ROOT/train/class/x.png."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysubset.errors import DataError
from raysubset.learn.sources.files import visible
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.pixels import IMAGE_SUFFIXES, decode_images
from raysubset.learn.sources.rows import Loaded, OnBadRow, Part, RawPart, shown

_PART_FOLDERS: dict[str, Part] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "tuning": "tuning",
    "test": "test",
}
_BATCH = 64  # images decoded by one task


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folder that holds the class folders of each part, and what was left aside."""

    roots: dict[Part, Path]
    notes: tuple[str, ...] = ()


def folder_parts(root: Path) -> Folders:
    """Return which folders hold the parts: ROOT/train, ROOT/test ..., or ROOT itself for train.

    Raises:
        DataError: no folder; parts but no train; two folders for one part.
    """
    if not root.is_dir():
        raise DataError(f"{root} is a file; an image folder is ROOT/class/image.png")
    folders = [entry for entry in visible(root) if entry.is_dir()]
    named = [(_PART_FOLDERS.get(folder.name.lower()), folder) for folder in folders]
    parts = {part: folder for part, folder in named if part is not None}
    if not parts:
        return Folders(roots={"train": root})
    others = [folder.name for part, folder in named if part is None]
    if "train" not in parts and others:  # a class may well be called test
        return Folders(roots={"train": root})
    if "train" not in parts or len(parts) + len(others) < len(folders):
        raise DataError(
            f"{root} holds {shown([folder.name for folder in folders])}; parts need one folder "
            "each, train among them"
        )
    notes = (f"ignored {shown(others)}: beside train/ only parts are read",) if others else ()
    return Folders(roots=parts, notes=notes)


def holds_class_folders(root: Path) -> bool:
    """Whether a folder looks like an image folder."""
    return any(_images_below(folder)[0] for folder in visible(root) if folder.is_dir())


def open_image_folder(roots: Mapping[Part, Path], on_bad: OnBadRow) -> dict[Part, RawPart]:
    """Return the parts of an image folder; rows in the order of class, then path.

    Raises:
        DataError: no class folder, or no image in any.
    """
    return {part: _open_part(root, on_bad) for part, root in roots.items()}


def _open_part(root: Path, on_bad: OnBadRow) -> RawPart:
    paths: list[Path] = []
    classes: list[str] = []
    notes: list[str] = []
    for folder in (entry for entry in visible(root) if entry.is_dir()):
        images, others = _images_below(folder)
        if not images:
            notes.append(f"class folder {folder} holds no image; there is no such class")
        if others:
            notes.append(f"ignored {len(others):,} files in {folder} that are named like no image")
        paths += images
        classes += [folder.name] * len(images)
    if not paths:
        _refuse_empty(root)
    keys = [path.relative_to(root).as_posix() for path in paths]
    label = LabelColumn(
        values=pa.array(classes, pa.large_string()),
        where=f"the class folders of {root}",
        row_name=lambda row: str(paths[row]),
    )

    return RawPart(
        num_rows=len(paths),
        label=label,
        load=_loader(paths, keys, on_bad),
        notes=tuple(notes),
        keys=lambda: tuple(keys),
    )


def _loader(
    paths: list[Path], keys: list[str], on_bad: OnBadRow
) -> Callable[[NDArray[np.int64]], Loaded]:
    def load(row_A: NDArray[np.int64]) -> Loaded:
        wanted = [(place, paths[row]) for place, row in enumerate(row_A)]
        batches = (wanted[i : i + _BATCH] for i in range(0, len(wanted), _BATCH))
        loaded = decode_images(batches, row_A, lambda p: str(wanted[p][1]), on_bad)
        return loaded.with_keys([keys[row] for row in row_A])

    return load


def _images_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images at any depth in sorted order, and the other visible files."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(where, name) for name in files if not name.startswith(".")]
    found.sort()
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
    return images, [path for path in found if path.suffix.lower() not in IMAGE_SUFFIXES]


def _refuse_empty(root: Path) -> None:
    loose = [entry for entry in visible(root) if entry.suffix.lower() in IMAGE_SUFFIXES]
    cause = "holds images but no class folders" if loose else "holds no class folder with images"
    raise DataError(
        f"{root} {cause}; put each image into a folder named after its class: "
        f"ROOT/class/image.png ({', '.join(IMAGE_SUFFIXES)})"
    )
