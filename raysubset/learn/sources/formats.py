"""Which format a source has, and its parts opened by the reader of that format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, get_args

from raysubset.errors import ConfigError, DataError
from raysubset.learn.factories import names_a_factory
from raysubset.learn.settings import Format
from raysubset.learn.sources.asked import Asked
from raysubset.learn.sources.builtin import CIFAR10_CLASSES, open_cifar10, open_digits
from raysubset.learn.sources.files import (
    PARQUET_SUFFIXES,
    TABLE_SUFFIXES,
    did_you_mean,
    existing_path,
    not_empty,
    part_named,
    table_parts,
    tables_in,
    visible,
)
from raysubset.learn.sources.hf import hf_name, open_hf
from raysubset.learn.sources.hf_disk import is_saved
from raysubset.learn.sources.hf_hub import HUB
from raysubset.learn.sources.image_folder import (
    folder_parts,
    holds_class_folders,
    open_image_folder,
)
from raysubset.learn.sources.numpy_files import NUMPY_SUFFIXES, holds_numpy, open_numpy
from raysubset.learn.sources.parquet_images import image_column_of, open_parquet_images
from raysubset.learn.sources.rows import OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import LabelRule, schema_of
from raysubset.learn.sources.tabular import open_tabular
from raysubset.learn.sources.torch_dataset import open_factories

FORMATS: tuple[str, ...] = get_args(Format)
_T = TypeVar("_T")
_BUILTIN = ("digits", "cifar10")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the rows come from: a known format, and the paths that a person gave."""

    format: str
    path: Path | None
    """None for built-in data."""
    own: Mapping[Part, Path]
    """Paths of parts that were given one by one."""
    labels: Path | None
    """File with the train labels beside the rows."""
    names: Mapping[Part, str] = field(default_factory=dict)
    """Of formats `hf` and `factory`: part -> what a person wrote, a folder or no path at all."""

    @property
    def is_without_tables(self) -> bool:
        """Whether the rows have no columns beside their labels, as in image folders."""
        return self.format not in ("parquet-images", "tabular", "hf") and not (
            self.format == "cifar10" and self.path is not None
        )

    @property
    def given(self) -> frozenset[Path]:
        """What was given one by one and may stand in the folder; it is not the folder's data."""
        labels = [] if self.labels is None else [self.labels]
        return frozenset(path.resolve() for path in (*self.own.values(), *labels))

    @property
    def name(self) -> str:
        """Short name of the data: that of the folder or file."""
        if self.path is None:
            return self.names["train"].rpartition("/")[2] if self.names else self.format
        path = self.path.resolve()
        return path.stem if path.is_file() else path.name


@dataclass(frozen=True)
class Opened:
    """Parts with their labels read, content still on disk."""

    parts: dict[Part, RawPart]
    notes: tuple[str, ...] = ()


def find_place(
    *, path: str | None, format: str, labels: str | None, own: Mapping[Part, str]
) -> Place:
    """Return the place of the data, its format found out where it is `auto`.

    Raises:
        ConfigError: an unknown format, a path missing or too many.
        DataError: a path where nothing is, or nothing that can be read.
    """
    if format not in FORMATS:
        raise ConfigError(f"--data.format={format} is unknown; {did_you_mean(format, FORMATS)}")
    beside = None if labels is None else existing_path(labels, "--data.labels")
    if path is not None and (named := _named_format(path, format)) is not None:
        return Place(format=named, path=None, own={}, labels=beside, names={"train": path, **own})
    paths = {part: existing_path(text, f"--data.{part}") for part, text in own.items()}
    if path is None or format == "digits":
        _check_builtin(format, path, own)
        return Place(format=format, path=None, own={}, labels=beside)
    root = existing_path(path, "--data", also=_BUILTIN)
    place = Place(format=format, path=root, own=paths, labels=beside)
    return replace(place, format=_sniff(root, place.given)) if format == "auto" else place


def _named_format(text: str, format: str) -> str | None:
    """Return the format of what is named and not sniffed: a saved folder, the hub, a factory."""
    if format == "factory" or (format == "auto" and _is_name(text, names_a_factory)):
        return "factory"
    if format == "hf" or (format == "auto" and _is_name(text, lambda t: t.startswith(HUB))):
        return "hf"
    saved = format == "auto" and is_saved(Path(text).expanduser())
    return "hf" if saved else None


def _is_name(text: str, looks: Callable[[str], bool]) -> bool:
    """Return whether a text looks like a name, and no file of that name is there."""
    return looks(text) and not os.path.lexists(text)


def open_place(place: Place, rule: LabelRule, on_bad: OnBadRow, asked: Asked) -> Opened:
    """Return the parts at a place; those given one by one replace the ones found there.

    Args:
        place: what `find_place` found.
        rule: where the labels stand.
        on_bad: what a bad row does.
        asked: what more was said of the data than where it is.

    Raises:
        ConfigError: no label column of the name asked for, or a file that two parts would read.
        DataError: files that cannot be read or do not go together.
    """
    asked.refuse_unread(place.format)
    if place.names:
        return _open_named(place, rule, on_bad, asked)
    if place.path is None:
        return Opened(parts=open_digits() if place.format == "digits" else open_cifar10())
    if place.format == "image-folder":
        found = folder_parts(place.path)
        roots, notes = _with_own(found.roots, place.own)
        _refuse_shared({part: (root,) for part, root in roots.items()})
        return Opened(parts=open_image_folder(roots, on_bad), notes=(*found.notes, *notes))
    if place.format == "numpy":
        sources = {"train": place.path, **place.own}
        _refuse_shared({part: (path,) for part, path in sources.items()})
        how = (rule, asked.layout, on_bad, place.given)
        return Opened(*open_numpy(sources, *how))
    files, notes = _table_files(place)
    if place.format == "tabular":
        parts = open_tabular(files, rule, on_bad)
    else:
        parts = open_parquet_images(files, rule, on_bad)
    if place.format == "cifar10":
        parts = {part: _named_as_cifar10(raw) for part, raw in parts.items()}
    return Opened(parts=parts, notes=notes)


def _open_named(place: Place, rule: LabelRule, on_bad: OnBadRow, asked: Asked) -> Opened:
    """Return the parts of what is named and not looked for: of the formats factory and hf."""
    if place.format == "factory":
        return Opened(*open_factories(place.names, rule, asked.layout, on_bad))
    train = hf_name(place.names["train"], "--data", bare=True)
    bare = train.startswith(HUB)
    names = {part: hf_name(name, f"--data.{part}", bare) for part, name in place.names.items()}
    return Opened(*open_hf({**names, "train": train}, asked, rule, on_bad))


def _table_files(place: Place) -> tuple[dict[Part, tuple[Path, ...]], tuple[str, ...]]:
    """Return the table files of each part at a place, and what was left aside."""
    assert place.path is not None, "built-in data has no files"
    if place.path.is_file():
        named = {part: (path,) for part, path in place.own.items()}
        _refuse_shared({"train": (place.path,), **named})
    suffixes = TABLE_SUFFIXES if place.format == "tabular" else PARQUET_SUFFIXES
    tables = table_parts(place.path, suffixes, place.given)
    own = {part: _own_tables(part, path, suffixes) for part, path in place.own.items()}
    files, notes = _with_own(tables.files, own)
    _refuse_shared(files)
    return files, (*tables.notes, *notes)


def _check_builtin(format: str, path: str | None, own: Mapping[Part, str]) -> None:
    if format not in _BUILTIN:
        raise ConfigError(
            f"--data.format={format} needs a path: --data FILE_OR_FOLDER, or name built-in data: "
            f"--data {' or --data '.join(_BUILTIN)}"
        )
    if path is not None:
        raise ConfigError(f"--data.path={path}: {format} is built in and takes no path; drop one")
    if own:
        part, text = next(iter(own.items()))
        raise ConfigError(
            f"--data.{part}={text}: {format} is built in and takes no files of other parts; give "
            f"a share such as --data.{part} 0.1"
        )


def _sniff(root: Path, leave_out: frozenset[Path]) -> str:
    """Return the format of what stands at a path, whatever else was given one by one."""
    if root.is_file():
        if root.suffix.lower() in NUMPY_SUFFIXES:
            return "numpy"
        if root.suffix.lower() not in TABLE_SUFFIXES:
            raise DataError(
                f"{root} is no {' or '.join(TABLE_SUFFIXES + NUMPY_SUFFIXES)} file; images go "
                "into folders named after their classes (--data FOLDER) or into Parquet"
            )
        return _format_of_table(not_empty([root])[0])
    top = visible(root, leave_out)
    inside = [*top, *(below for up in top if up.is_dir() for below in visible(up, leave_out))]
    tables = [path for path in inside if path.suffix.lower() in TABLE_SUFFIXES and path.is_file()]
    first = next((path for path in tables if part_named(path.name) == "train"), None)
    if first is not None or any(path.parent == root for path in tables):
        return _format_of_table(not_empty([first or tables[0]])[0])
    if holds_numpy(root):
        return "numpy"
    if holds_class_folders(root) or any(map(holds_class_folders, _folders(root))):
        return "image-folder"
    if tables:
        return _format_of_table(not_empty(tables[:1])[0])
    names = shown([entry.name for entry in visible(root)]) or "it is empty"
    raise DataError(
        f"{root} holds nothing that can be read ({names}); wanted: {', '.join(TABLE_SUFFIXES)} "
        "or .npy files, a folder of Hugging Face's save_to_disk, or images in folders named after "
        "their classes"
    )


def _format_of_table(path: Path) -> str:
    if path.suffix.lower() not in PARQUET_SUFFIXES:
        return "tabular"
    return "tabular" if image_column_of(schema_of(path)) is None else "parquet-images"


def _folders(root: Path) -> list[Path]:
    return [entry for entry in visible(root) if entry.is_dir()]


def _with_own(found: Mapping[Part, _T], own: Mapping[Part, _T]) -> tuple[dict[Part, _T], list[str]]:
    """Return the found parts with a person's own in their place, and what that left unread."""
    notes = [
        f"the {part} files beside the train files are unread: --data.{part} names others"
        for part in own
        if part in found
    ]
    return {**found, **own}, notes


def _refuse_shared(files: Mapping[Part, Iterable[Path]]) -> None:
    """Refuse a file that two parts would read: one of them would be judged on the other's rows.

    Raises:
        ConfigError: names the file and both parts.
    """
    reader: dict[Path, Part] = {}
    for part, path in ((part, path) for part, paths in files.items() for path in paths):
        first = reader.setdefault(path.resolve(), part)
        if first != part:
            raise ConfigError(
                f"--data.{part}: {path} is the {first} part already, and a score on rows that were "
                f"trained on or drove the selection is none; name other files, or leave out "
                f"--data.{part}: it is then split off the train rows"
            )


def _own_tables(part: Part, path: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    files = tables_in(path, suffixes)
    mine = tuple(file for file in files if part_named(file.name) == part)
    return not_empty(mine or files)


def _named_as_cifar10(raw: RawPart) -> RawPart:
    if raw.label is None or raw.label.names is not None:
        return raw
    return replace(raw, label=replace(raw.label, names=CIFAR10_CLASSES))
