"""A learner and a scorer that are given rows in pieces do what they do with a pool of their own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysubset.errors import DataError
from raysubset.learn.blocks import Block, range_rows, rows_at, run_of, whole
from raysubset.learn.data import Dataset
from raysubset.learn.learner import Learner
from raysubset.learn.local import part_ranges
from raysubset.learn.rows import Rows
from raysubset.learn.scoring import Scorer
from tests.learn.ranks import CASES, CPU, flat, never, order_of, outcome
from tests.small_runs import problem


def in_pieces(dataset: Dataset, *bounds: int) -> list[Block]:
    """Return all rows in blocks with these bounds."""
    edges = sorted({0, *bounds, dataset.num_examples})
    return [run_of(dataset, a, b) for a, b in pairwise(edges)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("held", ["pieces", "subset", "more"])
def test_training_gives_the_same_bits_whatever_rows_are_held(case: str, held: str):
    options, how = CASES[case]
    the_problem = problem(**options)
    order, pool = order_of(the_problem, **how), the_problem.parts.pool
    whole_pool = Learner(the_problem, CPU, world=2)
    twin = outcome(whole_pool, whole_pool.train(order, never))

    row_K = pool.position_of(np.unique(order.ids_EK))
    more = np.union1d(row_K, np.arange(0, pool.num_examples, 3))
    blocks = {
        "pieces": in_pieces(pool, 7, 50, 51),
        "subset": [rows_at(pool, row_K[:20]), rows_at(pool, row_K[20:])],
        "more": [rows_at(pool, more)],
    }
    learner = Learner(the_problem.lean(), CPU, world=2)
    learner.hold(blocks[held])
    assert flat(outcome(learner, learner.train(order, never))) == flat(twin)


def test_ids_that_are_not_held_are_refused():
    learner = Learner(problem().lean(), CPU, world=1)
    with pytest.raises(DataError, match="not among the 2 rows held"):
        learner.train(order_of(problem()), never)
    learner.hold([])
    with pytest.raises(DataError, match="not among the 0 rows held"):
        learner.train(order_of(problem()), never)


@pytest.mark.parametrize("options", [{}, {"model__name": "convnet"}])
def test_a_scorer_without_rows_gives_the_bits_of_one_that_has_them(options: dict[str, Any]):
    the_problem = problem(**options)
    own, lean = Scorer(the_problem, CPU), Scorer(the_problem.lean(), CPU)
    blocks = in_pieces(the_problem.parts.pool, 10, 33, 70)
    for rows in part_ranges(the_problem, "pool"):
        # ids with gaps too: what a filter or a sample of candidates leaves
        for some in (rows, replace(rows, ids=rows.ids[::3])):
            mine = lean.score(some, range_rows(blocks, some.ids))
            twin = own.score(some)
            for name in ("ids", "labels", "logits", "embeddings"):
                assert vars(mine)[name].tobytes() == vars(twin)[name].tobytes()
            count, other = lean.count(some, range_rows(blocks, some.ids)), own.count(some)
            assert (count.loss_sum, count.stat_C5.tolist()) == (
                other.loss_sum,
                other.stat_C5.tolist(),
            )


@given(st.lists(st.integers(0, 144), max_size=8), st.lists(st.integers(0, 143), max_size=20))
def test_a_batch_is_the_same_rows_out_of_any_pieces(bounds: list[int], wanted: list[int]):
    pool = problem().parts.pool
    position_B = torch.tensor(wanted, dtype=torch.int64)
    pieces = Rows(in_pieces(pool, *bounds), CPU)
    np.testing.assert_array_equal(pieces.take(position_B), pool.content[wanted])
    assert pieces.id_N.tolist() == pool.id_N.tolist()


def test_on_a_host_rows_are_read_where_they_lie():
    pool = problem().parts.pool
    for blocks in ([whole(pool)], in_pieces(pool, 40)):
        rows = Rows(blocks, CPU)
        assert all(np.shares_memory(piece.numpy(), pool.content) for piece in rows._pieces)
