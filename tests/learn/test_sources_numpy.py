"""Arrays in npz and npy are read by the names that people give them; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import ConfigError, DataError
from tests.learn.sources_on_disk import load

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
Y = np.arange(12) % 3
CHW = X.transpose(0, 3, 1, 2)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def npy(folder: Path, **arrays: Any) -> Path:
    (folder / "arrays").mkdir()
    for name, array in arrays.items():
        np.save(folder / "arrays" / f"{name}.npy", array)
    return folder / "arrays"


NAMINGS = {
    "keras": ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
    "medmnist": (
        *("train_images", "train_labels", "val_images", "val_labels"),
        *("test_images", "test_labels"),
    ),
    "capitals": ("X_train", "Y_train", "X_valid", "Y_valid", "X_test", "Y_test"),
    "joined": ("xtrain", "ytrain", "xval", "yval", "xtest", "ytest"),
    "words": (
        *("train_data", "train_targets", "validation_data", "validation_targets"),
        *("test-data", "test-targets"),
    ),
}


@pytest.mark.parametrize("write", [npz, npy])
@pytest.mark.parametrize("naming", NAMINGS)
def test_parts_and_labels_are_found_by_the_usual_names(tmp_path: Path, naming: str, write: Any):
    names = NAMINGS[naming]
    values = (X, Y, X[:4], Y[:4], X[4:9], Y[4:9])
    found = load(write(tmp_path, **dict(zip(names, values, strict=True))))
    for part, x, y in (
        (found.train, X, Y),
        (found.validation, X[:4], Y[:4]),
        (found.test, X[4:9], Y[4:9]),
    ):
        assert part is not None
        np.testing.assert_array_equal(part.content, x.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(part.label_N, y)


@pytest.mark.parametrize("x", ["x", "X", "images", "data"])
@pytest.mark.parametrize("y", ["y", "labels", "target"])
def test_arrays_without_a_part_are_train_rows(tmp_path: Path, x: str, y: str):
    found = load(npz(tmp_path, **{x: X, y: Y}))
    assert found.train.num_examples == 12 and found.test is None


SHAPES = {
    "NHW": (X[..., 0], X[..., 0][:, None]),
    "NHW1": (X[..., :1], CHW[:, :1]),
    "N1HW": (CHW[:, :1], CHW[:, :1]),
    "NHWC": (X, CHW),
    "NCHW": (CHW, CHW),
    "fortran": (np.asfortranarray(X), CHW),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_images_of_every_layout_and_type_are_the_same_bytes(tmp_path: Path, shape: str, dtype: str):
    values, wanted = SHAPES[shape]
    given = values if dtype == "uint8" else values.astype(dtype)
    given = given / given.dtype.type(255) if given.dtype.kind == "f" else given
    train = load(npz(tmp_path, x=given, y=Y)).train
    np.testing.assert_array_equal(train.content, wanted)
    assert train.notes == ()


def test_floats_between_two_bytes_are_rounded_and_that_is_told(tmp_path: Path):
    given = RNG.uniform(size=(12, 4, 4)).astype(np.float32)
    train = load(npz(tmp_path, x=given, y=Y)).train
    assert np.abs(train.content[:, 0] / 255 - given).max() <= 0.5 / 255 + 1e-6
    assert "12 images were rounded from floats" in " ".join(train.notes)


def test_a_layout_in_doubt_is_asked_for(tmp_path: Path):
    both = RNG.integers(0, 256, (12, 3, 7, 3), dtype=np.uint8)
    path = npz(tmp_path, x=both, y=Y)
    with pytest.raises(DataError, match=r"\(3, 7, 3\).*--data.layout NHWC or --data.layout NCHW"):
        load(path)
    np.testing.assert_array_equal(load(path, layout="NCHW").train.content, both)
    wanted = both.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(load(path, layout="NHWC").train.content, wanted)


def test_feature_vectors_are_the_table_with_these_columns(tmp_path: Path):
    rows = RNG.normal(size=(12, 3))
    train = load(npz(tmp_path, x=rows, y=Y)).train
    header = "x0,x1,x2,label"
    body = [",".join(map(str, [*row, y])) for row, y in zip(rows.tolist(), Y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([header, *body]))
    table = load(tmp_path / "t.csv").train
    assert train.kind == "tabular"
    assert train.fingerprint == table.fingerprint and train.feature_names == table.feature_names


def test_f11_a_feature_that_is_not_finite_is_named_or_left_out(tmp_path: Path):
    rows = RNG.normal(size=(12, 3))
    rows[5, 1] = np.nan
    path = npz(tmp_path, x=rows, y=Y)
    with pytest.raises(DataError, match=r"column 'x1' .*data.npz row 5"):
        load(path)
    assert [bad.row for bad in load(path, on_bad_row="skip").train.skipped] == [5]


LABELS = {
    "column": (Y[:, None], ("0", "1", "2")),
    "text": (np.array(["b", "a", "c"])[Y], ("a", "b", "c")),
    "bytes": (Y.astype(np.uint8), ("0", "1", "2")),
    "truth": (Y == 1, ("False", "True")),
    "big-endian": (Y.astype(">i4"), ("0", "1", "2")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_many_types_are_classes(tmp_path: Path, kind: str):
    values, names = LABELS[kind]
    train = load(npz(tmp_path, x=X, y=values)).train
    assert train.class_names == names
    flat = values.reshape(-1).tolist()
    assert [train.class_names[c] for c in train.label_N] == [str(v) for v in flat]


def test_another_name_of_the_labels_and_keys_are_read(tmp_path: Path):
    keys = np.array([f"k{i}" for i in range(12)])
    arrays = {"x": X, "coarse": Y, "fine": 11 - np.arange(12), "filenames": keys, "other": Y}
    train = load(npz(tmp_path, **arrays), label_column="fine").train
    np.testing.assert_array_equal(train.label_N, 11 - np.arange(12))
    assert train.keys == tuple(keys) and "ignored the arrays coarse, other" in train.notes[0]


def test_an_array_and_its_labels_may_stand_in_two_files(tmp_path: Path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", Y)
    np.savez(tmp_path / "c.npz", y=Y, other=11 - np.arange(12))
    train = load(tmp_path / "a.npy", labels=tmp_path / "b.npy").train
    assert train.fingerprint == load(npz(tmp_path, x=X, y=Y)).train.fingerprint
    assert (
        train.fingerprint == load(tmp_path / "a.npy", labels=tmp_path / "c.npz").train.fingerprint
    )
    other = load(tmp_path / "a.npy", labels=f"{tmp_path}/c.npz:other").train
    np.testing.assert_array_equal(other.label_N, 11 - np.arange(12))
    with pytest.raises(DataError, match=r"has no labels of the train part.*--data.labels FILE"):
        load(tmp_path / "a.npy")


def test_a_labels_array_in_the_folder_of_arrays_is_no_data(tmp_path: Path):
    folder = npy(tmp_path, x=X, y=Y)
    np.save(folder / "labels.npy", 2 - Y)
    with pytest.raises(DataError, match=r"labels and y both look like the y|y and labels both"):
        load(folder)
    train = load(folder, labels=folder / "labels.npy").train
    np.testing.assert_array_equal(train.label_N, 2 - Y)


def test_a_part_of_ones_own_is_a_file(tmp_path: Path):
    np.savez(tmp_path / "more.npz", x=X[:5], y=Y[:5])
    found = load(npz(tmp_path, x=X, y=Y, x_test=X, y_test=Y), test=tmp_path / "more.npz")
    assert found.test is not None and found.test.num_examples == 5
    with pytest.raises(ConfigError, match="is the train part already"):
        load(npz(tmp_path, x=X, y=Y), test=tmp_path / "data.npz")


REFUSED = {
    "nothing": ({"a": X}, "has the arrays a; wanted"),
    "no labels": ({"x": X}, "has no labels of the train part"),
    "no images": ({"y": Y}, "has no images or features of the train part"),
    "only test": ({"x_test": X, "y_test": Y}, "no train ones"),
    "lengths": ({"x": X, "y": Y[:5]}, "y has 5 labels for the 12 rows of x"),
    "one-hot": ({"x": X, "y": np.eye(3)[Y]}, "argmax"),
    "float labels": ({"x": X, "y": Y.astype(float)}, "astype"),
    "two": ({"x": X, "images": X, "y": Y}, "x and images both look like the x"),
    "normalised": ({"x": X / 50 - 2.0, "y": Y}, "values from -2 to .*Leave normalisation out"),
    "nan": ({"x": np.full((12, 4, 4), np.nan), "y": Y}, "values from nan"),
    "deep": ({"x": X.astype(np.uint16) * 200, "y": Y}, "uint16 values from"),
    "channels": ({"x": np.zeros((12, 4, 4, 5), np.uint8), "y": Y}, "no axis has 1 or 3"),
    "axes": ({"x": np.zeros((12, 2, 4, 4, 3), np.uint8), "y": Y}, "has shape"),
    "empty": ({"x": X[:0], "y": Y[:0]}, r"shape \(0, 6, 5, 3\)"),
    "text": ({"x": np.array([["a"]] * 12), "y": Y}, "type <U1"),
    "kinds": ({"x": X, "y": Y, "x_test": X[:, 0, :, 0], "y_test": Y}, "images and test feature"),
    "keys": ({"x": X, "y": Y, "keys": np.zeros((12, 2))}, "keys has shape"),
    "objects": ({"x": X, "y": np.array([{}] * 12, dtype=object)}, "cannot be read as numpy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_are_no_data_are_refused_by_name(tmp_path: Path, case: str):
    arrays, said = REFUSED[case]
    path = npz(tmp_path, **arrays)
    with pytest.raises(DataError, match=said) as error:
        load(path)
    assert "data.npz" in str(error.value)


def test_f17_a_damaged_file_is_named(tmp_path: Path):
    path = npz(tmp_path, x=X, y=Y)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"data\.npz"):
            load(path)
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").rename(path)  # not what its name says, and no arrays with names
    with pytest.raises(DataError, match=r"data\.npz"):
        load(path)
    folder = npy(tmp_path, x=X, y=Y)
    (folder / "y.npy").write_bytes((folder / "y.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match=r"y\.npy"):
        load(folder)


def test_numbers_that_arrow_has_no_type_for_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"array 'x' of .* type (float128|longdouble)"):
        load(npz(tmp_path, x=X[:, :, 0, 0].astype(np.longdouble), y=Y))
