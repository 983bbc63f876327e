"""Hugging Face `datasets`: the splits of a saved folder or of the hub, as parts.

Letters: N rows, A rows asked for.
"""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.asked import Asked
from raysubset.learn.sources.files import did_you_mean, existing_path
from raysubset.learn.sources.hf_disk import SPLITS, STATE, features_of, is_saved, read_saved
from raysubset.learn.sources.hf_hub import HUB, read_hub
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.parquet_images import image_column_of
from raysubset.learn.sources.pixels import Encoded, decode_images
from raysubset.learn.sources.roles import refuse_roles
from raysubset.learn.sources.row_keys import keys_by_file, keys_in
from raysubset.learn.sources.rows import (
    PARTS_BY_NAME,
    FileRows,
    Loaded,
    OnBadRow,
    Part,
    RawPart,
    picked,
    shown,
)
from raysubset.learn.sources.tables import LabelRule, label_column, trusted_column
from raysubset.learn.sources.tabular import open_tables

Split = tuple[pa.Table, FileRows]
_ON_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?")
_BATCH = 64  # images decoded by one task


def hf_name(text: str, option: str, bare: bool) -> str:
    """Return what a text names: a saved folder's path, or hf:NAME for the hub.

    Args:
        text: a folder, or hf:NAME.
        option: that it stands in.
        bare: whether NAME alone may be meant.

    Raises:
        DataError: nothing is there, or a folder that `save_to_disk` did not make.
    """
    name = text.removeprefix(HUB)
    path = Path(name).expanduser()
    if is_saved(path):
        return str(path)
    if path.exists():
        raise DataError(
            f"{option}={text} is no folder of Hugging Face's save_to_disk (it has neither {SPLITS} "
            f"nor {STATE}); save it so, or name the format that it has: --data.format"
        )
    if name != text or (bare and _ON_HUB.fullmatch(name)):
        return HUB + name
    return str(existing_path(text, option))


def open_hf(
    sources: Mapping[Part, str], asked: Asked, rule: LabelRule, on_bad: OnBadRow
) -> tuple[dict[Part, RawPart], tuple[str, ...]]:
    """Return the parts of a dataset, and what was left aside.

    Columns of type Image give images; without one, all columns beside the label are a table.

    Args:
        sources: train -> a folder that `save_to_disk` made, or hf:NAME; other parts, where a
            person gave one of their own.
        asked: which split and, on the hub, which dataset.
        rule: where the labels stand.
        on_bad: what a bad image or value does.

    Raises:
        ConfigError: a split or a column that is not there.
        DataError: a folder that is damaged, or a hub that gives nothing.
    """
    train = sources["train"]
    splits, notes = _parts(_read(train, asked), asked.split, train)
    for part, source in sources.items():
        if part != "train":
            found = _read(source, asked if source == train else Asked())
            splits[part] = _own(part, found, source, alone=source != train)
    splits = {part: _without_minus_one(split) for part, split in splits.items()}
    image = _image_column(*splits["train"])
    if image is None:
        return open_tables(splits, rule, on_bad), notes
    refuse_roles(rule.roles, "parquet-images", train)  # images have no other columns either
    schema = splits["train"][0].schema
    rule.roles.check(schema.names, rule.columns_taken(schema), train)
    opened = {
        part: _open_images(part, split, image, rule, on_bad) for part, split in splits.items()
    }
    return opened, notes


def _read(source: str, asked: Asked) -> dict[str, Split]:
    if source.startswith(HUB):
        return read_hub(source.removeprefix(HUB), asked.hub_config, asked.hub_revision)
    for option in ("hub_config", "hub_revision"):
        if (value := getattr(asked, option)) is not None:
            raise ConfigError(
                f"--data.{option}={value}: {source} is a folder on this disk, which has one "
                "config and one revision; leave the option out"
            )
    return read_saved(Path(source))


def _parts(
    splits: dict[str, Split], train: str | None, source: str
) -> tuple[dict[Part, Split], tuple[str, ...]]:
    """Return which split is which part."""
    if train is None:
        train = "train" if "train" in splits or len(splits) > 1 else next(iter(splits))
    if train not in splits:
        raise ConfigError(
            f"--data.split={train}: {source} has no such split; "
            f"{did_you_mean(train, splits)}. Name the one with the train rows: --data.split NAME"
        )
    parts: dict[Part, Split] = {"train": splits[train]}
    ignored: list[str] = []
    for name in splits:
        part = PARTS_BY_NAME.get(name.lower(), "train")
        if name != train and part not in parts:
            parts[part] = splits[name]
        elif name != train:
            ignored.append(name)
    notes = (f"ignored the splits {shown(ignored)} of {source}",) if ignored else ()
    return parts, notes


def _own(part: Part, splits: dict[str, Split], source: str, alone: bool) -> Split:
    """Return the rows that a person named for one part: its split there, or the only one."""
    found = [split for name, split in splits.items() if PARTS_BY_NAME.get(name.lower()) == part]
    if not found and alone and len(splits) == 1:
        found = list(splits.values())
    if len(found) == 1:
        return found[0]
    raise ConfigError(
        f"--data.{part}={source}: it has the splits {shown(list(splits))}, and none of them, or "
        f"more than one, is the {part} part; save that one alone"
    )


def _without_minus_one(split: Split) -> Split:
    """Return the rows with the class -1 as missing: so `datasets` writes it where it is unknown."""
    table, rows = split
    features = features_of(table.schema)
    for i, field in enumerate(table.schema):
        feature = features.get(field.name)
        if _type_of(feature) == "ClassLabel" and pa.types.is_integer(field.type):
            values = table.column(i)
            known = pc.if_else(pc.equal(values, -1), pa.scalar(None, field.type), values)
            table = table.set_column(i, field, known)
    return table, rows


def _type_of(feature: Any) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _image_column(table: pa.Table, rows: FileRows) -> str | None:
    """Return the column with images; None where there is none."""
    features = features_of(table.schema)
    images = [name for name in table.schema.names if _type_of(features.get(name)) == "Image"]
    usual = image_column_of(table.schema)
    if usual is not None and (usual in images or not images):
        return usual
    if len(images) > 1:
        raise DataError(
            f"{rows.files[0]} has {len(images)} columns of images ({shown(images)}), none of them "
            "called image; keep one, or rename the one to learn from to 'image'"
        )
    return images[0] if images else None


def _open_images(
    part: Part, split: Split, image: str, rule: LabelRule, on_bad: OnBadRow
) -> RawPart:
    table, rows = split
    if image not in table.schema.names:
        raise DataError(
            f"{rows.files[0]} has no column {image!r}, unlike the train rows; its columns are "
            f"{shown(table.schema.names, 30)}"
        )
    label = rule.column_of(table.schema, rows.files[0], part)
    trusted = rule.trusted_of(table.schema, rows.files[0], part)
    column = table.column(image)
    key = rule.roles.key_in(table.schema.names)
    own = keys_in(table, key, rows) if key else None
    keys = _paths(column) if own is None else tuple(map(own, range(table.num_rows)))
    found: LabelColumn | None = label_column(table, label, rows) if label else None
    return RawPart(
        num_rows=table.num_rows,
        label=found,
        load=_loader(column, rows, keys, on_bad),
        trusted=trusted_column(table, trusted, rows),
        keys=lambda: keys,
    )


def _loader(
    column: pa.ChunkedArray, rows: FileRows, keys: Sequence[str] | None, on_bad: OnBadRow
) -> Callable[[NDArray[np.int64]], Loaded]:
    def load(row_A: NDArray[np.int64]) -> Loaded:
        def name_of(place: int) -> str:
            row = int(row_A[place])
            return rows.name(row) + (f" ({keys[row]})" if keys and keys[row] else "")

        loaded = decode_images(_batches(column, row_A), row_A, name_of, on_bad)
        by_file = keys_by_file(rows) if keys is None else None
        return loaded.with_keys(
            picked(keys, row_A) if by_file is None else [by_file(row) for row in row_A.tolist()]
        )

    return load


def _batches(column: pa.ChunkedArray, row_A: NDArray[np.int64]) -> Iterator[list[Encoded]]:
    """Yield the encoded images in row order; the files are mapped, so few are in memory at once."""
    start = 0
    for chunk in column.chunks:  # by chunk: taken together, images beyond 2 GB overflow an offset
        first, last = (int(i) for i in np.searchsorted(row_A, [start, start + len(chunk)]))
        for i in range(first, last, _BATCH):
            cells = chunk.take(pa.array(row_A[i : min(i + _BATCH, last)] - start)).to_pylist()
            yield list(enumerate(map(_encoded, cells), start=i))
        start += len(chunk)


def _encoded(cell: Any) -> bytes | Path | None:
    """Return an image's bytes, or the file that it stands in."""
    if not isinstance(cell, dict):
        return cell
    content, path = cell.get("bytes"), cell.get("path")
    return content if content or not path else Path(path)


def _paths(column: pa.ChunkedArray) -> tuple[str, ...] | None:
    kind = column.type
    if not pa.types.is_struct(kind) or all(field.name != "path" for field in kind):
        return None
    paths = pc.struct_field(column, "path")
    if paths.null_count == len(paths):
        return None
    return tuple(pc.fill_null(paths, "").to_pylist())
