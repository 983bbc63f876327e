from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from raysubset.errors import DataError
from raysubset.learn.data import Dataset


def dataset(**changes) -> Dataset:
    fields = {
        "name": "toy",
        "kind": "tabular",
        "content": np.arange(12, dtype=np.float32).reshape(4, 3),
        "label_N": np.array([0, 1, 1, 0]),
        "class_names": ("no", "yes"),
        "id_N": np.array([2, 3, 7, 2**40]),
    }
    return Dataset(**{**fields, **changes})


def test_rows_are_taken_by_id_in_the_order_asked_for():
    content, label = dataset().take([2**40, 3, 3])
    np.testing.assert_array_equal(content, [[9, 10, 11], [3, 4, 5], [3, 4, 5]])
    np.testing.assert_array_equal(label, [0, 1, 1])
    assert dataset().take([])[0].shape == (0, 3)


@pytest.mark.parametrize("unknown", [0, 4, 2**41, -1])
def test_an_unknown_id_is_named(unknown):
    with pytest.raises(DataError, match=f"1 of 2 ids.*{unknown}.*row numbers"):
        dataset().take([3, unknown])


def test_ids_that_are_no_integers_are_refused():
    with pytest.raises(DataError, match="integers, not float64"):
        dataset().position_of([3.0])


def test_a_dataset_survives_pickling_and_read_only_arrays():
    rows = dataset()
    rows.content.flags.writeable = False
    rows.label_N.flags.writeable = False
    again = pickle.loads(pickle.dumps(rows, protocol=5))
    assert again.fingerprint == rows.fingerprint
    np.testing.assert_array_equal(again.content_digest_N, rows.content_digest_N)
    np.testing.assert_array_equal(rows.take([7])[0], [[6, 7, 8]])


def test_its_fields_cannot_be_set():
    with pytest.raises(FrozenInstanceError):
        dataset().name = "other"


def test_the_fingerprint_changes_with_every_field_that_it_covers():
    rows = dataset()
    others = [
        replace(rows, content=rows.content + 1),
        replace(rows, label_N=1 - rows.label_N),
        replace(rows, id_N=rows.id_N + 1),
        replace(rows, class_names=("no", "perhaps")),
        replace(rows, content=rows.content.reshape(4, 3)[:, :2]),
    ]
    assert len({rows.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_the_fingerprint_does_not_depend_on_memory_layout_name_or_notes():
    rows = dataset()
    strided = np.asfortranarray(rows.content)
    assert replace(rows, content=strided, name="b", notes=("n",)).fingerprint == rows.fingerprint


def test_digests_are_equal_just_where_the_content_is():
    content = np.array([[1, 2], [1, 2], [2, 1], [1, 2]], dtype=np.float32)
    digest = dataset(content=content).content_digest_N
    assert digest.dtype == np.uint64
    assert digest[0] == digest[1] == digest[3] != digest[2]


def test_digests_of_views_equal_those_of_copies():
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(
        dataset(content=wide[:, ::2]).content_digest_N,
        dataset(content=wide[:, ::2].copy()).content_digest_N,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content": np.zeros((4, 3))}, "float32 with 2 axes"),
        ({"kind": "image"}, "uint8 with 4 axes"),
        ({"label_N": np.array([0, 1, 1])}, "label_N has 3 entries for 4 rows"),
        ({"label_N": np.array([0, 1, 2, 0])}, "0..1"),
        ({"label_N": np.array([0, 1, 1, 0], dtype=np.int32)}, "int64"),
        ({"id_N": np.array([2, 3, 3, 4])}, "ascend and be unique"),
        ({"keys": ("a",)}, "keys has 1 entries"),
        ({"feature_names": ("a",)}, "1 feature names for 3 features"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changes, said):
    with pytest.raises(DataError, match=said):
        dataset(**changes)
