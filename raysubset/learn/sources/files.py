"""Files of a source on disk: what stands at a path, and which file belongs to which part."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.rows import Part, shown

PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*PARQUET_SUFFIXES, ".csv")
_PREFIXES: dict[str, Part] = {
    "train": "train",
    "val": "validation",
    "tuning": "tuning",
    "test": "test",
}


@dataclass(frozen=True, kw_only=True)
class PartFiles:
    """Files of each part in reading order, and what was left aside."""

    files: dict[Part, tuple[Path, ...]]
    notes: tuple[str, ...] = ()


def part_named(name: str) -> Part | None:
    """Return the part that a file name or folder name begins with, such as test-00000."""
    return next((part for pre, part in _PREFIXES.items() if name.lower().startswith(pre)), None)


def existing_path(text: str, option: str, also: Iterable[str] = ()) -> Path:
    """Return the path that stands in `option`.

    Raises:
        ConfigError: a URL, which this version does not read.
        DataError: nothing is there; names what looks similar (files nearby, words in `also`).
    """
    if "://" in text:
        raise ConfigError(
            f"{option}={text}: only local paths are read here; copy the data first, or give it to "
            "a command (--data and its parts may be s3, gs, abfs or file addresses)"
        )
    path = Path(text).expanduser()
    try:
        if path.exists():
            return path
    except (OSError, ValueError) as error:  # no permission, name too long, NUL in the name
        raise DataError(f"{option}={text!r} cannot be opened: {error}") from error
    parent = path.parent
    nearby = [str(parent / near) for near in _near(path.name, parent)]
    nearby += difflib.get_close_matches(text, list(also), n=1)
    hint = f"did you mean {' or '.join(nearby)}?" if nearby else _nearest_folder(path)
    raise DataError(f"{option}={text}: there is no such file or folder; {hint}")


def did_you_mean(value: str, choices: Iterable[str]) -> str:
    """Return a remedy: the nearest choice where one is near, and all choices."""
    choices = list(choices)
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}(choices: {shown(choices, 40)})"


def visible(folder: Path, leave_out: frozenset[Path] = frozenset()) -> list[Path]:
    """Return what stands in a folder, sorted by name, hidden entries left out.

    Args:
        folder: to be listed.
        leave_out: resolved paths that belong to something else, such as a file of labels.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"folder {folder} cannot be listed: {error}") from error
    paths = [folder / name for name in names]
    return [path for path in paths if path.resolve() not in leave_out] if leave_out else paths


def tables_in(
    path: Path, suffixes: Sequence[str], leave_out: frozenset[Path] = frozenset()
) -> tuple[Path, ...]:
    """Return the table files at a path: itself, or all in that folder, sorted by name.

    Raises:
        DataError: there is none.
    """
    found = [path] if path.is_file() else _with_suffix(visible(path, leave_out), suffixes)
    found = [file for file in found if file.resolve() not in leave_out]
    if not found:
        raise DataError(f"{path} holds no {' or '.join(suffixes)} file{_standing(path)}")
    return tuple(found)


def not_empty(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files, none of them empty.

    Raises:
        DataError: names a file of 0 bytes.
    """
    files = tuple(files)
    for file in files:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty (0 bytes); write it again or remove it")
    return files


def table_parts(
    path: Path, suffixes: Sequence[str], leave_out: frozenset[Path] = frozenset()
) -> PartFiles:
    """Sort the table files at a path into parts by the beginning of their names.

    A folder with train* files gives train, validation (val*), tuning and test parts and ignores
    the rest; a folder without such names is all train; train/, test/ ... folders work as well.

    Raises:
        DataError: no table file, an empty one, or names that leave a part in doubt.
    """
    if path.is_dir() and not _with_suffix(visible(path, leave_out), suffixes):
        return _parts_by_folder(path, suffixes, leave_out)
    files = tables_in(path, suffixes, leave_out)
    if path.is_file():
        return PartFiles(files={"train": not_empty(files)})
    parts, ignored = _group(files)
    if not parts:
        _refuse_hidden_parts(path, files)
        return PartFiles(files={"train": not_empty(files)})
    if "train" not in parts:
        raise DataError(
            f"{path} has {shown([f.name for f in files])} but no train* file; rename the train "
            "file, or give the files one by one (--data, --data.test)"
        )
    return _checked(parts, ignored)


def _parts_by_folder(path: Path, suffixes: Sequence[str], leave_out: frozenset[Path]) -> PartFiles:
    inside = [entry for entry in visible(path, leave_out) if entry.is_dir()]
    folders, ignored = _group(inside)
    deeper = [folder for folder in inside if _with_suffix(visible(folder, leave_out), suffixes)]
    if not folders and len(deeper) == 1:  # a clone from the Hugging Face hub: data/train-*.parquet
        return table_parts(deeper[0], suffixes, leave_out)
    if "train" not in folders:
        raise DataError(f"{path} holds no {' or '.join(suffixes)} file{_standing(path)}")
    files = {
        part: tuple(file for folder in of_part for file in tables_in(folder, suffixes, leave_out))
        for part, of_part in folders.items()
    }
    return _checked(files, ignored)


def _checked(files: dict[Part, tuple[Path, ...]], ignored: list[Path]) -> PartFiles:
    names = shown([path.name for path in ignored])
    notes = (f"ignored {names}: the name begins with no part's name",) if ignored else ()
    return PartFiles(files={part: not_empty(of) for part, of in files.items()}, notes=notes)


def _group(paths: Iterable[Path]) -> tuple[dict[Part, tuple[Path, ...]], list[Path]]:
    parts: dict[Part, tuple[Path, ...]] = {}
    ignored = []
    for path in paths:
        part = part_named(path.name)
        if part is None:
            ignored.append(path)
        else:
            parts[part] = (*parts.get(part, ()), path)
    return parts, ignored


def _refuse_hidden_parts(path: Path, files: tuple[Path, ...]) -> None:
    """Refuse names such as adult_test.csv: read as train rows they would leak the test part."""
    words = {file: file.stem.lower().replace("_", "-").replace(".", "-") for file in files}
    doubtful = [
        file.name for file in files if any(word in _PREFIXES for word in words[file].split("-"))
    ]
    if doubtful:
        raise DataError(
            f"{path}: {shown(doubtful)} look like parts, but no name begins with train; rename "
            "them train*, val*, test*, or give them one by one (--data, --data.test)"
        )


def _with_suffix(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]


def _near(name: str, folder: Path) -> list[str]:
    entries = os.listdir(folder) if folder.is_dir() else []
    return difflib.get_close_matches(name, entries, n=2)


def _nearest_folder(path: Path) -> str:
    folder = next((up for up in path.absolute().parents if up.is_dir()), Path("/"))
    return f"the nearest folder that exists is {folder}"


def _standing(path: Path) -> str:
    if path.is_file():
        return ""
    names = [entry.name + "/" * entry.is_dir() for entry in visible(path)]
    return f"; it holds {shown(names)}" if names else "; it is empty"
