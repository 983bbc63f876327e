from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysubset.chain import MANIFEST
from raysubset.errors import RunFolderError
from raysubset.report.choices import read_choices, read_pool

Row = tuple[int, int, float]


def write_round(run: Path, number: int, rows: list[Row], committed: bool = True) -> Path:
    folder = run / f"rounds/{number:04d}"
    folder.mkdir(parents=True)
    ids, labels, gains = zip(*rows, strict=True) if rows else ((), (), ())
    columns = {
        "id": pa.array(ids, pa.int64()),
        "label": pa.array(labels, pa.int64()),
        "gain": pa.array(gains, pa.float32()),
    }
    pq.write_table(pa.table(columns), folder / "selection.parquet")
    if committed:
        (folder / MANIFEST).touch()
    return folder / "selection.parquet"


def some_rounds(seed: int) -> list[list[Row]]:
    """Return rounds of rows drawn with repeats, a third of them without a gain."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, 50)
    rounds: list[list[Row]] = []
    for _ in range(5):
        ids = rng.integers(0, 50, 30)
        gains = np.where(rng.random(30) < 0.3, np.nan, rng.normal(size=30)).astype(np.float32)
        rows = zip(ids.tolist(), gains.tolist(), strict=True)
        rounds.append([(i, int(label[i]), gain) for i, gain in rows])
    return rounds


@pytest.mark.parametrize("seed", range(4))
def test_the_tally_is_what_counting_by_hand_gives(tmp_path: Path, seed: int):
    rounds = some_rounds(seed)
    times: dict[int, int] = defaultdict(int)
    first: dict[int, int] = {}
    best: dict[int, float] = {}
    for number, rows in enumerate(rounds):
        write_round(tmp_path, number, rows)
        for id_, _, gain in rows:
            times[id_] += 1
            first.setdefault(id_, number)
            best[id_] = float(np.fmax(best.get(id_, np.nan), gain))
    choices = read_choices(tmp_path, 3)
    assert choices is not None
    ids = choices.tally.id_U.tolist()
    assert ids == sorted(times)
    assert choices.tally.times_U.tolist() == [times[i] for i in ids]
    assert choices.tally.first_U.tolist() == [first[i] for i in ids]
    np.testing.assert_array_equal(choices.tally.gain_U, [best[i] for i in ids])


def test_classes_are_counted_per_round_and_so_far(tmp_path: Path):
    write_round(tmp_path, 0, [(1, 0, 0.0), (2, 1, 0.0), (1, 0, 0.0)])
    write_round(tmp_path, 1, [(2, 1, 0.0), (5, 1, 0.0)])
    choices = read_choices(tmp_path, 3)
    assert choices is not None
    assert choices.chosen_RC.tolist() == [[1, 1, 0], [0, 2, 0]]
    assert choices.distinct_RC.tolist() == [[1, 1, 0], [1, 2, 0]]
    assert choices.new_R.tolist() == [2, 1]


def test_most_chosen_goes_by_times_then_gain_then_id(tmp_path: Path):
    write_round(tmp_path, 0, [(9, 0, 0.1), (3, 0, np.nan), (4, 0, np.nan), (7, 0, 0.5)])
    write_round(tmp_path, 1, [(9, 0, 0.2)])
    choices = read_choices(tmp_path, 1)
    assert choices is not None
    at = choices.tally.most_chosen(4)
    assert choices.tally.id_U[at].tolist() == [9, 7, 3, 4]


def test_a_round_that_was_not_committed_is_not_counted(tmp_path: Path):
    write_round(tmp_path, 0, [(1, 0, 0.0)])
    write_round(tmp_path, 1, [(2, 0, 0.0)], committed=False)
    choices = read_choices(tmp_path, 1)
    assert choices is not None
    assert choices.tally.id_U.tolist() == [1]


def test_labels_beyond_the_named_classes_widen_the_counts(tmp_path: Path):
    write_round(tmp_path, 0, [(1, 0, 0.0)])
    write_round(tmp_path, 1, [(2, 4, 0.0)])
    choices = read_choices(tmp_path, 2)
    assert choices is not None
    assert choices.chosen_RC.shape == (2, 5)


def test_no_selection_and_empty_selections_are_no_error(tmp_path: Path):
    assert read_choices(tmp_path, 2) is None
    write_round(tmp_path, 0, [])
    write_round(tmp_path, 1, [(3, 1, 0.0)])
    choices = read_choices(tmp_path, 2)
    assert choices is not None
    assert choices.new_R.tolist() == [0, 1]


def test_a_damaged_selection_is_named(tmp_path: Path):
    path = write_round(tmp_path, 0, [(1, 0, 0.0)])
    path.write_bytes(b"PAR1 not at all")
    with pytest.raises(RunFolderError, match=r"0000/selection\.parquet"):
        read_choices(tmp_path, 1)


def test_the_pool_counts_what_could_be_chosen_and_knows_names(tmp_path: Path):
    parts = {
        "part": ["pool", "pool", "pool", "test"],
        "id": [0, 1, 2, 0],
        "label": [0, 1, 1, 1],
        "key": ["a.png", None, "c.png", "t.png"],
        "dropped": [None, None, "duplicate", None],
    }
    pq.write_table(pa.table(parts), tmp_path / "parts.parquet")
    pool = read_pool(tmp_path, 3, np.array([0, 1]))
    assert pool is not None
    assert pool.count_C.tolist() == [1, 1, 0]
    assert pool.keys == {0: "a.png"}
    assert read_pool(tmp_path / "nowhere", 3, np.array([0])) is None
