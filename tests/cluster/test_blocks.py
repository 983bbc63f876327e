"""However rows are cut into blocks, a range and a subset are the same bytes; nobody gets more."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.cluster.blocks import Blocks, Reader, fetched, shares
from raysubset.cluster.dealing import Deal
from raysubset.cluster.memory import by_kind, own_bytes
from raysubset.cluster.orders import At, Count, Posted, Score, Stop
from raysubset.errors import DataError
from raysubset.learn.blocks import Block, range_rows, rows_per_block, run_of
from raysubset.learn.scoring import RowRange, ranges_of
from tests.small_runs import problem

PARTS = problem().parts


def cut(bounds: list[int]) -> list[Block]:
    """Return the pool in blocks with these bounds."""
    pool = PARTS.pool
    edges = sorted({0, *bounds, pool.num_examples})
    return [run_of(pool, a, b) for a, b in pairwise(edges)]


def blocks_of(batch: int, block_bytes: int = 1024) -> Blocks:
    """Return blocks of this many bytes that lie here instead of in a store."""
    return Blocks(PARTS, batch, put=lambda block: block, block_bytes=block_bytes)


edges = st.lists(st.integers(0, PARTS.pool.num_examples), max_size=6)
some_ids = st.sets(st.sampled_from(PARTS.pool.id_N.tolist()), min_size=1)


@given(edges, some_ids)
def test_rows_are_the_same_bytes_however_they_were_cut(bounds: list[int], ids: set[int]):
    id_K = np.array(sorted(ids))
    rows = range_rows(cut(bounds), id_K)
    content, label_K = PARTS.pool.take(id_K)
    assert rows.content.tobytes() == content.tobytes()
    assert rows.label_K.tobytes() == label_K.tobytes()


def test_a_run_of_one_block_is_not_copied():
    block = run_of(PARTS.pool, 0, 90)
    rows = range_rows([block], PARTS.pool.id_N[10:70])
    assert np.shares_memory(rows.content, PARTS.pool.content)


@given(edges, some_ids)
def test_an_id_that_no_block_holds_is_refused(bounds: list[int], ids: set[int]):
    id_K = np.array(sorted(ids))
    left = [block for block in cut(bounds) if not np.isin(block.id_B, id_K[:1]).any()]
    with pytest.raises(DataError, match="in none of the blocks"):
        range_rows(left, id_K)


@pytest.mark.parametrize("batch", [1, 3, 8, 1000])
@pytest.mark.parametrize("block_bytes", [1, 16, 2000, 1 << 20])
@pytest.mark.parametrize("kept", [1.0, 0.3, 0.02])
def test_a_range_gets_the_blocks_of_its_own_rows_and_no_other(
    batch: int, block_bytes: int, kept: float
):
    blocks = blocks_of(batch, block_bytes)
    draw = np.random.default_rng(0)
    id_N = PARTS.pool.id_N[draw.uniform(size=PARTS.pool.num_examples) < kept]
    for located in blocks.located(ranges_of("pool", id_N, batch)):
        for block in located.blocks:
            assert np.isin(block.id_B, located.rows.ids).any()
        held = np.concatenate([block.id_B for block in located.blocks])
        assert np.isin(located.rows.ids, held).all()


def test_a_part_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"no tuning part; give one with --data\.tuning"):
        blocks_of(8).part("tuning")


@given(some_ids)
def test_a_subset_is_its_own_rows_or_the_pools_blocks(ids: set[int]):
    blocks = blocks_of(8, block_bytes=300)
    id_K = np.array(sorted(ids))
    subset = blocks.subset(id_K[::-1].reshape(1, -1))
    held = np.concatenate([block.id_B for block in subset])
    row_K = np.concatenate([block.row_B for block in subset])
    np.testing.assert_array_equal(PARTS.pool.id_N[row_K], held)
    if 2 * len(id_K) > PARTS.pool.num_examples:
        assert subset == tuple(ref for ref in blocks._of("pool").refs)
    else:
        np.testing.assert_array_equal(held, id_K)
    assert blocks.subset(id_K) is subset  # put once, however often it is asked for


@given(st.integers(1, 10**8), st.integers(1, 4096))
def test_a_block_is_whole_ranges_or_a_piece_of_one(row_bytes: int, rows: int):
    size = rows_per_block(row_bytes, rows)
    assert size >= 1
    assert size % rows == 0 or size < rows
    assert row_bytes * size <= 33 << 20 or size == 1


def test_a_reader_keeps_what_is_read_every_round_and_one_range_of_the_rest(
    monkeypatch: pytest.MonkeyPatch,
):
    asked: list[Any] = []

    def get(refs: list[Any], timeout: float) -> list[Any]:
        asked.extend(refs)
        return refs

    monkeypatch.setattr("raysubset.cluster.blocks.ray.get", get)
    blocks, reader = blocks_of(8), Reader()
    for _ in range(2):
        for part in ("validation", "pool"):
            for located in blocks.part(part):
                rows = reader.rows(located)
                assert (
                    rows.content.tobytes() == PARTS.named(part).take(located.rows.ids)[0].tobytes()
                )
                assert set(reader._last) <= set(blocks._of("pool").refs)
                assert len(reader._last) <= 1
    of_pool, of_validation = blocks._of("pool").refs, blocks._of("validation").refs
    assert len(of_pool) > 2
    assert [asked.count(ref) for ref in of_pool] == [2] * len(of_pool)
    assert [asked.count(ref) for ref in of_validation] == [1] * len(of_validation)
    reader.forget()
    assert not reader._last


def test_blocks_are_fetched_in_order_and_with_signs_of_life(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raysubset.cluster.blocks.ray.get", lambda refs, timeout: refs)
    signs: list[int] = []
    assert fetched(range(20), lambda: signs.append(1)) == list(range(20))
    assert len(signs) == 3


@given(st.integers(0, 30), st.integers(1, 5))
def test_ranks_share_ranges_as_runs_that_differ_by_one(count: int, world: int):
    each = shares(list(range(count)), world)  # type: ignore[arg-type]
    assert [i for share in each for i in share] == list(range(count))
    sizes = [len(share) for share in each]
    assert len(sizes) == world and max(sizes) - min(sizes) <= 1


def test_a_rank_is_told_of_its_own_ranges_only():
    rows = [RowRange(part="pool", index=i, ids=np.array([i])) for i in range(4)]
    blocks = blocks_of(8)
    ids = PARTS.pool.id_N
    located = blocks.located(replace(each, ids=ids[i : i + 1]) for i, each in enumerate(rows))
    at = At(run="run", round=0)
    each = shares(located, 2)
    for order in (Score(at=at, ranges=each, embeddings=True), Count(at=at, ranges=each)):
        posted = Posted(number=3, order=order)
        for rank in range(2):
            told = posted.to(rank)
            assert told.number == 3 and isinstance(told.order, Score | Count)
            assert [len(share) for share in told.order.ranges] == [2 * (r == rank) for r in (0, 1)]
            assert told.order.ranges[rank] == each[rank]
    assert isinstance(Posted(number=4, order=Stop()).to(0).order, Stop)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 4), st.integers())
def test_every_range_is_dealt_once_and_a_lost_one_again(blocks: list[int], actors: int, seed: int):
    deal, done, luck = Deal(blocks), list[int](), random.Random(seed)
    while len(deal):
        first = deal.first()
        assert 0 <= first < len(blocks)
        index = deal.next(luck.randrange(actors))
        if luck.random() < 0.2:
            deal.give_back(index)
        else:
            done.append(index)
    assert sorted(done) == list(range(len(blocks)))
    with pytest.raises(IndexError):
        deal.next(0)


@given(st.integers(1, 4), st.integers(1, 6))
def test_actors_read_no_block_of_others_while_there_are_blocks_for_all(actors: int, each: int):
    deal = Deal([index // each for index in range(2 * actors * each)])
    read: dict[int, set[int]] = {}
    for turn in range(2 * actors * each):
        index = deal.next(turn % actors)
        read.setdefault(turn % actors, set()).add(index // each)
    assert sorted(block for blocks in read.values() for block in blocks) == list(range(2 * actors))


def test_the_lean_problem_builds_the_same_model_and_has_no_rows():
    whole = problem()
    lean = whole.lean()
    assert lean.parts.pool.num_examples == 2
    assert [part.num_examples for part in (lean.parts.validation, lean.parts.test)] == [0, 0]
    assert (lean.in_shape, lean.num_classes) == (whole.in_shape, whole.num_classes)
    assert bool((lean.sample() == whole.sample()).all())
    mine, twin = lean.build()[0].state_dict(), whole.build()[0].state_dict()
    assert all(bool((mine[name] == twin[name]).all()) for name in twin)


def test_memory_is_told_by_kind_and_what_is_not_known_is_left_out(tmp_path: Path):
    figures = {"driver": {"resident": 3, "own": 2}, "rank_0": {"resident": 5}}
    assert by_kind(figures) == {
        "peak_bytes": {"driver": 3, "rank_0": 5},
        "private_bytes": {"driver": 2},
    }
    assert "private_bytes" not in by_kind({"driver": {"resident": 3}})
    status = tmp_path / "status"
    assert own_bytes(status) is None
    status.write_text("VmHWM:\t 9 kB\n")
    assert own_bytes(status) is None
    status.write_text("VmHWM:\t 9 kB\nRssAnon:\t 7 kB\n")
    assert own_bytes(status) == 7 * 1024
