"""Laws of what training sees: lumps change nothing."""

from __future__ import annotations

import pytest
import torch

from raysubset.learn import seen
from raysubset.learn.seen import Seen


@pytest.mark.parametrize("held", [1, 40, 10**9])
def test_however_many_wait_each_visit_is_seen_as_it_would_be_alone(
    monkeypatch: pytest.MonkeyPatch, held: int
):
    monkeypatch.setattr(seen, "_HELD", held)
    draw = torch.Generator().manual_seed(0)
    logits_KC = torch.randn(23, 5, generator=draw)
    label_K = torch.randint(0, 5, (23,), generator=draw)
    at_K = torch.randperm(23, generator=draw)
    whole = Seen()
    for rows in torch.arange(23).split(4):
        whole.add(at_K[rows], label_K[rows], logits_KC[rows], logits_KC[rows, 0])
    sight = whole.sight()
    for i, (z_C, label) in enumerate(zip(logits_KC.tolist(), label_K.tolist(), strict=True)):
        own, other = z_C.pop(label), max(z_C[:label] + z_C[label:])
        assert sight.margin_K[i].item() == pytest.approx(own - other, abs=1e-6)
        assert bool(sight.correct_K[i]) == (own > other)
    assert torch.equal(sight.at_K, at_K) and torch.equal(sight.loss_K, logits_KC[:, 0])


def test_no_more_logits_wait_than_a_lump(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seen, "_HELD", 100)
    gathered, waiting = Seen(), []
    for _ in range(20):
        gathered.add(torch.arange(3), torch.zeros(3).long(), torch.rand(3, 7), torch.rand(3))
        waiting.append(sum(logits.numel() for logits, _ in gathered._waiting))
    assert max(waiting) < 100
    assert len(gathered.sight().margin_K) == 60
