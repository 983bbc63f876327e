"""Small random problems, and the raysubset values made of them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, ShardedGroundSet
from raysubset.core.lookahead import Lookahead
from tests.oracles import Problem

SEEDS = st.integers(0, 2**32 - 1)


def problem(
    seed: int, *, n: int = 24, v: int = 9, c: int = 3, h: int = 4, dtype: type = np.float64
) -> Problem:
    """A random problem whose ids have gaps and stand in no order; class 0 is in the pool."""
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, c, n)
    label_N[0] = 0
    return Problem(
        embedding_NH=rng.normal(size=(n, h)).astype(dtype),
        label_N=label_N,
        ids_N=rng.permutation(7 * n)[:n],
        embedding_VH=rng.normal(size=(v, h)).astype(dtype),
        label_V=rng.integers(0, c, v),
        weight_CH=rng.normal(size=(c, h)).astype(dtype),
        bias_C=rng.normal(size=c).astype(dtype),
    )


@st.composite
def problems(draw: st.DrawFn, max_n: int = 24) -> Problem:
    """Random problems of every small shape."""
    sizes = {
        "n": draw(st.integers(1, max_n)),
        "v": draw(st.integers(1, 9)),
        "c": draw(st.integers(2, 4)),
        "h": draw(st.integers(1, 5)),
    }
    return problem(draw(SEEDS), **sizes)


def factors_of(p: Problem) -> GradientFactors:
    return GradientFactors.from_embeddings(
        p.embedding_NH, p.label_N, p.weight_CH, p.bias_C, ids=p.ids_N
    )


def lookahead_of(p: Problem) -> Lookahead:
    return Lookahead.from_embeddings(p.embedding_VH, p.label_V, p.weight_CH, p.bias_C)


def whole(p: Problem) -> LocalGroundSet:
    return LocalGroundSet(factors_of(p))


def sharded(p: Problem, shards: int, seed: int = 0) -> ShardedGroundSet:
    """The same pool with its rows shuffled and cut into shards of any size, empty ones too."""
    rng = np.random.default_rng(seed)
    factors = factors_of(p)
    order = torch.from_numpy(rng.permutation(factors.num_examples))
    cuts = np.sort(rng.integers(0, factors.num_examples + 1, shards - 1)).tolist()
    parts = torch.tensor_split(order, cuts)
    return ShardedGroundSet([LocalGroundSet(factors.take(part)) for part in parts])


def counts(p: Problem) -> tuple[list[int], list[int]]:
    """How many of each class the pool and validation hold."""
    pool_C = np.bincount(p.label_N, minlength=p.num_classes).tolist()
    return pool_C, np.bincount(p.label_V, minlength=p.num_classes).tolist()
