"""The list of rows left out: how it is told, and how many may be."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from raysubset.errors import DataError
from raysubset.learn.skipped import Skipped, causes_of, csv_of, note_of, summary
from tests.learn.sources_on_disk import load, png, write_file, write_images, write_table

NAN = float("nan")


def bad(row: int, where: str = "x.csv row 1", detail: str = "") -> Skipped:
    return Skipped(row=row, where=where, cause="no label", detail=detail)


def test_f27_no_cell_of_the_list_is_a_formula_and_every_cell_comes_back():
    cells = ["=1+1", "+A1", "-1+2", "@a", "\tx", 'a "quoted", cell', "line\nbreak", "ok"]
    text = csv_of({"train": [bad(i, cell, cell) for i, cell in enumerate(cells)]})
    rows = list(csv.DictReader(io.StringIO(text)))
    for row, cell in zip(rows, cells, strict=True):
        for name in ("where", "detail"):
            assert row[name].removeprefix("'") == cell
            assert not row[name].startswith(("=", "+", "-", "@", "\t"))


def test_f27_a_number_of_the_list_is_no_formula():
    text = csv_of({"train": [bad(0, "-1", "+2.5e3")]})
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["where"], row["detail"]) == ("-1", "+2.5e3")


def test_the_hash_follows_which_rows_of_which_part_and_not_where_they_lie():
    one = summary({"train": [bad(3), bad(5)], "test": []})
    assert one == summary({"train": [bad(3, "moved.csv row 3"), bad(5)]})
    assert one["train"] == 2 and "test" not in one
    others = [{"train": [bad(3), bad(6)]}, {"test": [bad(3), bad(5)]}, {"train": [bad(3)]}]
    assert one["sha256"] not in {summary(other)["sha256"] for other in others}
    assert summary({}) == summary({"train": []}) == {} and note_of({"train": []}) == ()


def test_causes_are_counted():
    image = Skipped(row=1, where="a.png", cause="unreadable image")
    assert causes_of([bad(0), image, bad(2)]) == "no label: 2, unreadable image: 1"


def with_missing(folder: Path, count: int, size: int = 20) -> Path:
    values = [NAN if i < count else float(i) for i in range(size)]
    return write_table(folder / "x.parquet", {"a": values, "label": [0, 1] * (size // 2)})


def with_unlabelled(folder: Path, count: int, size: int = 20) -> Path:
    label = [None if i < count else i % 2 for i in range(size)]
    return write_table(folder / "x.parquet", {"a": np.arange(float(size)), "label": label})


def with_both(folder: Path, count: int, size: int = 20) -> Path:
    label = [None if i < count // 2 else i % 2 for i in range(size)]
    values = [NAN if count // 2 <= i < count else float(i) for i in range(size)]
    return write_table(folder / "x.parquet", {"a": values, "label": label})


def with_images(folder: Path, count: int, size: int = 20) -> Path:
    images = [b"no image" if i < count else png(i) for i in range(size)]
    return write_images(folder / "x.parquet", images, [i % 2 for i in range(size)])


def with_files(folder: Path, count: int, size: int = 20) -> Path:
    for i in range(size):
        write_file(folder / "ab"[i // (size // 2)] / f"{i:02}.png", b"" if i < count else png(i))
    return folder


@pytest.mark.parametrize(
    "write", [with_missing, with_unlabelled, with_both, with_images, with_files]
)
def test_f11_f12_f16_at_most_half_of_the_rows_may_be_left_out(tmp_path: Path, write):
    train = load(write(tmp_path / "half", 10), on_bad_row="skip").train
    assert train.num_examples == 10 == len(train.skipped)
    with pytest.raises(DataError, match=r"11 of 20 rows are bad \(.*half at most; first: "):
        load(write(tmp_path / "more", 11), on_bad_row="skip")


def test_f12_a_limit_does_not_make_rows_without_a_label_more_than_they_are(tmp_path: Path):
    train = load(with_unlabelled(tmp_path, 20, 100), on_bad_row="skip", limit=10).train
    assert train.num_examples == 10 and len(train.skipped) == 20


def test_f13_a_class_whose_every_row_is_bad_is_told_and_the_run_goes_on(tmp_path: Path):
    images = [b"no image" if i % 4 == 3 else png(i) for i in range(40)]
    write_images(tmp_path / "train.parquet", images, ["abcd"[i % 4] for i in range(40)])
    train = load(tmp_path, on_bad_row="skip").train
    assert "no row of 1 classes: d" in train.notes and list(train.class_count_C) == [10, 10, 10, 0]
