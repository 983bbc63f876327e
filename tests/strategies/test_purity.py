"""No strategy touches the global random state."""

import random

import numpy as np
import pytest
import torch

import raysubset as rs
from tests.core.problems import lookahead_of, problem, whole

STRATEGIES = [
    rs.Full(),
    rs.Random(balance="equal"),
    rs.AdaptiveRandom(balance="equal"),
    rs.Glister(),
    rs.Glister(candidates=1.5),
    rs.Glister(picks=rs.Stochastic(0.5)),
    rs.Glister(regularizer=rs.RandomFill(0.5)),
    rs.Glister(regularizer=rs.FacilityLocation(0.1), picks=rs.Block(3)),
    rs.Glister(regularizer=rs.Diversity(0.1), gradient="bias"),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_selecting_consumes_no_global_randomness(strategy):
    p = problem(0)
    pool, lookahead = whole(p), lookahead_of(p)
    states = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    strategy.select(pool, lookahead, 8, key=1, epochs=range(2, 4))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert repr(np.random.get_state()) == states[2]  # noqa: NPY002


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_global_seeds_change_no_choice(strategy):
    p = problem(1)
    chosen = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        chosen.append(strategy.select(whole(p), lookahead_of(p), 8, key=1).ids.tolist())
    assert chosen[0] == chosen[1]
