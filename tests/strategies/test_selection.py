"""The one result type."""

import csv
import io
import pickle

import numpy as np
import pytest

import raysubset as rs
from raysubset.errors import ConfigError
from tests.core.problems import lookahead_of, problem, whole


def selection(**changes) -> rs.Selection:
    values = {
        "ids": np.array([7, 3, 9, 1]),
        "gains": np.array([0.1, 1 / 3, -2e-30, np.nan], dtype=np.float32),
        "weights": np.array([1, 0.5, 2, 1], dtype=np.float32),
        "labels": np.array([0, 1, 1, 0]),
        "num_pool": 10,
        "num_classes": 2,
        "fraction": 0.4,
    }
    return rs.Selection(**(values | changes))


def test_csv_gives_back_every_bit():
    chosen = selection()
    rows = list(csv.DictReader(io.StringIO(chosen.to_csv())))
    assert [int(row["rank"]) for row in rows] == [0, 1, 2, 3]
    assert [int(row["id"]) for row in rows] == chosen.ids.tolist()
    assert [int(row["label"]) for row in rows] == chosen.labels.tolist()
    gains = np.array([float(row["gain"]) for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(gains, chosen.gains)
    weights = np.array([float(row["weight"]) for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(weights, chosen.weights)


def test_csv_goes_to_a_file_as_it_goes_to_the_caller(tmp_path):
    text = selection(weights=None).to_csv(tmp_path / "chosen.csv")
    assert (tmp_path / "chosen.csv").read_bytes() == text.encode()
    assert text.splitlines()[0] == "rank,id,label,gain,weight"
    assert text.splitlines()[1].endswith(",1.0")


def test_a_mask_marks_the_chosen_rows():
    mask = selection().mask(12)
    assert mask.dtype == bool
    assert np.flatnonzero(mask).tolist() == [1, 3, 7, 9]
    with pytest.raises(ConfigError, match=r"mask\(9\) cannot hold id 9"):
        selection().mask(9)


def test_the_repr_says_what_a_person_asks():
    label = np.repeat(np.arange(10), [48, 52, 50, 50, 50, 50, 50, 50, 50, 50])
    big = selection(
        ids=np.arange(500),
        gains=np.zeros(500, dtype=np.float32),
        weights=None,
        labels=label,
        num_pool=50_000,
        num_classes=10,
        fraction=0.01,
    )
    assert repr(big) == "500 of 50,000 (1.0 %), 10 classes 48-52 each"
    assert repr(selection()) == "4 of 10 (40.0 %), 2 classes 2 each"
    assert repr(selection(num_classes=3)) == "4 of 10 (40.0 %), 3 classes 0-2 each"


def test_slices_are_the_ids_of_epochs_and_the_length_is_the_budget():
    chosen = selection(epochs=2)
    assert len(chosen) == 2
    assert chosen.of_epoch(0).tolist() == [7, 3]
    assert chosen.of_epoch(1).tolist() == [9, 1]
    assert repr(chosen) == "2 of 10 (20.0 %), 2 classes 1 each"


def test_one_slice_serves_every_epoch():
    chosen = selection()
    assert chosen.of_epoch(0).tolist() == chosen.of_epoch(17).tolist() == [7, 3, 9, 1]


def test_unequal_slices_are_our_bug():
    with pytest.raises(AssertionError):
        selection(epochs=3)


def test_selections_travel_between_processes():
    p = problem(0)
    chosen = rs.Glister().select(whole(p), lookahead_of(p), 5)
    again = pickle.loads(pickle.dumps(chosen))
    for name in ("ids", "gains", "weights", "labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(chosen, name))
    assert again.facts == chosen.facts
    assert repr(again) == repr(chosen)


@pytest.mark.parametrize("strategy", [rs.Glister(), rs.Random(), rs.AdaptiveRandom(), rs.Full()])
def test_every_strategy_returns_the_types_that_are_promised(strategy):
    p = problem(1, n=20, dtype=np.float32)
    chosen = strategy.select(whole(p), lookahead_of(p), 5)
    assert chosen.ids.dtype == chosen.labels.dtype == np.int64
    assert chosen.gains.dtype == np.float32
    assert chosen.weights is None or chosen.weights.dtype == np.float32
    assert chosen.num_pool == 20
    assert chosen.num_classes == 3
    assert chosen.fraction == len(chosen) / 20
    label = dict(zip(p.ids_N.tolist(), p.label_N.tolist(), strict=True))
    assert chosen.labels.tolist() == [label[i] for i in chosen.ids.tolist()]
