"""Factors on a disk are those in memory, and their shards choose as the whole does."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import raysubset as rs
from raysubset.core.factors import TILE_ROWS, GradientFactors
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.keys import derive_key
from raysubset.core.scores import Alignment, RandomKey
from raysubset.errors import DataError
from raysubset.learn.mapped import (
    HEADER,
    FactorWriter,
    MappedFactors,
    Stored,
    open_factors,
    tile_rows_of,
)
from raysubset.learn.shards import SentFactors, SentScore, shards_here
from raysubset.strategies.picks import Block, Blocks, Exact
from tests.core.problems import SEEDS, factors_of, lookahead_of, problem

KINDS = ("float32", "float16", "bfloat16")


def rows_of(seed: int, rows: int, kind: str, tile_rows: int) -> GradientFactors:
    """A small problem's factors in the order of their ids, stored in this type."""
    factors = factors_of(problem(seed, n=rows))
    factors = factors.take(torch.sort(factors.ids_N).indices)
    return GradientFactors(
        ids_N=factors.ids_N,
        label_N=factors.label_N,
        residual_NC=factors.residual_NC.to(getattr(torch, kind)),
        embedding_NH=factors.embedding_NH.to(getattr(torch, kind)),
        tile_rows=tile_rows,
    )


def written(folder: Path, factors: GradientFactors, kind: str, ranges: list[int]) -> MappedFactors:
    """Write ranges in an order of their own."""
    writer = FactorWriter(
        folder,
        rows=factors.num_examples,
        classes=factors.num_classes,
        width=factors.embedding_NH.shape[1],
        residuals=kind,
        embeddings=kind,
        tile_rows=factors.tile_rows,
    )
    edges = sorted({0, *ranges, factors.num_examples})
    with writer:
        for start, stop in reversed(list(pairwise(edges))):
            writer.write(start, factors.take(slice(start, stop)))
    return open_factors(folder)


def equal(a: GradientFactors, b: GradientFactors) -> bool:
    pairs = (
        (a.ids_N, b.ids_N),
        (a.label_N, b.label_N),
        (a.residual_NC, b.residual_NC),
        (a.embedding_NH, b.embedding_NH),
    )
    return a.tile_rows == b.tile_rows and all(
        x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_opened_is_what_was_written_in_any_order_of_ranges(tmp_path: Path, kind: str):
    factors = rows_of(0, 40, kind, 8)
    mapped = written(tmp_path / "f", factors, kind, [3, 17, 18])
    assert equal(mapped.rows(), factors)
    assert equal(mapped.rows(5, 9), factors.take(slice(5, 9)))
    assert equal(SentFactors.of(mapped.rows()).factors(), factors)  # as it crosses processes
    size = {"float32": 4, "float16": 2, "bfloat16": 2}[kind]
    assert mapped.num_bytes == 40 * (8 + 8 + size * (3 + 4))
    files = sum(path.stat().st_size for path in (tmp_path / "f").iterdir() if path.name != HEADER)
    assert files == mapped.num_bytes


@settings(max_examples=25)
@given(
    seed=SEEDS,
    shards=st.integers(1, 7),
    kind=st.sampled_from(KINDS),
    rows=st.integers(6, 70),
    tile=st.sampled_from([1, 4, 16]),
    picks=st.sampled_from([Exact(), Block(2), Blocks(3), Blocks(1)]),
    balance=st.sampled_from(["none", "validation", "equal"]),
    normalize=st.booleans(),
    step=st.sampled_from(["mean", "sum"]),
    gradient=st.sampled_from(["last_layer", "bias"]),
)
def test_one_to_seven_shards_choose_what_the_whole_in_memory_chooses(
    tmp_path_factory, seed, shards, kind, rows, tile, picks, balance, normalize, step, gradient
):
    factors = rows_of(seed, rows, kind, tile)
    folder = tmp_path_factory.mktemp("mapped")
    mapped = written(folder, factors, kind, [rows // 2])
    assert [stop - start for start, stop in mapped.cuts(shards)].count(0) <= shards
    plan = rs.Glister(
        picks=picks, balance=balance, normalize=normalize, step=step, gradient=gradient
    )
    p = problem(seed, n=rows)
    lookahead = lookahead_of(p)
    budget = max(1, rows // 3)
    here = plan.select(LocalGroundSet(factors), lookahead, budget)
    there = plan.select(shards_here(mapped, shards), lookahead, budget)
    assert there.ids.tolist() == here.ids.tolist()
    assert there.gains.tobytes() == here.gains.tobytes()
    assert there.facts == here.facts


def test_shards_are_whole_runs_of_tiles_and_cover_every_row_once(tmp_path: Path):
    mapped = written(tmp_path / "f", rows_of(1, 50, "float32", 8), "float32", [])
    for shards in range(1, 12):
        cuts = mapped.cuts(shards)
        assert [row for start, stop in cuts for row in range(start, stop)] == list(range(50))
        assert all(start % 8 == 0 or start == stop for start, stop in cuts)
        assert len(cuts) == shards


def test_embeddings_that_lie_in_a_file_are_not_written_again(tmp_path: Path):
    factors = rows_of(2, 30, "float32", 8)
    path = tmp_path / "own.bin"
    path.write_bytes(b"header!!" + factors.embedding_NH.numpy().tobytes())
    stored = Stored(path=str(path), dtype="float32", shape=(30, 4), offset=8)
    with FactorWriter(
        tmp_path / "f", rows=30, classes=3, width=4, embeddings=stored, tile_rows=8
    ) as writer:
        writer.write(0, factors)
    assert not (tmp_path / "f" / "embeddings").exists()
    assert equal(
        open_factors(tmp_path / "f").rows(),
        GradientFactors(
            ids_N=factors.ids_N,
            label_N=factors.label_N,
            residual_NC=factors.residual_NC.float(),
            embedding_NH=factors.embedding_NH,
            tile_rows=8,
        ),
    )


def test_a_folder_that_is_not_whole_or_damaged_is_refused(tmp_path: Path):
    factors = rows_of(3, 20, "float16", 8)
    with (
        pytest.raises(RuntimeError),
        FactorWriter(tmp_path / "half", rows=20, classes=3, width=4) as writer,
    ):
        writer.write(0, factors.take(slice(0, 5)))
        raise RuntimeError("the writer dies")
    with pytest.raises(DataError, match="no whole gradient factors"):
        open_factors(tmp_path / "half")
    mapped = written(tmp_path / "f", factors, "float16", [])
    with open(mapped.residuals.path, "r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match="cut short"):
        mapped.rows()
    header = json.loads((tmp_path / "f" / HEADER).read_text())
    header["arrays"]["residuals"]["dtype"] = "object"
    (tmp_path / "f" / HEADER).write_text(json.dumps(header))
    with pytest.raises(DataError, match="another format"):
        open_factors(tmp_path / "f")


def test_wide_rows_have_smaller_tiles_and_usual_ones_those_of_memory():
    assert tile_rows_of(10, 512) == TILE_ROWS
    for classes, width in ((1000, 2048), (10, 65_536), (20_000, 1024)):
        rows = tile_rows_of(classes, width)
        assert rows < TILE_ROWS and rows & (rows - 1) == 0
        assert rows == 1024 or rows * 4 * (3 * classes + width) <= 1 << 29


def test_a_score_travels_as_plain_values():
    score = Alignment(torch.ones(2, 3), normalize=True)
    sent = SentScore.of(score)
    assert isinstance(sent.values["direction"], np.ndarray)
    back = sent.score()
    assert torch.equal(back.direction, score.direction) and back.normalize
    draw = RandomKey(derive_key(1, "x"))
    assert SentScore.of(draw).score() == draw
