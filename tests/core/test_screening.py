"""Screened exact greedy against full re-scoring, and the bounds that it rests on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysubset.core.active_rows import Bounded, around
from raysubset.core.factors import GradientFactors
from raysubset.core.kernel_columns import KernelColumns
from raysubset.core.lookahead import Lookahead
from raysubset.core.low_rank import LowRank
from raysubset.core.moving_lookahead import MovingLookahead
from raysubset.core.screening import ScreenedGreedy, sizes
from raysubset.errors import ConfigError
from tests import oracles
from tests.core.problems import SEEDS


def clustered(
    seed: int, *, n: int = 700, v: int = 90, c: int = 4, h: int = 40, dtype: torch.dtype
) -> tuple[GradientFactors, Lookahead]:
    """Embeddings about one centre per class, with a few strong directions, as networks make them.

    Some rows stand twice, some are far out, one has no gradient to speak of.
    """
    draw = torch.Generator().manual_seed(seed % 2**31)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    mix = normal(8, h) * torch.logspace(0.5, -1, 8, dtype=torch.float64)[:, None]
    centre = normal(c, h)

    def rows(count: int) -> tuple[Tensor, Tensor]:
        label = torch.randint(c, (count,), generator=draw)
        return (centre[label] + normal(count, 8) @ mix + 0.1 * normal(count, h)).relu(), label

    (pool, label), (look, label_V) = rows(n), rows(v)
    pool[n // 2 : n // 2 + 20], label[n // 2 : n // 2 + 20] = pool[:20], label[:20]
    pool[-5:] *= 6
    weight, bias = 0.3 * normal(c, h), 0.3 * normal(c)
    arrays = [t.to(dtype) for t in (pool, look, weight, bias)]
    factors = GradientFactors.from_embeddings(arrays[0], label, arrays[2], arrays[3])
    return factors, Lookahead.from_embeddings(arrays[1], label_V, arrays[2], arrays[3])


def rescored(
    factors: GradientFactors,
    lookahead: Lookahead,
    step: float,
    picks: int,
    room: list[int] | None = None,
    normalize: bool = False,
) -> list[int]:
    """Return the picks of the oracle: every gain at every pick, in float64."""

    def wide(embedding: Tensor) -> np.ndarray:
        return np.pad(embedding.double().numpy(), ((0, 0), (0, 1)), constant_values=1)

    return oracles.rescored(
        factors.residual_NC.double().numpy(),
        wide(factors.embedding_NH),
        lookahead.logits_VC.double().numpy(),
        lookahead.label_V.numpy(),
        wide(lookahead.embedding_VH),
        step,
        picks,
        label_N=factors.label_N.numpy(),
        room_C=room,
        normalize=normalize,
    )


def screened(
    factors: GradientFactors,
    lookahead: Lookahead,
    step: float,
    room: list[int] | None = None,
    normalize: bool = False,
) -> ScreenedGreedy:
    open_N = torch.ones(factors.num_examples, dtype=torch.bool)
    room_C = None if room is None else torch.tensor(room)
    look = MovingLookahead(lookahead, step)
    # Small problems: where bounds cost more than they save, they are asked all the same.
    return ScreenedGreedy(factors, look, open_N, room_C, normalize, waste=torch.inf)


@settings(max_examples=25)
@given(
    seed=SEEDS,
    classes=st.integers(2, 7),
    total=st.sampled_from([0.02, 0.5, 5.0, 200.0]),
    quotas=st.booleans(),
    normalize=st.booleans(),
)
def test_its_picks_are_those_of_rescoring_all_at_every_pick(
    seed: int, classes: int, total: float, quotas: bool, normalize: bool
):
    factors, lookahead = clustered(seed, c=classes, dtype=torch.float64)
    picks = 160
    room = [picks // classes + (i < picks % classes) for i in range(classes)] if quotas else None
    count = torch.bincount(factors.label_N, minlength=classes).tolist()
    picks = picks if room is None else sum(min(r, n) for r, n in zip(room, count, strict=True))
    rest = (factors, lookahead, total / picks)
    found = screened(*rest, room, normalize).take(picks)
    assert found.row_K.tolist() == rescored(*rest, picks, room, normalize)


@settings(max_examples=8)
@given(seed=SEEDS, h=st.integers(1, 6), v=st.integers(1, 5), n=st.integers(1, 40))
def test_narrow_small_and_whole_pools_are_chosen_as_by_rescoring(seed: int, h: int, v: int, n: int):
    problem = clustered(seed, n=40 + n, v=v, h=h, dtype=torch.float64)
    factors = problem[0].take(slice(0, n))
    found = screened(factors, problem[1], 0.1).take(n + 3)  # no row is left for the last ones
    assert found.row_K.tolist() == rescored(factors, problem[1], 0.1, n)


def test_rows_that_stand_twice_are_taken_lower_row_first_in_single_precision():
    factors, lookahead = clustered(3, n=900, dtype=torch.float32)
    twice = GradientFactors.concat([factors, factors])
    twice = GradientFactors(
        ids_N=torch.arange(1800),
        label_N=twice.label_N,
        residual_NC=twice.residual_NC,
        embedding_NH=twice.embedding_NH,
    )
    chosen = screened(twice, lookahead, 1e-4).take(300).row_K.tolist()
    for row in chosen:
        if row >= 900:
            assert row - 900 in chosen[: chosen.index(row)]


def test_few_gains_are_computed_and_each_is_the_gain_at_its_pick():
    factors, lookahead = clustered(5, n=4000, dtype=torch.float64)
    found = screened(factors, lookahead, 0.5 / 300).take(300)
    assert found.evaluations < 0.1
    look = MovingLookahead(lookahead, 0.5 / 300)
    for row, gain in zip(found.row_K.tolist(), found.gain_K.tolist(), strict=True):
        wide_H = torch.cat([factors.embedding_NH[row], torch.ones(1)])
        assert gain == pytest.approx(float(factors.residual_NC[row] @ look.direction() @ wide_H))
        look.take(factors.residual_NC[row], look.columns(factors.embedding_NH[row : row + 1])[0])


def test_a_step_that_overflows_is_refused_with_the_remedy():
    factors, lookahead = clustered(1, dtype=torch.float32)
    with pytest.raises(ConfigError, match="lower step_size"):
        screened(factors, lookahead, 1e38).take(100)


def bounded_of(factors: GradientFactors, basis: LowRank) -> Bounded:
    size_N = sizes(factors.residual_NC)
    return Bounded(
        residual_CN=factors.residual_NC.T.contiguous(),
        table_qN=basis.table_qN,
        rest_N=size_N * basis.rest_N,
        norm_N=size_N * basis.norm_N,
        closed_N=torch.zeros_like(size_N),
    )


@settings(max_examples=15)
@given(seed=SEEDS, grown=st.integers(0, 4), scale=st.floats(1e-3, 1e3))
def test_a_bound_is_never_below_the_gain_whatever_the_basis_holds(
    seed: int, grown: int, scale: float
):
    factors, lookahead = clustered(seed, dtype=torch.float32)
    basis = LowRank(factors, lookahead.embedding_VH, 30)
    draw = torch.Generator().manual_seed(seed % 2**31)
    for _ in range(grown):
        basis.grow(torch.randn(4, 41, generator=draw), 3)
    q = basis.width
    torch.testing.assert_close(basis.basis_Hq.T @ basis.basis_Hq, torch.eye(q), atol=1e-5, rtol=0)
    direction = scale * torch.randn(4, 41, generator=draw)
    coordinate_Cq, rest_CH = basis.split(direction)
    bounded = bounded_of(factors, basis)
    rest = float(torch.linalg.matrix_norm(rest_CH, 2))
    bound_N = bounded.at(coordinate_Cq, rest, 2e-6 * float(direction.norm()))
    wide = factors.embedding_NH @ direction[:, :-1].T + direction[:, -1]
    assert bool(((factors.residual_NC * wide).sum(1) <= bound_N).all())


@settings(max_examples=15)
@given(seed=SEEDS, share=st.floats(0, 1.9))
def test_no_row_outside_an_active_set_passes_what_it_says(seed: int, share: float):
    factors, lookahead = clustered(seed, dtype=torch.float64)
    basis = LowRank(factors, lookahead.embedding_VH, 41)  # all of the head's inputs: no rest
    draw = torch.Generator().manual_seed(seed % 2**31)
    basis.grow(torch.eye(41, dtype=torch.float64), 41)
    bounded = bounded_of(factors, basis)
    centre = torch.randn(4, basis.width, generator=draw, dtype=torch.float64)
    swing = 0.02 * torch.randn(4, basis.width, generator=draw, dtype=torch.float64)
    gains = [float(bounded.at(centre + s * swing, 0.0, 0.0).topk(60).values[-1]) for s in (-1, 1)]
    seen = [(centre - swing, gains[0]), (centre + swing, gains[1])]
    none = torch.zeros(4, 41, dtype=torch.float64)
    active = around(bounded, seen, none, 0.0, 0.0)
    if active is None:
        return
    away = torch.randn(4, basis.width, generator=draw, dtype=torch.float64)
    moved = centre + share * 1.2 * swing.norm() * away / away.norm()
    gain_N = bounded.at(moved, 0.0, 0.0)
    gain_N[active.row_M] = -torch.inf
    assert float(gain_N.max()) <= active.above(moved, 0.0) + 1e-12
    assert active.above(centre + 10 * swing, 0.0) == torch.inf


def test_kept_columns_are_the_products_however_few_are_kept():
    factors, lookahead = clustered(2, dtype=torch.float64)
    columns = KernelColumns(factors, MovingLookahead(lookahead, 1.0), 260)
    draw = torch.Generator().manual_seed(0)
    wide = torch.cat([factors.embedding_NH, torch.ones(700, 1)], 1)
    wide_V = torch.cat([lookahead.embedding_VH, torch.ones(90, 1)], 1)
    for turn in range(400):
        count, ahead = (60, 300) if turn % 5 == 0 else (1 + turn % 4, turn % 3)
        rows = torch.randperm(700, generator=draw)[:count]
        likely = torch.randperm(700, generator=draw)[:ahead].tolist()
        found = columns.of(rows.tolist(), lambda likely=likely: likely)
        torch.testing.assert_close(found, wide[rows] @ wide_V.T)
