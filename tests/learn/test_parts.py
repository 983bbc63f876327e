from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.errors import ConfigError, DataError
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts, overlap_notes, split_parts
from raysubset.learn.sources import Sources
from raysubset.learn.sources.strata import allot, rows_of_share


def rows(label, first_id: int = 0, classes: int | None = None, start: float = 0.0) -> Dataset:
    label_N = np.asarray(label, dtype=np.int64)
    values = np.arange(len(label_N), dtype=np.float32) + np.float32(start)
    classes = classes or int(label_N.max()) + 1
    return Dataset(
        name="toy",
        kind="tabular",
        content=np.stack([values, values], axis=1),
        label_N=label_N,
        class_names=tuple(str(c) for c in range(classes)),
        id_N=np.arange(first_id, first_id + len(label_N)),
    )


def split(train: Dataset, validation=None, tuning=None, test=None, seed=0, own=None) -> Parts:
    shares = {"validation": validation, "tuning": tuning, "test": test}
    return split_parts(Sources(train=train, **(own or {})), **shares, seed=seed)


def named(parts: Parts) -> dict[str, Dataset]:
    parts_of = {name: getattr(parts, name) for name in ("pool", "validation", "tuning", "test")}
    return {name: part for name, part in parts_of.items() if part is not None}


SHARE = st.none() | st.floats(0.05, 0.45)


@settings(deadline=None, max_examples=150)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    validation=SHARE,
    tuning=SHARE,
    test=SHARE,
    seed=st.integers(0, 5),
)
def test_parts_are_disjoint_whole_ascending_and_leave_the_pool_every_class(
    counts, validation, tuning, test, seed
):
    label = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        parts = named(split(rows(label), validation, tuning, test, seed))
    except DataError as error:
        assert "no row at all" in str(error)
        return
    ids = np.concatenate([part.id_N for part in parts.values()])
    assert sorted(ids) == list(range(len(label)))
    for part in parts.values():
        assert (np.diff(part.id_N) > 0).all()
        np.testing.assert_array_equal(part.label_N, label[part.id_N])
        np.testing.assert_array_equal(part.content[:, 0], part.id_N)
    assert (parts["pool"].class_count_C >= 1).all()
    for c, count in enumerate(counts):
        if count >= 3:
            assert parts["test"].class_count_C[c] >= 1
            assert parts["validation"].class_count_C[c] >= 1
        if count >= 4 and tuning is not None:
            assert parts["tuning"].class_count_C[c] >= 1


def test_sizes_are_the_floor_of_the_share_and_classes_keep_theirs():
    parts = split(rows(np.arange(1_000) % 4), validation=0.29, tuning=0.1, test=0.2)
    assert parts.describe() == {
        "pool": 488,
        "validation": 232,
        "test": 200,
        "tuning": 80,
        "classes": 4,
    }
    for part in named(parts).values():
        assert np.ptp(part.class_count_C) == 0


def test_ten_percent_of_fifty_thousand_with_a_test_part_is_five_thousand():
    own = rows(np.arange(100) % 10)
    parts = split(rows(np.arange(50_000) % 10), own={"test": own})
    assert (parts.pool.num_examples, parts.validation.num_examples) == (45_000, 5_000)
    assert parts.test is own


def test_a_share_means_the_number_that_a_person_writes():
    assert rows_of_share(0.29, 100) == 29  # 0.29 * 100 is 28.999999999999996
    assert rows_of_share(0.07, 100) == 7


def test_the_seed_alone_decides_and_other_seeds_differ():
    train = rows(np.arange(300) % 3)
    assert split(train, seed=4).fingerprint == split(train, seed=4).fingerprint
    assert split(train, seed=4).fingerprint != split(train, seed=5).fingerprint


def test_other_rows_do_not_change_the_random_order_of_a_row():
    whole = split(rows(np.arange(400) % 2), validation=0.5, test=0.5)
    more = split(rows(np.arange(400) % 2), validation=0.5, test=0.6)
    assert set(whole.test.id_N) < set(more.test.id_N)


def test_rows_with_gaps_in_their_ids_keep_them():
    train = rows(np.arange(60) % 2)
    held = train.at(np.arange(0, 60, 2)[:30])
    held = replace(held, label_N=np.arange(30) % 2)
    parts = split(held)
    ids = np.concatenate([part.id_N for part in named(parts).values()])
    assert sorted(ids) == list(range(0, 60, 2))


def test_a_class_of_one_row_stays_in_the_pool():
    parts = split(rows([0] * 20 + [1] * 20 + [2]), validation=0.4, tuning=0.4, test=0.5)
    assert [part.class_count_C[2] for part in named(parts).values()] == [1, 0, 0, 0]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan"), float("inf"), 2.0])
@pytest.mark.parametrize("part", ["validation", "tuning", "test"])
def test_a_share_outside_its_range_is_named(part, share):
    with pytest.raises(ConfigError, match=rf"--data.{part}={share}.*\(0, 1\)"):
        split(rows([0, 1] * 20), **{part: share})


def test_a_percentage_is_met_with_the_share_that_was_meant():
    with pytest.raises(ConfigError, match=r"did you mean 0\.2\?"):
        split(rows([0, 1] * 20), test=20)


def test_shares_that_leave_no_pool_are_refused():
    with pytest.raises(ConfigError, match=r"validation 0\.6 \+ tuning 0\.4 is the whole"):
        split(rows([0, 1] * 20), validation=0.6, tuning=0.4)


def test_a_share_that_gives_no_row_is_refused():
    with pytest.raises(DataError, match=r"validation=0\.001 of 32 rows.*no row at all"):
        split(rows([0, 1] * 20), validation=0.001)


def test_f13_a_class_that_the_pool_lacks_is_named():
    validation = rows([0, 1, 2, 2], classes=3)
    train = rows([0, 1] * 20, classes=3)
    with pytest.raises(DataError, match=r"validation has classes without a row.*: 2 \(2\)"):
        split(train, own={"validation": validation})


def test_f19_duplicates_and_leaks_are_counted_and_clean_parts_say_nothing():
    train = rows([0, 1] * 20)
    clean = split(train)
    assert overlap_notes(clean) == ()
    content = clean.pool.content.copy()
    content[[3, 4, 5]] = content[0]
    content[6] = clean.test.content[0]
    content[[7, 8]] = clean.validation.content[0]
    dirty = replace(clean, pool=replace(clean.pool, content=content))
    size = clean.pool.num_examples
    id_ = clean.pool.id_N
    assert overlap_notes(dirty) == (
        f"4 of {size} pool rows are exact duplicates of an earlier row "
        f"(first: id {id_[3]}, {id_[4]}, {id_[5]})",
        f"2 of {size} pool rows also stand in validation (first: id {id_[7]}, {id_[8]})",
        f"1 of {size} pool rows also stand in test (first: id {id_[6]})",
    )


@pytest.mark.parametrize(("first", "second"), [("validation", "test"), ("tuning", "test")])
def test_f19_a_row_of_the_part_that_decides_is_told_where_it_also_stands_in_test(first, second):
    clean = split(rows([0, 1] * 40), tuning=0.2)
    parts = named(clean)
    content = parts[first].content.copy()
    content[1] = parts[second].content[0]
    dirty = replace(clean, **{first: replace(parts[first], content=content)})
    size, id_ = parts[first].num_examples, parts[first].id_N[1]
    told = f"1 of {size} {first} rows also stand in {second} (first: id {id_})"
    assert overlap_notes(dirty) == (told,)


@pytest.mark.parametrize(("name", "use"), [("validation", "drives"), ("tuning", "chooses")])
def test_f20_a_test_part_that_is_a_copy_of_the_part_that_decides_is_refused(name, use):
    train, test = rows([0, 1] * 20), rows([0, 1] * 5, start=100)
    # the same rows in another order, under other ids
    copy = replace(test, content=test.content[::-1], label_N=test.label_N[::-1])
    said = rf"very rows of the {name} part \(10, .*{use}.*--data.test"
    with pytest.raises(DataError, match=said):
        split(train, own={name: copy, "test": test})
    other = replace(copy, label_N=1 - copy.label_N)  # the same content, and other labels: not it
    assert split(train, own={name: other, "test": test}).test is test


def test_f20_without_a_test_part_one_is_split_off_that_shares_no_row_with_validation():
    validation = rows([0, 1] * 5, start=100)
    parts = split(rows([0, 1] * 20), own={"validation": validation})
    assert parts.validation is validation and parts.test.num_examples == 8
    assert not np.isin(parts.test.content_digest_N, validation.content_digest_N).any()
    assert not set(parts.test.id_N) & set(parts.pool.id_N)


def test_the_notes_of_the_train_rows_go_with_the_pool():
    parts = split(replace(rows([0, 1] * 20), notes=("skipped one",)))
    assert [part.notes for part in named(parts).values()] == [("skipped one",), (), ()]


@settings(deadline=None, max_examples=200)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=8), data=st.data())
def test_allotted_rows_hold_their_sum_and_bounds_and_stay_near_the_share(counts, data):
    count_C = np.array(counts, dtype=np.int64)
    low_C = np.minimum(count_C, data.draw(st.integers(0, 2)))
    total = data.draw(st.integers(int(low_C.sum()), int(count_C.sum())))
    size_C = allot(count_C, total, low_C, count_C)
    assert size_C.sum() == total
    assert (low_C <= size_C).all() and (size_C <= count_C).all()
    if not low_C.any() and total:
        share_C = total * count_C / count_C.sum()
        assert (np.abs(size_C - share_C) < 1).all()
    for a, b in combinations(range(len(counts)), 2):
        if counts[a] == counts[b]:
            assert abs(int(size_C[a]) - int(size_C[b])) <= 1
