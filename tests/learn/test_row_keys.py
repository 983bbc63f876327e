"""The person's own names of rows: a key column, file and row, or an image's path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysubset.errors import DataError
from tests.learn.sources_on_disk import load, png, write_images, write_table

LABEL = [0, 1, 0, 1, 0, 1]
TEXT = [f"row-{i}" for i in range(6)]


def table(**columns: Any) -> dict[str, Any]:
    return {"a": np.arange(6.0), **columns, "label": LABEL}


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        (TEXT, TEXT),
        (pa.array(TEXT).dictionary_encode(), TEXT),
        (pa.array(TEXT, pa.large_string()), TEXT),
        ([7, 5, -3, 0, 2**62, 1], ["7", "5", "-3", "0", str(2**62), "1"]),
        (pa.array([2**64 - 1 - i for i in range(6)], pa.uint64()), None),
    ],
)
def test_a_key_column_names_the_rows_and_is_no_feature(tmp_path: Path, keys: Any, wanted: Any):
    path = write_table(tmp_path / "x.parquet", table(id=keys))
    train = load(path, key_column="id").train
    assert train.feature_names == ("a",)
    assert list(train.keys or ()) == (wanted or [str(2**64 - 1 - i) for i in range(6)])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            ["u", "v", "u", "w", "v", "x"],
            r"gives 2 keys to more than one row: 'u' \(.*row 0, .*row 2\); 'v' \(.*row 1, .*row 4",
        ),
        ([3, 1, 3, 4, 5, 6], r"gives 1 keys to more than one row: '3' \(.*row 0, .*row 2\)"),
        (["a", None, "b", " ", "c", "d"], r"is empty in 2 rows \(first: .*row 1, .*row 3\)"),
        ([1.5, 2, 3, 4, 5, 6], r"has type double; keys are text or whole numbers"),
        ([True, False] * 3, r"has type bool"),
        (pa.nulls(6), r"is empty in every row"),
    ],
)
def test_keys_that_name_no_row_are_refused(tmp_path: Path, keys: Any, said: str):
    path = write_table(tmp_path / "x.parquet", table(id=keys))
    with pytest.raises(DataError, match=rf"--data.key_column=id: column 'id' .*{said}"):
        load(path, key_column="id")


def test_a_key_may_stand_in_two_parts_but_not_in_two_files_of_one(tmp_path: Path):
    for name in ("train-0", "test"):
        write_table(tmp_path / f"{name}.parquet", table(id=TEXT))
    sources = load(tmp_path, key_column="id")
    assert sources.test is not None
    assert list(sources.train.keys or ()) == list(sources.test.keys or ()) == TEXT
    write_table(tmp_path / "train-1.parquet", table(id=TEXT))
    with pytest.raises(DataError, match=r"6 keys .*train-0.parquet row 0, .*train-1.parquet row 0"):
        load(tmp_path, key_column="id")


def test_bad_rows_are_called_by_their_key(tmp_path: Path):
    columns = table(id=TEXT)
    columns["a"] = [0.0, float("nan"), 2.0, 3.0, 4.0, 5.0]
    path = write_table(tmp_path / "x.parquet", {**columns, "label": [0, 1, None, 1, 0, 1]})
    with pytest.raises(DataError, match=r"labels are missing \(first: .*row 2 \(row-2\)"):
        load(path, key_column="id")
    train = load(path, key_column="id", on_bad_row="skip").train
    assert [bad.where.rpartition(" ")[2] for bad in train.skipped] == ["(row-1)", "(row-2)"]
    assert list(train.keys or ()) == [TEXT[i] for i in train.id_N]


def test_rows_of_several_files_are_called_by_file_and_row(tmp_path: Path):
    for name in ("a", "b"):
        write_table(tmp_path / f"train-{name}.parquet", table())
    train = load(tmp_path).train
    assert list(train.keys or ()) == [f"train-{n}.parquet:{i}" for n in "ab" for i in range(6)]
    assert load(tmp_path / "train-a.parquet").train.keys is None


def test_a_limit_keeps_the_keys_of_its_rows(tmp_path: Path):
    path = write_table(tmp_path / "x.parquet", table(id=TEXT))
    train = load(path, key_column="id", limit=4).train
    assert train.num_examples == 4
    assert list(train.keys or ()) == [TEXT[i] for i in train.id_N]


def test_parquet_of_images_takes_a_column_of_file_names(tmp_path: Path):
    images, names = [png(i) for i in range(6)], [f"cat/{i}.png" for i in range(6)]
    path = write_images(tmp_path / "x.parquet", images, LABEL, file_name=names)
    assert list(load(path).train.keys or ()) == [f"x/{i}.png" for i in range(6)]
    assert list(load(path, key_column="file_name").train.keys or ()) == names
    images[2] = b"no image"
    path = write_images(tmp_path / "y.parquet", images, LABEL, file_name=names)
    with pytest.raises(DataError, match=r"row 2 \(cat/2.png\)"):
        load(path, key_column="file_name")


def test_keys_of_a_csv_file_are_what_stands_there(tmp_path: Path):
    keys = ["007", "07", "7", "0", "00", "010"]
    path = write_table(tmp_path / "x.csv", table(id=keys))
    assert load(path, key_column="id").train.keys == tuple(keys)
