"""Screened exact greedy on data that was made to mislead it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raysubset.core import allowance, exact_gains
from raysubset.core.allowance import is_worth
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.core.moving_lookahead import MovingLookahead
from raysubset.core.screening import ScreenedGreedy
from raysubset.strategies.glister import Glister
from tests.core.test_screening import clustered, rescored, screened


@pytest.mark.parametrize("waste", [-1.0, torch.inf])
@pytest.mark.parametrize("normalize", [False, True])
def test_rows_without_a_gradient_are_taken_lower_row_first(normalize: bool, waste: float):
    factors, lookahead = clustered(0, dtype=torch.float32)
    residual = torch.zeros_like(factors.residual_NC)
    residual[300:303] = factors.residual_NC[300:303]
    sure = replace(factors, residual_NC=residual)
    open_N = torch.ones(factors.num_examples, dtype=torch.bool)
    look = MovingLookahead(lookahead, 1e-3)
    greedy = ScreenedGreedy(sure, look, open_N, None, normalize, waste)
    taken = [row for row in greedy.take(200).row_K.tolist() if not 300 <= row < 303]
    assert taken == list(range(len(taken)))


@pytest.mark.parametrize("waste", [-1.0, torch.inf])
def test_of_rows_all_alike_the_lower_is_taken_first(waste: float):
    factors, lookahead = clustered(0, dtype=torch.float32)
    alike = replace(
        factors,
        residual_NC=factors.residual_NC[:1].expand(700, -1).contiguous(),
        embedding_NH=factors.embedding_NH[:1].expand(700, -1).contiguous(),
    )
    open_N = torch.ones(700, dtype=torch.bool)
    greedy = ScreenedGreedy(alike, MovingLookahead(lookahead, 1e-3), open_N, None, waste=waste)
    assert greedy.take(150).row_K.tolist() == list(range(150))


def test_the_margin_of_rounding_grows_with_the_direction_at_every_pick():
    # A sure model: the first picks leave nothing of p - y, a step too far brings all of it back.
    factors, lookahead = clustered(4, h=4, dtype=torch.float32)
    lookahead = replace(lookahead, logits_VC=20 * lookahead.logits_VC)
    greedy = screened(factors, lookahead, 1.0)
    unit = exact_gains._ROUNDING * torch.finfo(torch.float32).eps
    for _ in range(60):
        now = greedy.look.mass()
        greedy.take(1)
        now = min(now, greedy.look.mass())  # it may have been measured again after the pick
        assert greedy.exact.margin >= unit * now * (1 - 1e-5)


def noise(n: int, v: int) -> tuple[GradientFactors, Lookahead]:
    """No direction is stronger than another, no label has a reason: no bound is tight."""
    draw = torch.Generator().manual_seed(0)
    pool = torch.randn(n, 150, generator=draw, dtype=torch.float64)
    look = torch.randn(v, 150, generator=draw, dtype=torch.float64)
    label = torch.randint(3, (n + v,), generator=draw)
    weight = 0.02 * torch.randn(3, 150, generator=draw, dtype=torch.float64)
    head = weight, torch.zeros(3, dtype=torch.float64)
    factors = GradientFactors.from_embeddings(pool, label[:n], *head)
    return factors, Lookahead.from_embeddings(look, label[n:], *head)


def test_bounds_that_decide_nothing_are_given_up_and_the_picks_stay():
    factors, lookahead = noise(3000, 400)
    open_N = torch.ones(3000, dtype=torch.bool)
    greedy = ScreenedGreedy(factors, MovingLookahead(lookahead, 0.05), open_N, None)
    found = greedy.take(200)
    assert found.row_K.tolist() == rescored(factors, lookahead, 0.05, 200)
    assert found.evaluations > 0.9  # plain re-scoring, nearly always
    # No more than was granted is spent on bounds, but for the last pick that they are asked.
    assert greedy.work.left > -4 * greedy.work.pick


@pytest.mark.parametrize("pool", [torch.float32, torch.float64])
def test_pool_and_validation_of_different_types_are_chosen_by_rescoring(
    monkeypatch: pytest.MonkeyPatch, pool: torch.dtype
):
    other = torch.float64 if pool == torch.float32 else torch.float32
    factors, lookahead = clustered(6, dtype=pool)[0], clustered(6, dtype=other)[1]
    ground_set = LocalGroundSet(factors)
    plain = Glister().select(ground_set, lookahead, 80)
    monkeypatch.setattr(allowance, "_WORTH", {"cpu": 0.0})
    assert not is_worth(factors, lookahead.logits_VC, 80)
    assert is_worth(factors, lookahead.logits_VC.to(pool), 80)
    assert Glister().select(ground_set, lookahead, 80).ids.tolist() == plain.ids.tolist()


def test_kept_columns_leave_the_extra_memory_within_twice_the_factors(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(allowance, "_WORTH", {"cpu": 0.0})
    monkeypatch.setattr(allowance, "_SMALL", 0)
    draw = torch.Generator().manual_seed(0)
    factors = GradientFactors.from_embeddings(
        torch.randn(2000, 300, generator=draw),
        torch.arange(2000) % 3,
        torch.zeros(3, 300),
        [0, 0, 0],
    )
    assert is_worth(factors, torch.zeros(1000, 3), 100)
    assert not is_worth(factors, torch.zeros(20_000, 3), 100)  # 256 columns: eight times as much
