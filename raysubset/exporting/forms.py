"""The forms: which file or folder each writes, and what it needs.

manifest, tags and fiftyone are CSV files; symlinks is an image folder of links; hf is a folder
that `datasets.load_from_disk` reads.
"""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from raysubset.answers import chosen_in, labels_of, require_run, whole
from raysubset.errors import ConfigError, RunFolderError
from raysubset.exporting.hf import chosen_rows
from raysubset.exporting.history import (
    NEVER,
    PoolHistory,
    keys_of,
    places_of,
    pool_history,
    pool_of,
)
from raysubset.exporting.images import image_files
from raysubset.files import write_atomically
from raysubset.learn.skipped import no_formula
from raysubset.storage.addresses import is_uri, without_credentials

Form = Literal["manifest", "symlinks", "hf", "tags", "fiftyone"]
FORMS: tuple[Form, ...] = get_args(Form)
TAG = "raysubset"
_TAGGED = ("label", "tags", *(f"{TAG}_{what}" for what in ("times", "round", "rank", "gain")))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is exported: a run, a round of it (None: the last), and where to."""

    run: Path
    round: int | None
    output: Path
    images: str | None


def export_as(
    run: str | Path,
    form: Form,
    *,
    output: str | None,
    round_: int | None = None,
    images: str | None = None,
) -> Path:
    """Write a run's choice as another tool reads it; return the file or folder.

    Args:
        run: the run folder.
        form: manifest: CSV (file_name, label, id, rank, gain, weight, round) of a round's ids, as
            an image folder's metadata.csv. symlinks: a folder of links to a round's images, a class
            per folder. hf: `datasets.Dataset.select` of a round's rows, for `load_from_disk`. tags:
            CSV of every pool row, with how often and how it was chosen. fiftyone: the same, as
            `fiftyone.types.CSVDataset` reads it, by file.
        output: where to; outside the run folder.
        round_: for manifest, symlinks and hf; None for the last finished one.
        images: the folder of images, where it is not where the run found it.

    Raises:
        ConfigError: no output, a round that is not there, rows without file names.
        DataError: images that are not there. RunFolderError: it cannot be written.
    """
    _check_options(form, round_, images)
    asked = _Asked(run=require_run(run), round=round_, output=_target(run, output), images=images)
    try:
        _WRITERS[form](asked)
    except OSError as error:
        raise RunFolderError(f"{asked.output} cannot be written ({error.strerror}).") from None
    return asked.output


def _check_options(form: Form, round_: int | None, images: str | None) -> None:
    """Refuse what a form would not look at."""
    if round_ is not None and form in ("tags", "fiftyone"):
        raise ConfigError(f"--round={round_}: --format {form} tells of all rounds; drop it.")
    if images is not None and form not in ("symlinks", "fiftyone"):
        raise ConfigError(f"--images={images}: --format {form} looks at no image; drop it.")


def _target(run: str | Path, output: str | None) -> Path:
    """Return where to write, if that is a place for it."""
    if output is None:
        raise ConfigError("this format needs --output PATH, outside the run folder.")
    if is_uri(output):
        raise ConfigError(f"--output={without_credentials(output)}: give a local path.")
    target = Path(output).expanduser().absolute()
    if target.is_relative_to(Path(run).absolute()):
        raise ConfigError(
            f"--output={output} lies in the run folder, where every file has somebody to answer "
            "for it; name a path outside."
        )
    if not target.parent.is_dir():
        raise ConfigError(f"--output={output}: there is no folder {target.parent}; make it first.")
    return target


@dataclass(frozen=True, kw_only=True)
class _Round:
    """A round's rows in the order of choice, with what a person knows them by."""

    table: pa.Table
    keys: list[str | None] | None
    labels: list[str]


def _round(asked: _Asked) -> _Round:
    table = chosen_in(asked.run, asked.round)
    path = asked.run / "rounds"
    table = _each_once(whole(table, path, "id", "rank", "gain", "weight", "round"))
    pool = pool_of(asked.run)
    rows = pool.take(pa.array(places_of(table["id"].to_numpy(), pool["id"].to_numpy(), path)))
    keys = keys_of(rows)
    return _Round(
        table=table,
        keys=None if keys is None else list(keys),
        labels=labels_of(asked.run, rows["label"].to_pylist()),
    )


def _each_once(table: pa.Table) -> pa.Table:
    """Return a choice without the later rows of an id that several slices hold."""
    first = np.unique(table["id"].to_numpy(), return_index=True)[1]
    return table.take(pa.array(np.sort(first)))


def _write_manifest(asked: _Asked) -> None:
    chosen = _round(asked)
    if chosen.keys is None:
        raise ConfigError(
            "the rows of this run have no names of their own; use --format csv, by row number."
        )
    columns = [chosen.table[name].to_pylist() for name in ("id", "rank", "gain", "weight", "round")]
    rows = zip(map(_path, chosen.keys), chosen.labels, *columns, strict=True)
    header = ["file_name", "label", "id", "rank", "gain", "weight", "round"]
    _write_csv(asked.output, header, rows)


def _path(key: str | None) -> str:
    """Return a file name that is the same path, and that no spreadsheet runs as a formula."""
    key = key or ""
    return key if no_formula(key) == key else f"./{key}"


def _write_tags(asked: _Asked) -> None:
    history = pool_history(asked.run)
    keys = history.key_N or [""] * len(history.id_N)
    _write_csv(asked.output, ["key", "id", *_TAGGED], _tagged(history, keys))


def _write_fiftyone(asked: _Asked) -> None:
    history = pool_history(asked.run)
    files = [str(file) for file in image_files(asked.run, history.key_N, asked.images)]
    header = ["filepath", "raysubset_id", *_TAGGED]
    _write_csv(asked.output, header, _tagged(history, files))


def _tagged(history: PoolHistory, names: Sequence[str | None]) -> Iterable[list[Any]]:
    """Yield a line per pool row; what was never chosen has no round, rank or gain."""
    for n, name in enumerate(names):
        chosen = int(history.round_N[n]) != NEVER
        tag = f"{TAG}_chosen" if chosen else f"{TAG}_never_chosen"
        how = [int(history.round_N[n]), int(history.rank_N[n]), _number(history.gain_N[n])]
        yield [
            *(name, int(history.id_N[n]), history.label_N[n], tag, int(history.times_N[n])),
            *(how if chosen else ["", "", ""]),
        ]


def _number(value: float) -> str:
    """Return a gain; nothing where nothing was scored."""
    return "" if value != value else repr(float(value))


def _write_csv(target: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    def write(path: Path) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            for row in rows:
                writer.writerow([_cell(value) for value in row])

    write_atomically(target, write)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return no_formula(value)
    return _number(value) if isinstance(value, float) else value


def _write_symlinks(asked: _Asked) -> None:
    """Write ROOT/class/name links."""
    _refuse_there(asked.output)
    chosen = _round(asked)
    files = image_files(asked.run, chosen.keys, asked.images)

    def write(folder: Path) -> None:
        for key, file in zip(chosen.keys or [], files, strict=True):
            link = folder / str(key)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)

    _write_folder(asked.output, write)


def _write_hf(asked: _Asked) -> None:
    _refuse_there(asked.output)
    chosen = _round(asked)
    rows = chosen_rows(asked.run, chosen.table["id"].to_pylist(), chosen.labels)
    _write_folder(asked.output, lambda folder: rows.save_to_disk(str(folder)))


def _refuse_there(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise ConfigError(f"--output={target} exists already; name a folder that does not.")


def _write_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a folder that is there whole or not at all."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        write(folder)
        folder.chmod(0o755)
        os.replace(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


_WRITERS: dict[Form, Callable[[_Asked], None]] = {
    "manifest": _write_manifest,
    "symlinks": _write_symlinks,
    "hf": _write_hf,
    "tags": _write_tags,
    "fiftyone": _write_fiftyone,
}
