from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from raysubset.errors import DataError
from tests.learn.sources_on_disk import load, write_table


def labelled(path, label):
    size = len(label)
    return write_table(path, {"a": np.arange(size, dtype=float), "label": label})


@pytest.mark.parametrize(
    ("label", "names", "encoded"),
    [
        ([10, 9, 10, 2], ("2", "9", "10"), [2, 1, 2, 0]),
        (["b", "a", "c", "a"], ("a", "b", "c"), [1, 0, 2, 0]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), ("a", "b"), [1, 0, 1, 0]),
        (pa.array([3, 1, 3, 1], pa.uint8()), ("1", "3"), [1, 0, 1, 0]),
        (pa.array(["y", "x", "y", "x"], pa.large_string()), ("x", "y"), [1, 0, 1, 0]),
    ],
)
def test_sorted_distinct_values_become_the_classes(tmp_path, label, names, encoded):
    train = load(labelled(tmp_path / "x.parquet", label)).train
    assert train.class_names == names
    np.testing.assert_array_equal(train.label_N, encoded)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ([0, 1, -1, 1], r"1 negative labels \(.*x.parquet row 2: -1\); the allowed range is 0"),
        ([0.0, 1.0, 2.0, 1.0], r"type double \(.*row 0: 0\.0.*integers from 0, text or booleans"),
        ([0.0, float("nan"), 1.0, 1.0], r"type double .*row 1: nan"),
        ([0, None, 1, None], r"2 of 4 labels are missing \(first: .*row 1, .*row 3\)"),
        (["a", "", "b", " "], r"2 of 4 labels are missing \(first: .*row 1, .*row 3\)"),
        (pa.nulls(4), "empty in every row"),
        ([datetime.date(2020, 1, 1)] * 4, "type date32"),
        ([7, 7, 7, 7], r"has 1 class \(7\) in 4 rows"),
        (pa.array([2**63 + 1, 1, 1, 1], pa.uint64()), "beyond int64"),
    ],
)
def test_f12_a_label_that_is_no_class_is_named(tmp_path, label, said):
    with pytest.raises(DataError, match=rf"column 'label' of .*x.parquet.*{said}"):
        load(labelled(tmp_path / "x.parquet", label))


def test_f12_rows_without_a_label_are_skipped_on_request_and_counted(tmp_path):
    path = labelled(tmp_path / "x.parquet", ["b", None, "a", "", "b"])
    train = load(path, on_bad_row="skip").train
    np.testing.assert_array_equal(train.id_N, [0, 2, 4])
    np.testing.assert_array_equal(train.label_N, [1, 0, 1])
    assert "skipped 2 rows without a label" in train.notes


@pytest.mark.parametrize("part", ["validation", "tuning", "test"])
def test_f13_a_class_that_the_train_rows_lack_is_named_with_its_count(tmp_path, part):
    labelled(tmp_path / "train.parquet", ["cat", "dog"])
    labelled(tmp_path / f"{part}.parquet", ["cat", "fish", "fish", "ant"])
    with pytest.raises(
        DataError,
        match=rf"{part}.*lack: 'ant' \(1 rows\), 'fish' \(2 rows\); first: .*{part}.parquet row 1",
    ):
        load(tmp_path)


def test_numbers_in_train_and_text_in_test_are_refused(tmp_path):
    labelled(tmp_path / "train.parquet", [0, 1])
    labelled(tmp_path / "test.parquet", ["0", "1"])
    with pytest.raises(DataError, match=r"test.parquet has labels of type large_string"):
        load(tmp_path)


def test_f13_a_part_may_lack_classes_and_is_encoded_as_the_train_rows(tmp_path):
    labelled(tmp_path / "train.parquet", ["cat", "dog", "emu"])
    labelled(tmp_path / "test.parquet", ["emu", "emu"])
    test = load(tmp_path).test
    np.testing.assert_array_equal(test.label_N, [2, 2])
    assert test.class_names == ("cat", "dog", "emu")
    assert "test: no row of 2 classes: cat, dog" in test.notes


def test_classes_of_one_row_are_told(tmp_path):
    path = labelled(tmp_path / "x.parquet", ["cat", "cat", "dog"])
    assert "only one row of 1 classes: dog" in load(path).train.notes
