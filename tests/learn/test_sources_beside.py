"""Labels in a file of their own: FILE:COLUMN, and by the keys of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import ConfigError, DataError
from raysubset.learn.sources.beside import with_column
from tests.learn.sources_on_disk import load, png, write_file, write_table

ROWS = 12
KEYS = [f"{'abc'[i // 4]}/{i % 4}.png" for i in range(ROWS)]


def folder(tmp_path: Path) -> Path:
    """Write images in three class folders."""
    for i, key in enumerate(KEYS):
        write_file(tmp_path / "images" / key, png(i))
    return tmp_path / "images"


def parquet(tmp_path: Path) -> Path:
    """Write images with these paths into Parquet, in the same order."""
    cells = [{"bytes": png(i), "path": key} for i, key in enumerate(KEYS)]
    return write_table(
        tmp_path / "i.parquet", {"image": cells, "label": [i // 4 for i in range(12)]}
    )


def labels(tmp_path: Path, file: str = "labels.csv", **columns: Any) -> Path:
    return write_table(tmp_path / file, columns)


SPLIT = {
    "y.csv": ("y.csv", None),
    "y.csv:species": ("y.csv", "species"),
    "a/y.csv:my species": ("a/y.csv", "my species"),
    "y.csv:": ("y.csv:", None),
    ":species": (":species", None),
    "C:labels.csv": ("C:labels.csv", None),
    "C:\\data\\labels.csv": ("C:\\data\\labels.csv", None),
    "C:\\data\\labels.csv:species": ("C:\\data\\labels.csv", "species"),
    "s3://bucket/labels.csv": ("s3://bucket/labels.csv", None),
    "s3://bucket/labels.csv:species": ("s3://bucket/labels.csv", "species"),
}


@pytest.mark.parametrize("text", SPLIT)
def test_a_column_is_what_stands_after_the_file_and_no_drive_nor_uri(text: str):
    assert with_column(text, None) == SPLIT[text]


def test_a_file_that_is_there_under_the_whole_name_is_one(tmp_path: Path):
    path = labels(tmp_path, "y:b.csv", label=[0, 1])
    assert with_column(str(path), None) == (str(path), None)


def test_file_and_column_in_one_word_are_the_two_options(tmp_path: Path):
    images = folder(tmp_path)
    side = labels(tmp_path, label=[0] * 11 + [1], species=list("uvwx") * 3)
    one = load(images, labels=f"{side}:species").train
    two = load(images, labels=side, label_column="species").train
    assert one.fingerprint == two.fingerprint and one.class_names == tuple("uvwx")
    assert load(images, labels=f"{side}:species", label_column="species").train.keys == one.keys
    with pytest.raises(
        ConfigError, match=r"names the column 'species'.*label_column=label another"
    ):
        load(images, labels=f"{side}:species", label_column="label")
    with pytest.raises(ConfigError, match=r"label_column=kind: .* has no column 'kind'"):
        load(images, labels=f"{side}:kind")


@pytest.mark.parametrize("source", [folder, parquet])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_joined_by_key_are_those_row_by_row_in_whatever_order(tmp_path, source, suffix):
    values = list("uvw") * 4
    data = source(tmp_path)
    rows = labels(tmp_path, f"rows{suffix}", label=values)
    order = np.random.default_rng(0).permutation(ROWS)
    mixed = labels(
        tmp_path,
        f"keys{suffix}",
        name=[*(KEYS[i] for i in order), "c/more.png"],
        label=[*(values[i] for i in order), "w"],
    )
    by_key = load(data, labels=mixed, labels_key="name").train
    assert by_key.fingerprint == load(data, labels=rows).train.fingerprint
    assert "ignored 1 keys of" in " ".join(by_key.notes) and "c/more.png" in " ".join(by_key.notes)


def test_trusted_labels_are_joined_too(tmp_path: Path):
    data = parquet(tmp_path)
    columns = {"label": list("uvw") * 4, "clean": list("vwu") * 4}
    rows = labels(tmp_path, "rows.csv", **columns)
    turned = {name: values[::-1] for name, values in columns.items()}
    keys = labels(tmp_path, "keys.csv", name=KEYS[::-1], **turned)
    how = {"validation_label_column": "clean"}
    one = load(data, labels=rows, **how)
    two = load(data, labels=keys, labels_key="name", **how)
    assert one.trusted is not None and two.trusted is not None
    np.testing.assert_array_equal(one.trusted.label_N, two.trusted.label_N)
    assert two.trusted.row_name(0).endswith("key a/0.png")


def test_f12_a_row_that_the_file_lacks_has_no_label(tmp_path: Path):
    side = labels(tmp_path, name=KEYS[:-1], label=(list("uvw") * 4)[:-1])
    with pytest.raises(DataError, match=r"1 of 12 labels are missing \(first: .*key c/3.png\)"):
        load(folder(tmp_path), labels=side, labels_key="name")
    train = load(folder(tmp_path), labels=side, labels_key="name", on_bad_row="skip").train
    assert [bad.row for bad in train.skipped] == [11]


REFUSED = {
    "twice in the file": (
        [*KEYS, KEYS[0]],
        f"labels.csv: a key names one row.*'{KEYS[0]}' .2 rows",
    ),
    "none matches": ([f"x{key}" for key in KEYS], "no key of .*'xa/0.png'.*'a/0.png'"),
    "missing": ([None, *KEYS[1:]], "the key is missing in .*labels.csv row 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_keys_that_name_no_row_or_two_are_refused(tmp_path: Path, case: str):
    keys, said = REFUSED[case]
    side = labels(
        tmp_path, name=keys, label=["u", "v"] * (len(keys) // 2) + ["u"] * (len(keys) % 2)
    )
    with pytest.raises(DataError, match=said):
        load(folder(tmp_path), labels=side, labels_key="name")


def test_two_rows_of_one_key_are_refused(tmp_path: Path):
    images = [png(i) for i in range(4)]
    cells = [{"bytes": image, "path": f"{i // 2}.png"} for i, image in enumerate(images)]
    path = write_table(tmp_path / "t.parquet", {"image": cells, "label": [0, 1, 0, 1]})
    side = labels(tmp_path, name=["0.png", "1.png"], label=["u", "v"])
    assert "2 keys stand for more than one row: '0.png' (2 rows)" in load(path).train.notes[0]
    with pytest.raises(DataError, match=r"the train rows: a key names one row.*'0.png' \(2 rows\)"):
        load(path, labels=side, labels_key="name")


def test_keys_where_there_are_none_are_refused(tmp_path: Path):
    side = labels(tmp_path, name=KEYS, label=list("uvw") * 4)
    with pytest.raises(ConfigError, match=r"labels_key=nam: .*did you mean 'name'"):
        load(folder(tmp_path), labels=side, labels_key="nam")
    with pytest.raises(ConfigError, match="the train rows have no keys"):
        load(format="digits", labels=side, labels_key="name")
    with pytest.raises(ConfigError, match=r"labels_key=name needs the file of labels"):
        load(folder(tmp_path), labels_key="name")
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    with pytest.raises(ConfigError, match="has no columns"):
        load(folder(tmp_path), labels=tmp_path / "y.npy", labels_key="name")


def test_keys_with_leading_zeros_are_joined_as_they_are_written(tmp_path: Path):
    keys, label = [f"{i:03d}" for i in range(ROWS)], ["a", "b", "c"] * 4
    data = write_table(tmp_path / "x.parquet", {"f": np.arange(12.0), "id": keys})
    side = labels(tmp_path, id=keys[::-1], species=label[::-1])
    train = load(data, key_column="id", labels=f"{side}:species", labels_key="id").train
    assert [train.class_names[c] for c in train.label_N] == label
