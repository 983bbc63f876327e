"""The cost model's laws, and its bytes against real arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jobs.benches.scale import slope
from jobs.cost import GPU, Device, Size, cost, imagenet, table
from raysubset.core.factors import GradientFactors
from raysubset.learn.mapped import FactorWriter

SIZE = Size(rows=4_000, validation=0, classes=7, width=33, picks=0, blocks=4)
FREE = Device(flops=1e9, memory=1e9, link=1e9)


@pytest.mark.parametrize(("kind", "number_bytes"), [("float16", 2), ("float32", 4)])
def test_its_bytes_are_those_of_the_arrays_and_of_the_files(
    tmp_path: Path, kind: str, number_bytes: int
):
    dtype = getattr(torch, kind)
    factors = GradientFactors(
        ids_N=torch.arange(50),
        label_N=torch.zeros(50, dtype=torch.int64),
        residual_NC=torch.zeros(50, 7, dtype=dtype),
        embedding_NH=torch.zeros(50, 33, dtype=dtype),
    )
    size = replace(SIZE, rows=50, picks=20, number_bytes=number_bytes)
    found = cost(size, FREE)
    tensors = [t for t in vars(factors).values() if isinstance(t, torch.Tensor)]
    assert found.factor_bytes == sum(t.numel() * t.element_size() for t in tensors)
    picked = vars(factors.take(slice(0, 20))).values()
    assert found.picked_bytes == sum(
        t.numel() * t.element_size() for t in picked if isinstance(t, torch.Tensor)
    )
    direction = factors.gradient_sum()
    assert found.direction_bytes == direction.numel() * direction.element_size()
    with FactorWriter(
        tmp_path / "f", rows=50, classes=7, width=33, residuals=kind, embeddings=kind
    ) as writer:
        writer.write(0, factors)
    files = [path for path in (tmp_path / "f").iterdir() if path.suffix != ".json"]
    assert sum(path.stat().st_size for path in files) == found.factor_bytes


def test_everything_is_linear_in_rows():
    one, ten = cost(SIZE, FREE), cost(replace(SIZE, rows=10 * SIZE.rows), FREE)
    assert ten.factor_bytes == 10 * one.factor_bytes
    assert ten.flops == pytest.approx(10 * one.flops)
    assert ten.seconds == pytest.approx(10 * one.seconds)


def test_shards_share_the_passes_and_add_what_is_sent():
    size = replace(SIZE, picks=100)
    one, four = (cost(size, FREE, shards) for shards in (1, 4))
    sent = four.picked_bytes + four.direction_bytes * 4 * size.blocks
    assert four.seconds == pytest.approx(one.seconds / 4 + sent / FREE.link)
    assert four.flops == one.flops and four.factor_bytes == one.factor_bytes


def test_passes_are_those_that_greedy_makes():
    """A spy on the score counts what a selection asks of the rows."""
    import raysubset as rs
    from raysubset.strategies.picks import Blocks
    from tests.core.problems import lookahead_of, problem, whole
    from tests.strategies.spies import SpyGroundSet

    p = problem(0)
    for blocks in (1, 3):
        spy = SpyGroundSet(whole(p))
        rs.Glister(picks=Blocks(blocks)).select(spy, lookahead_of(p), 6)
        certificate = 1  # asked by `top`, which the spy passes on uncounted
        asked = len(spy.asked) + spy.sums + certificate
        assert asked == cost(replace(SIZE, blocks=blocks), FREE).passes


def test_the_table_marks_what_does_not_fit_and_computes_the_rest():
    lines = table()
    assert "factors" in lines[0] and len(lines) == 6
    assert "*" in lines[4] and "*" not in lines[1]
    seconds = [cost(imagenet(rows), GPU, 8).seconds for rows in (10**6, 10**9)]
    assert seconds[0] < seconds[1]


def test_a_power_law_has_its_exponent_as_slope():
    assert slope([(n, 3.0 * n**2) for n in (10, 100, 1000)]) == pytest.approx(2)
