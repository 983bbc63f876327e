"""Trusted labels: held-out train rows get them, the pool never does, the parts stay the same."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysubset.errors import ConfigError, DataError
from raysubset.learn.parts import Parts, overlap_notes, split_parts, trained_on_validation
from raysubset.learn.sources import Sources
from tests.learn.sources_on_disk import load, png, write_file, write_images, write_table

ROWS = 90
CLEAN = np.arange(ROWS) % 3
NOISY = np.where(np.arange(ROWS) % 5 == 0, (CLEAN + 1) % 3, CLEAN)
TRUSTED: dict[str, Any] = {"label_column": "noisy", "validation_label_column": "clean"}


def columns(**changes: Any) -> dict[str, Any]:
    return {"a": np.arange(float(ROWS)), "noisy": NOISY, "clean": CLEAN, **changes}


def missing_at(*rows: int) -> pa.Array:
    return pa.array([None if i in rows else int(c) for i, c in enumerate(CLEAN)], pa.int64())


def split(sources: Sources, validation: Any = None, tuning: Any = None, test: Any = None) -> Parts:
    return split_parts(sources, validation=validation, tuning=tuning, test=test, seed=3)


def held_out(parts: Parts) -> list[Any]:
    return [part for part in (parts.validation, parts.tuning, parts.test) if part is not None]


def images(folder: Path) -> dict[str, Any]:
    cells = [{"bytes": png(i)} for i in range(ROWS)]
    path = write_table(folder / "x.parquet", {"image": cells, "noisy": NOISY, "clean": CLEAN})
    return {"path": path, **TRUSTED}


def beside_images(folder: Path) -> dict[str, Any]:
    write_images(folder / "d" / "train-0.parquet", [png(i) for i in range(ROWS)], [0] * ROWS)
    labels = write_table(folder / "d" / "human.parquet", {"noisy": NOISY, "clean": CLEAN})
    return {"path": folder / "d", "labels": labels, **TRUSTED}


def beside_class_folders(folder: Path) -> dict[str, Any]:
    for i in range(ROWS):
        write_file(folder / "d" / "any" / f"{i:03}.png", png(i))
    labels = write_table(folder / "d" / "human.csv", {"noisy": NOISY, "clean": CLEAN})
    return {"path": folder / "d", "labels": labels, **TRUSTED}


def beside_a_table(folder: Path) -> dict[str, Any]:
    path = write_table(folder / "x.csv", {"a": np.arange(float(ROWS)), "clean": CLEAN * 0})
    labels = write_table(folder / "human.csv", {"noisy": NOISY, "clean": CLEAN})
    return {"path": path, "labels": labels, **TRUSTED}


def a_table(folder: Path) -> dict[str, Any]:
    return {"path": write_table(folder / "x.parquet", columns()), **TRUSTED}


def a_csv_file(folder: Path) -> dict[str, Any]:
    return {"path": write_table(folder / "x.csv", columns()), **TRUSTED}


KINDS = [images, beside_images, beside_class_folders, beside_a_table, a_table, a_csv_file]


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_rows_have_trusted_labels_and_the_pool_has_its_own(tmp_path, kind):
    parts = split(load(**kind(tmp_path)), tuning=0.2)
    np.testing.assert_array_equal(parts.pool.label_N, NOISY[parts.pool.id_N])
    assert len(held_out(parts)) == 3
    for part in held_out(parts):
        np.testing.assert_array_equal(part.label_N, CLEAN[part.id_N])


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_are_those_without_the_option_row_by_row(tmp_path, kind):
    options = kind(tmp_path)
    parts = split(load(**options), tuning=0.2)
    plain = split(load(**{**options, "validation_label_column": None}), tuning=0.2)
    for mine, theirs in zip(held_out(parts), held_out(plain), strict=True):
        np.testing.assert_array_equal(mine.id_N, theirs.id_N)
        if kind not in (a_table, a_csv_file, beside_a_table):  # there `clean` is a feature without
            np.testing.assert_array_equal(mine.content, theirs.content)
        assert mine.keys == theirs.keys
    np.testing.assert_array_equal(parts.pool.id_N, plain.pool.id_N)
    np.testing.assert_array_equal(parts.pool.label_N, plain.pool.label_N)
    assert parts.describe() == plain.describe()


@pytest.mark.parametrize("kind", [a_table, a_csv_file, beside_a_table])
def test_the_trusted_column_is_no_feature(tmp_path, kind):
    assert load(**kind(tmp_path)).train.feature_names == ("a",)


def test_the_trusted_column_of_a_test_file_is_no_feature_and_its_labels_stay(tmp_path):
    write_table(tmp_path / "train.parquet", columns())
    write_table(tmp_path / "test.parquet", columns(noisy=np.zeros(ROWS, dtype=int)))
    sources = load(tmp_path, **TRUSTED)
    assert sources.test is not None and sources.test.feature_names == ("a",)
    parts = split(sources)
    assert parts.test is sources.test and not parts.test.label_N.any()
    np.testing.assert_array_equal(parts.validation.label_N, CLEAN[parts.validation.id_N])
    assert "test: files of their own, which keep their labels" in parts.pool.notes


def test_a_test_file_needs_no_trusted_column(tmp_path):
    write_table(tmp_path / "train.parquet", columns())
    write_table(tmp_path / "test.parquet", {"a": np.arange(9.0), "noisy": NOISY[:9]})
    np.testing.assert_array_equal(load(tmp_path, **TRUSTED).test.label_N, NOISY[:9])


def test_a_limit_keeps_the_trusted_label_with_its_row(tmp_path):
    parts = split(load(**a_table(tmp_path), limit=40))
    assert parts.pool.num_examples < 40
    for part in held_out(parts):
        np.testing.assert_array_equal(part.label_N, CLEAN[part.id_N])


@pytest.mark.parametrize("limit", [None, 60])
def test_the_share_that_differs_is_told_exactly(tmp_path, limit):
    parts = split(load(**a_table(tmp_path), limit=limit), tuning=0.2)
    ids = np.concatenate([part.id_N for part in held_out(parts)])
    other = int((NOISY[ids] != CLEAN[ids]).sum())
    told = [note for note in parts.pool.notes if "trusted labels" in note]
    assert told == [
        f"test, validation, tuning: trusted labels, from clean; {other} of {len(ids)} "
        f"({100 * other / len(ids):.1f} %) differ from noisy, which the pool keeps"
    ]


def test_nothing_is_told_without_the_option(tmp_path):
    assert not split(load(a_table(tmp_path)["path"], label_column="noisy")).pool.notes


def test_the_train_labels_themselves_may_be_the_trusted_ones(tmp_path):
    path = a_table(tmp_path)["path"]
    both = load(path, label_column="clean", validation_label_column="clean")
    plain = load(path, label_column="clean")
    assert split(both).fingerprint == split(plain).fingerprint
    assert "(0.0 %) differ from clean" in split(both).pool.notes[0]


def test_the_fingerprint_follows_trusted_labels_of_held_out_rows_alone(tmp_path):
    def parts_with(clean: np.ndarray) -> Parts:
        return split(load(write_table(tmp_path / "x.parquet", columns(clean=clean)), **TRUSTED))

    parts = parts_with(CLEAN)
    for row, same in ((parts.pool.id_N[0], True), (parts.validation.id_N[0], False)):
        other = CLEAN.copy()
        other[row] = (other[row] + 1) % 3
        assert (parts_with(other).fingerprint == parts.fingerprint) is same


def test_controls_that_train_on_validation_rows_train_on_trusted_labels(tmp_path):
    parts = split(load(**a_table(tmp_path)), validation=0.4)
    keep = np.ones(parts.pool.num_examples, dtype=bool)
    union = trained_on_validation(parts, keep, alone=False).pool
    held = np.isin(union.id_N, parts.validation.id_N)
    assert held.sum() == parts.validation.num_examples
    np.testing.assert_array_equal(union.label_N[held], CLEAN[union.id_N[held]])
    np.testing.assert_array_equal(union.label_N[~held], NOISY[union.id_N[~held]])
    alone = trained_on_validation(parts, keep, alone=True).pool
    np.testing.assert_array_equal(alone.label_N, CLEAN[alone.id_N])
    assert (NOISY[alone.id_N] != CLEAN[alone.id_N]).any(), "else this would tell nothing"


def test_duplicates_across_parts_are_counted_whatever_their_labels(tmp_path):
    path = write_table(tmp_path / "x.csv", {"a": np.arange(ROWS) // 2})
    labels = write_table(tmp_path / "l.csv", {"noisy": NOISY, "clean": CLEAN})
    plain = split(load(path, labels=labels, label_column="noisy"))
    assert overlap_notes(split(load(path, labels=labels, **TRUSTED))) == overlap_notes(plain) != ()


def test_text_labels_and_declared_names_are_encoded_as_the_train_labels(tmp_path):
    names = np.array(["cat", "dog", "emu"])
    path = write_table(tmp_path / "x.parquet", columns(noisy=names[NOISY], clean=names[CLEAN]))
    parts = split(load(path, **TRUSTED))
    np.testing.assert_array_equal(parts.test.label_N, CLEAN[parts.test.id_N])
    assert parts.test.class_names == tuple(names)


def declared(path: Path, noisy: list[str] | None, clean: list[str] | None) -> Path:
    features = {k: {"names": v} for k, v in (("noisy", noisy), ("clean", clean)) if v}
    about = json.dumps({"info": {"features": features}})
    table = pa.table({"noisy": NOISY, "clean": CLEAN})
    return write_table(path, table.replace_schema_metadata({"huggingface": about}))


@pytest.mark.parametrize("clean", [["cat", "dog", "emu"], ["cat", "dog", "emu", "fox"], None])
def test_declared_class_names_of_the_labels_file_keep_working(tmp_path, clean):
    labels = declared(tmp_path / "l.parquet", ["cat", "dog", "emu"], clean)
    path = write_table(tmp_path / "x.csv", {"a": np.arange(float(ROWS))})
    parts = split(load(path, labels=labels, **TRUSTED))
    assert parts.pool.class_names == parts.test.class_names == ("cat", "dog", "emu")
    np.testing.assert_array_equal(parts.test.label_N, CLEAN[parts.test.id_N])


@pytest.mark.parametrize("clean", [["dog", "cat", "emu"], ["cat", "dog"]])
def test_numbers_that_stand_for_other_classes_are_refused_with_both_named(tmp_path, clean):
    labels = declared(tmp_path / "l.parquet", ["cat", "dog", "emu"], clean)
    path = write_table(tmp_path / "x.csv", {"a": np.arange(float(ROWS))})
    with pytest.raises(DataError, match=r"column 'clean' of .* calls class .*'noisy' of .* calls"):
        load(path, labels=labels, **TRUSTED)


@pytest.mark.parametrize(
    ("clean", "said"),
    [
        (np.array(["a", "b", "c"])[CLEAN], r"'clean' .* type large_string.*'noisy' .* have int64"),
        (CLEAN + 1, r"column 'clean' of .* classes that the train rows lack: 3 \(30 rows\)"),
        (CLEAN - 1, r"column 'clean' of .* negative labels"),
        (CLEAN / 2, r"column 'clean' .* type double.*another one with --data.validation_label_col"),
        (pa.nulls(ROWS), r"column 'clean' of .* is empty in every row"),
    ],
)
def test_trusted_labels_that_are_not_those_of_the_train_rows_are_refused(tmp_path, clean, said):
    with pytest.raises(DataError, match=said):
        load(write_table(tmp_path / "x.parquet", columns(clean=clean)), **TRUSTED)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_is_met_with_the_nearest_and_all_others(tmp_path, kind):
    with pytest.raises(
        DataError, match=r"--data.validation_label_column=clear: .*did you mean 'clean'\? .*noisy"
    ):
        load(**{**kind(tmp_path), "validation_label_column": "clear"})


def test_a_file_of_the_train_rows_without_the_column_is_named(tmp_path):
    write_images(tmp_path / "train-0.parquet", [png(0), png(1)], [0, 1], clean=[0, 1])
    write_images(tmp_path / "train-1.parquet", [png(2), png(3)], [0, 1])
    with pytest.raises(DataError, match=r"train-1.parquet has columns"):
        load(tmp_path, validation_label_column="clean")


def test_a_missing_trusted_label_matters_in_held_out_rows_alone(tmp_path):
    pool = split(load(**a_table(tmp_path))).pool
    path = write_table(tmp_path / "x.parquet", columns(clean=missing_at(*pool.id_N)))
    parts = split(load(path, **TRUSTED))
    np.testing.assert_array_equal(parts.pool.label_N, NOISY[parts.pool.id_N])
    assert parts.pool.num_examples == pool.num_examples


def test_held_out_rows_without_a_trusted_label_are_refused_by_name(tmp_path):
    rows = split(load(**a_table(tmp_path))).validation.id_N[[1, 3]]
    path = write_table(tmp_path / "x.parquet", columns(clean=missing_at(*rows)))
    said = rf"2 of \d+ validation rows .*first: .*parquet row {rows[0]}, .*parquet row {rows[1]}\)"
    with pytest.raises(DataError, match=rf"column 'clean' of .*{said}.*on_bad_row skip"):
        split(load(path, **TRUSTED))


def test_held_out_rows_without_a_trusted_label_are_left_out_on_request_and_told(tmp_path):
    whole = split(load(**a_table(tmp_path)))
    rows = whole.validation.id_N[[1, 3]]
    path = write_table(tmp_path / "x.parquet", columns(clean=missing_at(*rows)))
    parts = split(load(path, **TRUSTED, on_bad_row="skip"))
    np.testing.assert_array_equal(parts.validation.id_N, np.delete(whole.validation.id_N, [1, 3]))
    np.testing.assert_array_equal(parts.pool.id_N, whole.pool.id_N)
    np.testing.assert_array_equal(parts.test.id_N, whole.test.id_N)
    told = [note for note in parts.pool.notes if note.startswith("validation: left out 2 of ")]
    assert len(told) == 1 and f"row {rows[0]}," in told[0]


def test_a_part_of_which_no_row_is_left_is_refused_even_with_skip(tmp_path):
    rows = split(load(**a_table(tmp_path))).validation.id_N
    path = write_table(tmp_path / "x.parquet", columns(clean=missing_at(*rows)))
    with pytest.raises(DataError, match=r"none of the \d+ validation rows has a label there"):
        split(load(path, **TRUSTED, on_bad_row="skip"))


def test_a_class_that_trusted_labels_take_from_a_part_is_told(tmp_path):
    parts = split(load(**a_table(tmp_path)))
    clean = CLEAN.copy()
    clean[parts.validation.id_N] = 0
    path = write_table(tmp_path / "x.parquet", columns(clean=clean))
    notes = split(load(path, **TRUSTED)).pool.notes
    assert "validation: no row of 2 classes by clean: 1, 2" in notes


def test_a_labels_file_of_another_length_is_refused(tmp_path):
    path = write_table(tmp_path / "x.csv", {"a": np.arange(float(ROWS))})
    labels = write_table(tmp_path / "l.csv", {"noisy": [0, 1], "clean": [0, 1]})
    with pytest.raises(DataError, match="2 rows for 90 train rows"):
        load(path, labels=labels, **TRUSTED)


@pytest.mark.parametrize("source", ["digits", "cifar10", "folder"])
def test_data_without_a_table_is_refused_with_the_remedy(tmp_path, source):
    for i in range(4):
        write_file(tmp_path / str(i % 2) / f"{i}.png", png(i))
    options = {"path": tmp_path} if source == "folder" else {"format": source}
    with pytest.raises(ConfigError, match=r"has no table with such a column.*--data.labels FILE"):
        load(**options, validation_label_column="clean")


def test_digits_with_a_labels_file_have_trusted_labels(tmp_path):
    digit = load(format="digits").train.label_N
    noisy = np.where(np.arange(len(digit)) % 4 == 0, (digit + 1) % 10, digit)
    labels = write_table(tmp_path / "l.csv", {"noisy": noisy, "clean": digit})
    parts = split(load(format="digits", labels=labels, **TRUSTED))
    np.testing.assert_array_equal(parts.validation.label_N, digit[parts.validation.id_N])
    np.testing.assert_array_equal(parts.pool.label_N, noisy[parts.pool.id_N])


def test_parts_that_all_have_files_of_their_own_leave_the_option_no_effect(tmp_path):
    for start, name in enumerate(("train", "val", "test")):
        rows = columns(a=np.arange(float(ROWS)) + ROWS * start)
        write_table(tmp_path / f"{name}.parquet", rows)
    with pytest.raises(ConfigError, match=r"would change nothing.*--data.validation 0\.1"):
        load(tmp_path, **TRUSTED)
    for share in ({"validation": 0.2}, {"tuning": 0.2}, {"test": 0.2}):
        parts = split(load(tmp_path, **TRUSTED, **share), **share)
        part = getattr(parts, next(iter(share)))
        np.testing.assert_array_equal(part.label_N, CLEAN[part.id_N])


def test_sources_with_trusted_labels_survive_the_way_to_another_process(tmp_path):
    for kind in (a_table, beside_images):
        sources = load(**kind(tmp_path / kind.__name__))
        again = pickle.loads(pickle.dumps(sources))
        assert split(again).fingerprint == split(sources).fingerprint
        assert again.trusted.row_name(7) == sources.trusted.row_name(7)


def test_without_a_held_out_part_the_pool_is_as_ever(tmp_path):
    sources = load(**a_table(tmp_path))
    some = sources.train.at(np.arange(10))
    own = replace(sources, validation=sources.train, test=some)
    assert split(own).pool.label_N.tolist() == NOISY.tolist()


def test_real_cifar10_is_selected_from_noisy_labels_and_judged_by_clean_ones(shared_data):
    folder = shared_data / "cifar10"
    options = {"labels": folder / "human-labels.parquet", "label_column": "worse_label"}
    sources = load(folder, **options, validation_label_column="clean_label", limit=400)
    parts, plain = split(sources), split(load(folder, **options, limit=400))
    clean = pq.read_table(options["labels"])["clean_label"].to_numpy()
    np.testing.assert_array_equal(parts.validation.label_N, clean[parts.validation.id_N])
    assert parts.pool.fingerprint == plain.pool.fingerprint
    np.testing.assert_array_equal(parts.validation.content, plain.validation.content)
    assert (parts.validation.label_N != plain.validation.label_N).mean() > 0.2
    assert parts.test.fingerprint == plain.test.fingerprint
