"""What a table's columns become: saved as plain JSON, and what scikit-learn would make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from raysubset.errors import ConfigError, DataError, RunFolderError
from raysubset.learn.columns import Column, differences, features_of
from raysubset.learn.normalize import fit_normalize
from raysubset.learn.transform import TRANSFORM, Transform, read_transform
from tests.learn.sources_on_disk import load, write_file, write_table

ROWS = 60


def people(seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "age": draw.integers(18, 90, ROWS),
        "city": draw.choice(["Oslo", "Rome", "Lima"], ROWS),
        "income": draw.lognormal(10, 1, ROWS),
        "zone": draw.choice([1, 2, 10], ROWS),
        "label": np.arange(ROWS) % 2,
    }


def test_features_are_those_of_scikit_learns_own_transformers(tmp_path: Path):
    columns = people()
    path = write_table(tmp_path / "x.parquet", columns)
    train = load(path, categorical=("zone",)).train
    ours = fit_normalize(train.content)(torch.from_numpy(train.content.copy()))
    rows = np.array([columns[n] for n in ("age", "city", "income", "zone")], dtype=object).T
    onehot = OneHotEncoder(sparse_output=False)
    plain = ColumnTransformer(
        [("city", onehot, [1]), ("zone", OneHotEncoder(sparse_output=False), [3])],
        remainder="passthrough",
    )
    theirs = make_pipeline(plain, StandardScaler()).fit_transform(rows)
    order = [6, 0, 1, 2, 7, 3, 4, 5]  # a ColumnTransformer puts what passes through last
    assert train.feature_names is not None
    assert train.feature_names[5:] == ("zone=1", "zone=2", "zone=10")
    np.testing.assert_allclose(ours.numpy(), theirs[:, order].astype(float), atol=2e-5)


@given(st.data())
def test_a_transform_comes_back_from_json_bit_for_bit(data: st.DataObject):
    names = data.draw(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
    values = st.lists(st.text(), min_size=1, max_size=4, unique=True)
    kinds = [data.draw(st.none() | values) for _ in names]
    columns = tuple(
        Column(name=n, kind="number")
        if v is None
        else Column(name=n, kind="category", categories=tuple(v))
        for n, v in zip(names, kinds, strict=True)
    )
    size = sum(len(column.feature_names) for column in columns)
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    content = (draw.normal(size=(7, size)) * 10.0 ** draw.integers(-9, 9)).astype(np.float32)
    made = Transform(columns=columns, normalize=fit_normalize(content), pool_rows=7)
    back = Transform.of(json.loads(json.dumps(made.to_json())))
    assert (back.columns, back.pool_rows) == (columns, 7)
    assert torch.equal(back.normalize.mean, made.normalize.mean)
    assert torch.equal(back.normalize.std, made.normalize.std)
    assert [s for s in features_of(columns).values()][-1].stop == size


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', '{"format": 2, "columns": []}']
    + [
        json.dumps({"format": 1, "columns": [{"name": "a", "kind": "number", **numbers}]})
        for numbers in (
            {"mean": [0.0]},
            {"mean": [0.0], "scale": []},
            {"mean": [0.0], "scale": [0.0]},
            {"mean": ["x"], "scale": [1.0]},
            {"mean": [float("nan")], "scale": [1.0]},
            {"mean": 3, "scale": 4},
        )
    ]
    + ['{"format": 1, "columns": [{"name": 3, "kind": "number", "mean": [0], "scale": [1]}]}']
    + ['{"format": 1, "columns": ["a"]}'],
)
def test_a_damaged_transform_is_named(tmp_path: Path, text: str):
    assert read_transform(tmp_path) is None
    (tmp_path / TRANSFORM).write_text(text)
    with pytest.raises(RunFolderError, match=r"transform.json is damaged"):
        read_transform(tmp_path)


def test_what_changed_of_columns_is_told_and_their_order_is_free():
    before = [Column(name=n, kind="number") for n in "abc"]
    assert differences(before, dict.fromkeys("cab", "number")) == []
    assert differences(before, {"a": "number", "c": "category", "d": "number"}) == [
        "column 'b' is missing and 'd' is new (renamed?)",
        "column 'c' is category, but was number",
    ]
    told = differences(before, dict.fromkeys("axyc", "number"))
    assert [line.split()[1] for line in told] == ["'b'", "'x'", "'y'"]


def test_integers_are_numbers_unless_they_are_named(tmp_path: Path):
    path = write_table(tmp_path / "x.csv", {k: pa.array(v) for k, v in people().items()})
    assert load(path).train.content.shape[1] == 6
    named = load(path, categorical=("zone",)).train
    assert named.columns is not None
    assert named.columns[-1].categories == ("1", "2", "10")
    assert set(named.content[:, 5:].sum(axis=1)) == {1.0}


def test_whole_floats_and_integers_are_the_same_categories(tmp_path: Path):
    write_table(tmp_path / "train.parquet", people())
    write_table(tmp_path / "test.parquet", {**people(), "zone": people()["zone"].astype(float)})
    sources = load(tmp_path, categorical=("zone",))
    assert sources.test is not None
    np.testing.assert_array_equal(sources.train.content, sources.test.content)


def test_fractions_are_no_categories_and_missing_ones_are_bad_rows(tmp_path: Path):
    path = write_table(tmp_path / "x.parquet", people())
    with pytest.raises(DataError, match=r"--data.categorical=income: .*holds fractions such as"):
        load(path, categorical=("income",))
    gap = people()["zone"].astype(float)
    gap[[3, 5]] = np.nan, np.inf
    path = write_table(tmp_path / "gap.parquet", {**people(), "zone": gap})
    with pytest.raises(DataError, match=r"column 'zone' is missing, NaN or Inf in 2 rows"):
        load(path, categorical=("zone",))
    left = load(path, categorical=("zone",), on_bad_row="skip").train
    assert left.num_examples == ROWS - 2 and [bad.row for bad in left.skipped] == [3, 5]


def test_unseen_categories_are_noted_with_column_and_counts(tmp_path: Path):
    write_table(tmp_path / "train.parquet", people())
    city = people()["city"].astype(object)
    city[:4] = "Bern", "Bern", "Kyiv", "Bern"
    write_table(tmp_path / "test.parquet", {**people(), "city": city})
    sources = load(tmp_path)
    assert sources.test is not None
    (note,) = sources.test.notes
    assert note.startswith("test: column 'city': 4 of 60 rows hold categories that no train row")
    assert "'Bern' (3 rows), 'Kyiv' (1 rows)" in note
    assert not sources.test.content[:4, 1:4].any() and sources.test.content[4:, 1:4].any()
    assert not sources.train.notes


def test_a_part_that_is_mostly_unseen_is_refused(tmp_path: Path):
    write_table(tmp_path / "train.parquet", people())
    lower = np.char.lower(people()["city"])
    write_table(tmp_path / "test.parquet", {**people(), "city": lower})
    with pytest.raises(DataError, match=r"test.parquet \(test\): column 'city': 60 of 60 .*'Lima'"):
        load(tmp_path)


def test_columns_are_left_out_by_name_also_with_a_comma_in_it(tmp_path: Path):
    path = write_table(tmp_path / "x.csv", {k: pa.array(v) for k, v in people().items()})
    assert load(path, drop=("city", "zone")).train.feature_names == ("age", "income")
    write_file(tmp_path / "y.csv", b'"a,b",c,label\n1,2,0\n3,4,1\n')
    assert load(tmp_path / "y.csv", drop=('"a,b"',)).train.feature_names == ("c",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drop": ("cty",)}, r"--data.drop=cty: .* no such column; did you mean 'city'"),
        ({"categorical": ("Zone",)}, r"--data.categorical=Zone: .*did you mean 'zone'"),
        ({"key_column": "id"}, r"--data.key_column=id: .*no such column"),
        ({"drop": ("zone",), "categorical": ("zone",)}, r"is given as --data.drop too"),
        ({"drop": ("label",)}, r"--data.drop=label: .*is given as the labels too"),
        ({"key_column": "zone", "drop": ("zone",)}, r"is given as --data.drop too"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(tmp_path: Path, options: Any, said: str):
    path = write_table(tmp_path / "x.parquet", people())
    with pytest.raises(ConfigError, match=said):
        load(path, **options)


@pytest.mark.parametrize("option", ["drop", "categorical", "key_column"])
def test_data_without_columns_takes_no_names_of_columns(option: str):
    value = "a" if option == "key_column" else ("a",)
    with pytest.raises(ConfigError, match=rf"--data.{option}=a: digits .*no such columns"):
        load(format="digits", **{option: value})


def test_a_date_is_refused_with_what_to_do(tmp_path: Path):
    path = write_file(tmp_path / "x.csv", b"when,a,label\n2020-01-02,1,0\n2021-03-04,2,1\n")
    with pytest.raises(
        DataError, match=r"'when' has type date32.*month, weekday.*--data.drop when"
    ):
        load(path)
    assert load(path, drop=("when",)).train.feature_names == ("a",)
