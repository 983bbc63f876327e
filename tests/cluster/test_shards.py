"""Shards as actors choose what one process chooses; a lost one is asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raysubset as rs
from raysubset.experiment import ResourceSettings
from raysubset.learn.shards import shards_here
from raysubset.strategies.picks import Blocks, Exact
from tests.core.problems import lookahead_of, problem
from tests.learn.test_mapped import rows_of, written

ROWS = 60


@pytest.mark.ray
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_actors_give_the_ids_and_bits_of_one_process(ray_session: None, tmp_path: Path, kind: str):
    from raysubset.cluster.shards import shard_actors

    mapped = written(tmp_path / "f", rows_of(4, ROWS, kind, 16), kind, [30])
    lookahead = lookahead_of(problem(4, n=ROWS))
    with shard_actors(tmp_path / "f", 3, ResourceSettings(call_timeout_s=120)) as ground_set:
        for plan in (
            rs.Glister(picks=Blocks(3)),
            rs.Glister(picks=Exact(), normalize=True, balance="none", step="sum"),
            rs.Glister(picks=Blocks(2), candidates=2.0),
        ):
            there = plan.select(ground_set, lookahead, 9)
            here = plan.select(shards_here(mapped, 1), lookahead, 9)
            assert there.ids.tolist() == here.ids.tolist()
            assert there.gains.tobytes() == here.gains.tobytes() and there.facts == here.facts
        assert ground_set.whole().factors.ids_N.tolist() == mapped.rows().ids_N.tolist()


@pytest.mark.ray
def test_a_lost_shard_changes_nothing_but_time(ray_session: None, tmp_path: Path):
    import ray

    from raysubset.cluster.shards import shard_actors

    mapped = written(tmp_path / "f", rows_of(5, ROWS, "float32", 16), "float32", [])
    lookahead = lookahead_of(problem(5, n=ROWS))
    plan = rs.Glister(picks=Blocks(3))
    asked = ResourceSettings(call_timeout_s=120, max_failures=2)
    with shard_actors(tmp_path / "f", 2, asked) as ground_set:
        lost: Any = ground_set.shards[1]
        ray.kill(lost._actor, no_restart=False)
        there = plan.select(ground_set, lookahead, 9)
    assert there.ids.tolist() == plan.select(shards_here(mapped, 1), lookahead, 9).ids.tolist()


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_asks_shards_for_what_is_beyond_memory(ray_session: None, tmp_path: Path):
    from raysubset.cli import call

    draw = np.random.default_rng(2)
    np.savez(
        tmp_path / "e.npz",
        embeddings=draw.normal(size=(3000, 100)).astype(np.float32),
        labels=np.arange(3000) % 4,
        weight=draw.normal(size=(4, 100)),
        bias=np.zeros(4),
    )
    words = ["select", "--embeddings", str(tmp_path / "e.npz")]
    words += ["--selection.glister.picks", "blocks(4)", "--run-dir"]
    beyond = ["--resources.selection_memory_mb", "1", "--resources.scorers", "3"]
    code, there = call([*words, str(tmp_path / "there"), *beyond])
    assert code == 0
    code, here = call([*words, str(tmp_path / "here"), "--local"])
    assert code == 0
    assert Path(there["selection"]).read_bytes() == Path(here["selection"]).read_bytes()
