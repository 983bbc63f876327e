"""The best rows, found tile by tile, are those of one sort of everything."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.core import tops
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, ShardedGroundSet, Taken
from raysubset.core.scores import Alignment, ErrorNorm, GradientNorm
from raysubset.core.tops import Running, top_rows
from tests.core.problems import factors_of, lookahead_of, problem

CLASSES = 3


@st.composite
def gains(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Gains in whole numbers, so that ties are many, some rows closed; and labels."""
    rows = draw(
        st.lists(
            st.tuples(
                st.sampled_from([-torch.inf, -1.0, 0.0, 1.0, 2.0]), st.integers(0, CLASSES - 1)
            ),
            min_size=1,
            max_size=60,
        )
    )
    return torch.tensor([gain for gain, _ in rows]), torch.tensor([label for _, label in rows])


@settings(max_examples=300)
@given(
    found=gains(),
    k=st.integers(1, 12),
    room=st.none() | st.lists(st.integers(0, 6), min_size=CLASSES, max_size=CLASSES),
    tile=st.integers(1, 9),
    settle=st.integers(1, 20),
)
def test_running_over_tiles_finds_what_one_sort_finds(found, k, room, tile, settle):
    gain_N, label_N = found
    room_C = None if room is None else torch.tensor(room)
    if room_C is not None:  # a ground set closes the rows of full classes
        gain_N = gain_N.masked_fill(room_C[label_N] == 0, -torch.inf)
    running = Running(k, room_C)
    with patch.object(tops, "_SETTLE_ROWS", settle):
        for start in range(0, len(gain_N), tile):
            rows = slice(start, start + tile)
            running.see(gain_N[rows], label_N[rows], start)
        gain_K, row_K = running.best()
    expected = top_rows(gain_N, label_N, k, room_C)
    expected = expected[gain_N[expected] > -torch.inf]
    assert row_K.tolist() == expected.tolist()
    assert torch.equal(gain_K, gain_N[expected])


def test_rows_to_come_that_cannot_enter_are_not_kept():
    running, label_B = Running(2, None), torch.zeros(4, dtype=torch.int64)
    with patch.object(tops, "_SETTLE_ROWS", 1):
        running.see(torch.tensor([3.0, 1.0, 2.0, 0.0]), label_B, 0)
        running.see(torch.tensor([2.0, 1.0, 2.0, 0.0]), label_B, 4)  # ties lose to lower rows
        assert running._held == 2
        running.see(torch.tensor([2.5, 1.0, 2.0, 0.0]), label_B, 8)
    assert running.best()[1].tolist() == [0, 8]


@pytest.mark.parametrize(("room", "best"), [([9, 9], [0, 4]), ([1, 9], [0, 1])])
def test_the_worst_of_a_class_closes_it_only_once_its_room_is_filled(room, best):
    running = Running(2, torch.tensor(room))
    with patch.object(tops, "_SETTLE_ROWS", 1):
        running.see(torch.tensor([5.0, 1.0, 0.5, 0.2]), torch.tensor([0, 1, 0, 1]), 0)
        running.see(torch.tensor([3.0, 0.9]), torch.tensor([0, 1]), 4)
        assert running._held == (3 if best == [0, 4] else 2)
    assert running.best()[1].tolist() == best


def narrow(factors: GradientFactors, dtype: torch.dtype, tile_rows: int) -> GradientFactors:
    return GradientFactors(
        ids_N=factors.ids_N,
        label_N=factors.label_N,
        residual_NC=factors.residual_NC.to(dtype),
        embedding_NH=factors.embedding_NH.to(dtype),
        tile_rows=tile_rows,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normalize", [False, True])
def test_products_of_16_bit_rows_are_those_of_their_values_in_float32(dtype, normalize):
    p = problem(3, n=50)
    lookahead = lookahead_of(p)
    few = narrow(factors_of(p), dtype, 7)
    wide = narrow(few, torch.float32, 7)
    direction = lookahead.direction(lookahead.logits_VC).float()
    for score in (
        Alignment(direction, normalize),
        Alignment(direction[:, -1:], normalize),
        GradientNorm(),
        ErrorNorm(),
    ):
        assert score(few).dtype == torch.float32
        assert torch.equal(score(few), score(wide))
    assert torch.equal(few.gradient_sum(), wide.gradient_sum())
    assert torch.equal(few.norm_N, wide.norm_N)


def test_rows_as_wide_as_the_products_are_not_copied():
    factors = factors_of(problem(4, n=30))
    for tile in factors.wide_tiles():
        assert tile.residual_NC.data_ptr() == factors.residual_NC.data_ptr()
        assert tile.embedding_NH.data_ptr() == factors.embedding_NH.data_ptr()


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_whole_runs_of_tiles_give_the_sums_of_the_whole_bit_for_bit(shards):
    p = problem(5, n=97, h=6)
    factors = narrow(factors_of(p), torch.float32, 8)
    order = torch.sort(factors.ids_N).indices
    factors = factors.take(order)
    one = LocalGroundSet(factors)
    tiles = -(-97 // 8)
    edges = [tiles * s // shards * 8 for s in range(shards)] + [97]
    cuts = pairwise(edges)
    many = ShardedGroundSet([LocalGroundSet(factors.take(slice(a, b))) for a, b in cuts])
    assert torch.equal(many.gradient_sum(), one.gradient_sum())
    nested = ShardedGroundSet([many])
    assert torch.equal(nested.gradient_sum(), one.gradient_sum())
    lookahead = lookahead_of(p)
    score = Alignment(lookahead.direction(lookahead.logits_VC).float())
    for k in (1, 4, 97):
        here, there = (pool.best(score, k, Taken.nothing()) for pool in (one, many))
        assert torch.equal(here.gain_K, there.gain_K)
        assert torch.equal(here.factors.residual_NC, there.factors.residual_NC)
        top = many.top(score, k, Taken.nothing())
        assert torch.equal(top.ids_K, here.factors.ids_N)
        assert torch.equal(many.take(top.row_K).ids_N, top.ids_K)
