"""The look-ahead that greedy moves, against the plain one at the same logits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from raysubset.core.lookahead import Lookahead
from raysubset.core.moving_lookahead import MovingLookahead


@pytest.fixture(params=[torch.float32, torch.float16])
def default_type(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("default_type")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_direction_keeps_its_last_digits_where_the_model_is_sure(dtype: torch.dtype):
    # Of p - y next to nothing is left here: scaled before the difference, only rounding would be.
    draw = torch.Generator().manual_seed(0)
    embedding = torch.randn(7, 5, generator=draw, dtype=dtype)
    label = torch.arange(7) % 3
    logits = torch.randn(7, 3, generator=draw, dtype=dtype)
    logits[torch.arange(7), label] -= math.log(256 * torch.finfo(dtype).eps)
    lookahead = Lookahead(embedding_VH=embedding, label_V=label, logits_VC=logits)
    plain = lookahead.direction(logits)
    torch.testing.assert_close(
        MovingLookahead(lookahead, 1.0).direction(), plain, rtol=1e-3, atol=0.0
    )
