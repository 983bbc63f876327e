from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from raysubset.errors import ConfigError, DataError
from tests.learn.sources_on_disk import load, write_file, write_table

LABEL = [0, 1, 0, 1]


def table(**columns):
    return {"a": [1.0, 2.0, 3.0, 4.0], "b": [True, False, True, True], **columns, "label": LABEL}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_and_booleans_become_float32_in_the_order_of_the_columns(tmp_path, suffix):
    train = load(write_table(tmp_path / f"x.{suffix}", table(c=[5, 6, 7, 8]))).train
    assert train.content.dtype == np.float32
    np.testing.assert_array_equal(train.content, [[1, 1, 5], [2, 0, 6], [3, 1, 7], [4, 1, 8]])
    assert train.feature_names == ("a", "b", "c")
    assert (train.name, train.kind, train.keys) == ("x", "tabular", None)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), "decimal"])
def test_every_number_type_is_read(tmp_path, kind):
    values = pa.array([1, 2, 3, 4]).cast(pa.float32())
    column = pa.array([Decimal(i) for i in range(1, 5)]) if kind == "decimal" else values.cast(kind)
    train = load(write_table(tmp_path / "x.parquet", table(c=column))).train
    np.testing.assert_array_equal(train.content[:, 2], [1, 2, 3, 4])


@pytest.mark.parametrize("dictionary", [False, True])
def test_text_becomes_one_hot_as_in_train_and_unseen_text_becomes_zeros(tmp_path, dictionary):
    colours = pa.array(["red", "blue", "red", "green"])
    if dictionary:
        colours = colours.dictionary_encode()
    write_table(tmp_path / "train.parquet", table(colour=colours, z=[9, 9, 9, 9]))
    write_table(tmp_path / "test.parquet", table(colour=["pink", "blue"] * 2, z=[9, 9, 9, 9]))
    sources = load(tmp_path)
    names = ("a", "b", "colour=blue", "colour=green", "colour=red", "z")
    assert sources.train.feature_names == sources.test.feature_names == names
    np.testing.assert_array_equal(
        sources.train.content[:, 2:5], [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    )
    np.testing.assert_array_equal(sources.test.content[:2, 2:6], [[0, 0, 0, 9], [1, 0, 0, 9]])


def test_a_limit_changes_neither_the_features_nor_the_classes(tmp_path):
    count = 200
    columns = {
        "a": np.arange(count, dtype=float),
        "word": [f"w{i % 40}" for i in range(count)],
        "label": [f"c{i % 3}" for i in range(count)],
    }
    path = write_table(tmp_path / "x.parquet", columns)
    whole, some = load(path).train, load(path, limit=9).train
    assert some.feature_names == whole.feature_names
    np.testing.assert_array_equal(some.content, whole.take(some.id_N)[0])
    assert list(some.class_count_C) == [3, 3, 3]


def test_a_limit_keeps_two_rows_of_a_rare_class(tmp_path):
    label = [0] * 500 + [1] * 3
    path = write_table(tmp_path / "x.parquet", {"a": np.arange(503.0), "label": label})
    assert list(load(path, limit=20).train.class_count_C) == [18, 2]


def test_a_limit_too_small_for_the_classes_is_refused(tmp_path):
    path = write_table(tmp_path / "x.parquet", table())
    with pytest.raises(ConfigError, match=r"limit=3 is too small for 2 classes; use 4"):
        load(path, limit=3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, None])
def test_f11_a_value_that_is_not_finite_is_named_with_rows_and_column(tmp_path, value):
    columns = {"a": [1.0] * 60, "b": [1.0] * 60, "label": LABEL * 15}
    columns["b"][3:28] = [value] * 25
    path = write_table(tmp_path / "x.parquet", columns)
    with pytest.raises(
        DataError, match=r"column 'b' .* in 25 rows \(.*row 3, .*row 12 and 15 more"
    ):
        load(path)
    train = load(path, on_bad_row="skip").train
    np.testing.assert_array_equal(train.id_N, [0, 1, 2, *range(28, 60)])
    assert "skipped 25 bad rows" in train.notes[0]


def test_f11_missing_text_is_a_bad_value_too(tmp_path):
    path = write_table(tmp_path / "x.parquet", table(c=["u", None, "v", "u"]))
    with pytest.raises(DataError, match=r"column 'c' is missing.*x.parquet row 1"):
        load(path)
    train = load(path, on_bad_row="skip").train
    assert train.feature_names == ("a", "b", "c=u", "c=v")
    assert train.num_examples == 3


def test_an_empty_cell_of_a_csv_file_is_missing_in_text_as_in_numbers(tmp_path):
    path = write_file(tmp_path / "x.csv", b"a,c,label\n1,u,0\n2,,1\n,v,0\n4,u,1\n")
    with pytest.raises(DataError, match=r"column 'a' .*row 2.*column 'c' .*row 1"):
        load(path)


def test_rows_that_are_all_bad_are_refused_even_with_skip(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"a": [float("nan")] * 4, "label": LABEL})
    with pytest.raises(DataError, match=r"no row is left of .*x.parquet"):
        load(path, on_bad_row="skip")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([datetime.date(2020, 1, 1)] * 4, "'when' has type date32"),
        ([datetime.datetime(2020, 1, 1)] * 4, "'when' has type timestamp"),
        ([[1, 2]] * 4, "'when' has type list"),
        ([{"x": 1}] * 4, "'when' has type struct"),
        ([b"x"] * 4, "'when' has type binary"),
        (pa.nulls(4), "'when' is missing in every row"),
    ],
)
def test_a_column_that_is_no_feature_is_refused_by_name(tmp_path, column, said):
    path = write_table(tmp_path / "x.parquet", table(when=column))
    with pytest.raises(DataError, match=rf"x.parquet: column {said}.*--data.drop when"):
        load(path)


@pytest.mark.parametrize(("rows", "categories"), [(200, 150), (5_000, 1_001)])
def test_text_that_is_a_name_is_refused_by_column_and_count(tmp_path, rows, categories):
    columns = {"who": [f"p{i % categories}" for i in range(rows)], "label": LABEL * (rows // 4)}
    path = write_table(tmp_path / "x.parquet", columns)
    with pytest.raises(DataError, match=rf"'who' has {categories:,} different values"):
        load(path)


def test_a_file_without_features_is_refused(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"label": LABEL})
    with pytest.raises(DataError, match="no column besides the label"):
        load(path)


def test_a_label_column_that_is_not_there_lists_the_columns(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"a": [1.0], "y": [1]})
    with pytest.raises(ConfigError, match=r"no column 'label'; its columns are a, y"):
        load(path)


def test_a_named_label_column_is_no_feature(tmp_path):
    path = write_table(tmp_path / "x.parquet", {"a": [1.0, 2.0], "y": [3, 4]})
    train = load(path, label_column="y").train
    assert (train.feature_names, train.class_names) == (("a",), ("3", "4"))


def test_labels_in_a_file_beside_keep_the_own_ones_out_of_the_features(tmp_path):
    path = write_table(tmp_path / "x.parquet", table(noisy=[1, 0, 1, 0]))
    beside = write_table(tmp_path / "labels.csv", {"noisy": [1, 1, 0, 1]})
    train = load(path, labels=beside, label_column="noisy").train
    assert train.feature_names == ("a", "b")
    np.testing.assert_array_equal(train.label_N, [1, 1, 0, 1])


def test_f17_a_part_with_other_columns_names_the_missing_and_the_extra(tmp_path):
    train = write_table(tmp_path / "train.parquet", table())
    other = write_table(tmp_path / "other.parquet", {"a": [1.0], "c": [1.0], "label": [1]})
    with pytest.raises(DataError, match=r"other.parquet lacks b and has c besides, unlike .*train"):
        load(train, validation=other)


def test_f17_a_part_whose_column_is_text_where_train_has_numbers_is_refused(tmp_path):
    write_table(tmp_path / "train.parquet", table())
    write_table(tmp_path / "test.parquet", {**table(), "a": ["x"] * 4})
    with pytest.raises(DataError, match=r"test.parquet: column 'a' is text, but number in"):
        load(tmp_path)


def test_columns_in_another_order_are_the_same_columns(tmp_path):
    write_table(tmp_path / "train.parquet", table())
    write_table(tmp_path / "test.parquet", dict(reversed(table().items())))
    sources = load(tmp_path)
    np.testing.assert_array_equal(sources.train.content, sources.test.content)


def test_csv_files_that_differ_in_integer_or_float_are_one_table(tmp_path):
    write_file(tmp_path / "train-0.csv", b"a,label\n1,x\n2,y\n")
    write_file(tmp_path / "train-1.csv", b"a,label\n1.5,x\n2,y\n")
    np.testing.assert_array_equal(load(tmp_path).train.content[:, 0], [1, 2, 1.5, 2])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,label\n1,0\n2\n", "x.csv cannot be read as CSV.*Expected 2 columns"),
        (b"", r"x.csv is empty \(0 bytes\)"),
        (b"a,a,label\n1,1,0\n1,1,1\n", "two columns named a"),
        (b"a,label\n", "x.csv holds no row"),
    ],
)
def test_a_damaged_csv_file_is_named(tmp_path, content, said):
    path = write_file(tmp_path / "x.csv", content)
    with pytest.raises(DataError, match=said):
        load(path)


@pytest.mark.parametrize(
    ("name", "features", "classes"),
    [("adult", 14, 2), ("dna", 180, 3), ("letter", 16, 26), ("svmguide1", 4, 2)],
)
def test_real_tables_load_with_their_own_test_part(shared_data, name, features, classes):
    sources = load(shared_data / "tabular" / name)
    assert sources.train.content.shape[1] == sources.test.content.shape[1] == features
    assert sources.train.num_classes == sources.test.num_classes == classes
    assert (sources.validation is not None) == (name == "dna")
