"""Sources with bad rows in known places: a table, images in folders, images in Parquet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.learn.sources_on_disk import png, write_file, write_images

ROWS = 60


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source on disk.

    Attributes:
        path: what --data gets.
        bad: id -> its cause.
        mend: writes the source again without a bad row.
    """

    path: Path
    bad: dict[int, str]
    mend: Callable[[], object]


def table(folder: Path) -> Source:
    """Return a CSV file: a NaN, an infinity, an empty cell and a missing label."""
    draw = np.random.default_rng(0).normal(size=(ROWS, 2)).round(3)
    good = [[str(a), str(b), str(i % 3)] for i, (a, b) in enumerate(draw)]
    wrong = {7: (0, "nan"), 30: (1, "inf"), 31: (0, ""), 44: (2, "")}
    bad = dict.fromkeys(wrong, "missing or non-finite value") | {44: "no label"}

    def write(change: dict[int, tuple[int, str]]) -> None:
        rows = [list(row) for row in good]
        for row, (column, value) in change.items():
            rows[row][column] = value
        lines = ["a,b,label", *(",".join(row) for row in rows)]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n")

    write(wrong)
    return Source(path=folder / "rows.csv", bad=bad, mend=lambda: write({}))


def image_folder(folder: Path) -> Source:
    """Return images in class folders: one empty, one cut short, one that is text, one 16-bit."""
    names = [f"{'abc'[i // 20]}/{i % 20:02}.png" for i in range(ROWS)]
    wrong = {3: b"", 25: png(25)[:50], 40: b"a page of text", 59: b"\x89PNG\r\n\x1a\n"}

    def write(change: dict[int, bytes]) -> None:
        for i, name in enumerate(names):
            write_file(folder / "images" / name, change.get(i, png(i)))

    write(wrong)
    bad = dict.fromkeys(wrong, "unreadable image")
    return Source(path=folder / "images", bad=bad, mend=lambda: write({}))


def parquet(folder: Path) -> Source:
    """Return images in Parquet: no bytes, damaged bytes, and labels that are null."""

    def write(change: dict[int, bytes | None], missing: set[int]) -> None:
        images = [change.get(i, png(i)) for i in range(ROWS)]
        labels = [None if i in missing else i % 3 for i in range(ROWS)]
        write_images(folder / "train.parquet", images, labels)

    write({11: None, 12: png(12)[:70]}, {50, 51})
    bad = {11: "unreadable image", 12: "unreadable image", 50: "no label", 51: "no label"}
    return Source(path=folder / "train.parquet", bad=bad, mend=lambda: write({}, set()))


KINDS: dict[str, Callable[[Path], Source]] = {
    "table": table,
    "folder": image_folder,
    "parquet": parquet,
}


def chosen_ids(run: Path) -> set[int]:
    """Return every id that any round of a run trained on."""
    found: set[int] = set()
    for path in run.glob("rounds/*/selection.parquet"):
        table: pa.Table = pq.read_table(path)
        found |= set(table["id"].to_pylist())
    return found
