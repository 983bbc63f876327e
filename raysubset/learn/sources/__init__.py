"""Sources of rows: from a path or a name to datasets with one encoding of classes and features.

Letters: N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysubset.core.keys import derive_key
from raysubset.errors import ConfigError, DataError
from raysubset.learn.columns import Column
from raysubset.learn.data import Dataset
from raysubset.learn.paged import paged_above, repeated
from raysubset.learn.settings import Format, Layout
from raysubset.learn.skipped import Skipped, refuse_mostly_bad
from raysubset.learn.sources.asked import Asked
from raysubset.learn.sources.beside import KEY_OPTION, labels_beside, with_column
from raysubset.learn.sources.formats import Place, find_place, open_place
from raysubset.learn.sources.labels import (
    UNLABELLED,
    Classes,
    LabelColumn,
    encode,
    find_classes,
    plain,
    refuse_missing,
)
from raysubset.learn.sources.pixels import memory_bytes
from raysubset.learn.sources.roles import Roles, plain_names, refuse_roles
from raysubset.learn.sources.rows import Loaded, OnBadRow, Part, RawPart, shared_keys, shown
from raysubset.learn.sources.strata import allot, draw, share_in
from raysubset.learn.sources.tables import LabelRule
from raysubset.learn.sources.trusted import (
    Trusted,
    refuse_nothing_held_out,
    refuse_nowhere,
    trusted_labels,
)

__all__ = ["Format", "Sources", "load_sources"]

_LEAST_PER_CLASS = 2  # one to learn from, one to judge by


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The train rows, and the parts that the person or the source gives as files of their own."""

    train: Dataset
    validation: Dataset | None = None
    tuning: Dataset | None = None
    test: Dataset | None = None
    trusted: Trusted | None = None
    """Labels of the train rows that are held out, where these differ from the pool's."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What to read of every part."""

    name: str
    kind: Literal["image", "tabular"]
    on_bad: OnBadRow
    limit: int | None
    seed: int


def load_sources(
    *,
    path: str | None,
    format: str,
    labels: str | None,
    label_column: str | None,
    validation_label_column: str | None,
    validation: str | float | None,
    tuning: str | float | None,
    test: str | float | None,
    on_bad_row: OnBadRow,
    limit: int | None,
    memory_mb: int | Literal["auto"] = "auto",
    seed: int,
    key_column: str | None = None,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    fitted: tuple[Column, ...] | None = None,
    labels_key: str | None = None,
    split: str | None = None,
    hub_config: str | None = None,
    hub_revision: str | None = None,
    layout: Layout = "auto",
) -> Sources:
    """Return the train rows and the parts with files of their own, all encoded as the train rows.

    Args:
        path: file or folder; hf:NAME on the Hugging Face hub; module:factory of a person's own
            map-style datasets; None for built-in data.
        format: one of `FORMATS`; `auto` looks at what stands at the path.
        labels: file whose row i labels train row i, instead of the data's own: Parquet, CSV, npy
            or npz. FILE:COLUMN names its column too.
        label_column: column with the labels, in `labels` where that is given; None for `label`.
        validation_label_column: column with trusted labels, in the same place; for the train rows
            that are held out.
        validation: path of the part; a share (split off later) leaves files of that part unread;
            None takes the part that the source has, if any.
        tuning: as validation.
        test: as validation.
        on_bad_row: refuse an undecodable image, a missing value or label; or skip and note it.
        limit: most rows read per part, drawn by class and seed; None for all.
        memory_mb: what the images of a part may take in memory (10^6 bytes); more lie in a file
            below TMPDIR. auto: half of what this process may use.
        seed: which rows a limit keeps.
        key_column: column with the person's own names of rows, in tables and Parquet of images.
        drop: columns of a table that are left out.
        categorical: columns of a table that are one-hot, whatever their type.
        fitted: the columns of a run that a table has to be like; None where its own decide.
        labels_key: column of `labels` with the keys of the rows (paths of images), by which labels
            are joined instead of row by row.
        split: of a Hugging Face dataset, the split with the train rows.
        hub_config: of a dataset on the hub that has several.
        hub_revision: branch, tag or commit of a dataset on the hub.
        layout: where the channels of arrays of images stand.

    Raises:
        ConfigError: an option that cannot mean anything.
        DataError: data that cannot be read or learned from; names the file, row or column.
    """
    given = {"validation": validation, "tuning": tuning, "test": test}
    shares = [part for part, value in given.items() if share_in(value, part) is not None]
    own = {part: str(v) for part, v in given.items() if v is not None and part not in shares}
    if on_bad_row not in ("refuse", "skip"):
        raise ConfigError(f"--data.on_bad_row={on_bad_row}; choices: refuse, skip")
    labels, label_column = with_column(labels, label_column)
    if labels_key is not None and labels is None:
        raise ConfigError(f"{KEY_OPTION}={labels_key} needs the file of labels: --data.labels FILE")
    place = find_place(path=path, format=format, labels=labels, own=own)
    roles = Roles(
        key=key_column, drop=plain_names(drop), categorical=plain_names(categorical), fitted=fitted
    )
    refuse_roles(roles, place.format, place.name)
    rule = _rule(place, label_column, validation_label_column, roles)
    asked = Asked(split=split, hub_config=hub_config, hub_revision=hub_revision, layout=layout)
    held = memory_bytes() // 2 if memory_mb == "auto" else memory_mb * 1_000_000
    with paged_above(held):  # a person's own dataset is read while it is opened
        opened = open_place(place, rule, on_bad_row, asked)
    parts = {part: raw for part, raw in opened.parts.items() if part not in shares}
    if rule.trusted and {"validation", "test"} <= parts.keys() and "tuning" not in shares:
        refuse_nothing_held_out(rule.trusted)
    told: tuple[str, ...] = ()
    if place.labels is not None:
        parts["train"], told = labels_beside(parts["train"], place.labels, rule, labels_key)
    reading = _Reading(
        name=place.name,
        kind=parts["train"].kind,
        on_bad=on_bad_row,
        limit=limit,
        seed=seed,
    )
    unread = [
        f"the {part} files of {place.name} are unread: --data.{part} asks for a share"
        for part in shares
        if part in opened.parts
    ]
    with paged_above(held):
        return _load(parts, reading, (*opened.notes, *told, *unread))


def _rule(place: Place, column: str | None, trusted: str | None, roles: Roles) -> LabelRule:
    """Return where labels stand; refuse columns of data that has none."""
    if trusted is not None and place.labels is None and place.is_without_tables:
        refuse_nowhere(trusted, place.name)
    beside = place.labels is not None
    built_in = place.format in ("digits", "cifar10") and place.path is None
    columnless = built_in or place.format == "image-folder"
    if column is not None and not beside and columnless:
        raise ConfigError(
            f"--data.label_column={column}: {place.name} has no columns; name your data with "
            "--data FILE_OR_FOLDER, or a file of labels with --data.labels FILE"
        )
    return LabelRule(column=column, trusted=trusted, beside=beside, roles=roles)


def _load(parts: Mapping[Part, RawPart], reading: _Reading, notes: tuple[str, ...]) -> Sources:
    columns = {part: _checked_labels(raw, reading.on_bad) for part, raw in parts.items()}
    classes = find_classes(columns["train"])
    _check_limit(reading.limit, classes)
    # classes of every part before any content: a wrong label file should not cost a decode
    labels = {part: encode(column, classes) for part, column in columns.items()}
    for part, raw in parts.items():  # a row that is bad has no content, whatever labels it
        labels[part][[bad.row for bad in raw.bad]] = UNLABELLED
    second = parts["train"].trusted
    trusted = second and trusted_labels(second, columns["train"], classes, reading.on_bad)
    datasets = {
        part: _dataset(part, raw, labels[part], classes, reading) for part, raw in parts.items()
    }
    train = datasets["train"]
    others = {p: _shaped_as(train, d, p) for p, d in datasets.items() if p != "train"}
    train = replace(train, notes=(*notes, *train.notes))
    return Sources(train=train, trusted=trusted, **others)


def _checked_labels(raw: RawPart, on_bad: OnBadRow) -> LabelColumn:
    assert raw.label is not None, "only train labels can stand beside, and they are read by now"
    column = plain(raw.label)
    if on_bad == "refuse":
        refuse_missing(column)
    return column


def _check_limit(limit: int | None, classes: Classes) -> None:
    least = _LEAST_PER_CLASS * len(classes.names)
    if limit is not None and limit < least:
        raise ConfigError(
            f"--data.limit={limit} is too small for {len(classes.names)} classes; use {least} or "
            f"more ({_LEAST_PER_CLASS} rows per class)"
        )


def _dataset(
    part: Part, raw: RawPart, label_N: NDArray[np.int64], classes: Classes, reading: _Reading
) -> Dataset:
    rows = _readable(part, raw, label_N, reading, len(classes.names))
    loaded, row_N = rows.loaded, rows.row_N
    notes = [*raw.notes, *rows.notes, *_class_notes(label_N[row_N], classes, part)]
    notes += shared_keys(loaded.keys)
    return Dataset(
        name=reading.name,
        kind=reading.kind,
        content=loaded.content,
        label_N=label_N[row_N],
        class_names=classes.names,
        id_N=row_N,
        keys=loaded.keys,
        feature_names=loaded.feature_names,
        columns=loaded.columns,
        notes=tuple(note if part == "train" else f"{part}: {note}" for note in notes),
        skipped=rows.skipped,
    )


@dataclass(frozen=True, kw_only=True)
class _Readable:
    """Rows of a part that have a label and content, and those that were left out."""

    row_N: NDArray[np.int64]
    loaded: Loaded
    notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def _readable(
    part: Part, raw: RawPart, label_N: NDArray[np.int64], reading: _Reading, classes: int
) -> _Readable:
    """Return the good rows of a part; refuse where most are bad."""
    where, unlabelled = f"the {part} part of {reading.name}", _unlabelled(raw, label_N)
    refuse_mostly_bad(unlabelled, len(label_N), where)
    all_N = np.flatnonzero(label_N != UNLABELLED).astype(np.int64)
    row_A = _limited(all_N, label_N[all_N], part, reading, classes)
    loaded = raw.load(row_A)
    # A limit reads some of the labelled rows: those without a label are no share of these.
    beside = unlabelled if len(row_A) == len(all_N) else []
    refuse_mostly_bad([*beside, *loaded.skipped], len(beside) + len(row_A), where)
    missing = len(unlabelled) - len(raw.bad)
    told = [f"skipped {missing:,} rows without a label"] if missing else []
    return _Readable(
        row_N=row_A[loaded.kept_A],
        loaded=loaded,
        notes=(*told, *loaded.notes),
        skipped=tuple(sorted((*unlabelled, *loaded.skipped), key=lambda bad: bad.row)),
    )


def _unlabelled(raw: RawPart, label_N: NDArray[np.int64]) -> list[Skipped]:
    """Return the rows of a part with no label, or found bad; none where these are refused."""
    label, known = raw.label, {bad.row: bad for bad in raw.bad}
    assert label is not None, "labels are read before content"
    return [
        known.get(row)
        or Skipped(row=row, where=label.row_name(row), cause="no label", detail=label.where)
        for row in np.flatnonzero(label_N == UNLABELLED).tolist()
    ]


def _limited(
    row_N: NDArray[np.int64],
    label_N: NDArray[np.int64],
    part: Part,
    reading: _Reading,
    classes: int,
) -> NDArray[np.int64]:
    """Return at most `limit` of the rows, every class with its share and with two at least."""
    if reading.limit is None or len(row_N) <= reading.limit:
        return row_N
    count_C = np.bincount(label_N, minlength=classes).astype(np.int64)
    size_C = allot(count_C, reading.limit, np.minimum(count_C, _LEAST_PER_CLASS), count_C)
    return row_N[draw(row_N, label_N, size_C, derive_key(reading.seed, "limit", part))]


def _class_notes(label_N: NDArray[np.int64], classes: Classes, part: Part) -> list[str]:
    count_C = np.bincount(label_N, minlength=len(classes.names))
    empty = [classes.names[c] for c in np.flatnonzero(count_C == 0)]
    single = [classes.names[c] for c in np.flatnonzero(count_C == 1)] if part == "train" else []
    notes = [f"no row of {len(empty):,} classes: {shown(empty)}"] if empty else []
    return notes + ([f"only one row of {len(single):,} classes: {shown(single)}"] if single else [])


def _shaped_as(train: Dataset, other: Dataset, part: Part) -> Dataset:
    """Return the part in the shape of the train rows: gray is repeated where they have colour."""
    wanted, shape = train.content.shape[1:], other.content.shape[1:]
    if wanted == shape:
        return other
    if train.kind == "image" and wanted[1:] == shape[1:] and (wanted[0], shape[0]) == (3, 1):
        note = f"{part}: gray images were repeated in 3 channels, as the train images have"
        return replace(other, content=repeated(other.content, 3), notes=(*other.notes, note))
    raise DataError(
        f"{part} images of {train.name} have shape {shape} (channels, height, width), the train "
        f"images {wanted}; bring them to one size and colour mode"
    )
