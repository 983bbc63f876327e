"""What select gives is what a run gives, whatever brings the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.core.budget import budget_of
from raysubset.learn.embedded import EmbeddingFiles
from raysubset.selecting.here import select_here
from raysubset.selecting.point import stored_values
from tests.selecting.points import at, dumped, files_in, of_files, same, same_choice, write
from tests.small_runs import BLOCKS, Left, play, prepared

KEPT = {"resources__keep_checkpoints": 9}
RUNS: dict[str, dict[str, Any]] = {
    "blocks": BLOCKS,
    "sampled": {"selection__glister__picks": "stochastic(0.1)", "selection__candidates": 2.0},
    "smaller": {**BLOCKS, "selection__goal": "smaller", "selection__proxy_epochs": 2},
    "bias": {"selection__glister__gradient": "bias", "selection__filters": ("duplicates",)},
    "warm": {**BLOCKS, "selection__warm_start": 0.5, "selection__balance": "equal"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    made: dict[str, Left] = {}

    def of(name: str) -> Left:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "run"
            made[name] = play(prepared(**RUNS[name], **KEPT), folder)[1]
        return made[name]

    return of


def strategies_of(left: Left) -> list[str]:
    return [json.loads((r / "metrics.json").read_text())["strategy"] for r in left.rounds]


@pytest.mark.parametrize("name", RUNS)
def test_at_each_round_it_chooses_what_the_run_chose_next(finished: Any, name: str):
    left = finished(name)
    followed = 0
    for before, after, strategy in zip(
        left.rounds, left.rounds[1:], strategies_of(left)[1:], strict=False
    ):
        if strategy == "glister":
            assert same_choice(select_here(at(before)), after)
            followed += 1
    assert followed


def test_a_run_folder_stands_for_its_newest_weights(finished: Any):
    left = finished("blocks")
    whole = select_here(at(left.rounds[0].parents[1]))
    assert same(whole, select_here(at(left.rounds[-1])))
    assert same(whole, select_here(at(left.rounds[-1] / "checkpoint")))


def test_random_chooses_what_a_random_run_chose(tmp_path: Path):
    _, left = play(prepared(selection__strategy="random"), tmp_path / "run")
    assert same_choice(select_here(at(left.rounds[-1])), left.rounds[0])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("name", ["blocks", "sampled"])
def test_embeddings_and_head_of_a_model_choose_as_the_model(
    finished: Any, tmp_path: Path, name: str, suffix: str
):
    point = finished(name).rounds[1]
    by_model = at(point)
    same_options = {f"selection__{k}": v for k, v in by_model.asked["selection"].items()}
    if name == "sampled":  # a run draws candidates and samples by its round and epoch
        same_options |= {"selection__candidates": 1.0, "selection__glister": {"picks": "block(4)"}}
        by_model = at(point, **same_options)
    files = files_in(tmp_path, suffix, dumped(point))
    by_files = of_files(files, **same_options)
    assert by_files.problem.parts.pool.num_examples == by_model.problem.parts.pool.num_examples
    assert same(select_here(by_files), select_here(by_model))


def test_the_order_of_a_persons_rows_changes_nothing(finished: Any, tmp_path: Path):
    found = dumped(finished("blocks").rounds[1])
    turned = {
        **found,
        "pool": {name: array[::-1].copy() for name, array in found["pool"].items()},
    }
    (tmp_path / "turned").mkdir()
    given = select_here(of_files(files_in(tmp_path, ".npz", found)))
    assert same(given, select_here(of_files(files_in(tmp_path / "turned", ".npz", turned))))
    own = dict(zip(found["pool"]["ids"].tolist(), found["pool"]["labels"].tolist(), strict=True))
    assert [own[i] for i in given.ids.tolist()] == given.labels.tolist()


@pytest.mark.parametrize("fraction", [0.013, 0.29, 0.5, 1.0])
@pytest.mark.parametrize("strategy", ["glister", "random"])
def test_the_budget_is_exact_and_no_id_comes_twice(finished: Any, fraction: float, strategy: str):
    ready = at(
        finished("blocks").rounds[1], selection__fraction=fraction, selection__strategy=strategy
    )
    chosen = select_here(ready)
    pool = ready.problem.parts.pool
    assert len(chosen) == budget_of(fraction, pool.num_examples) == len(set(chosen.ids.tolist()))
    assert np.isin(chosen.ids, pool.id_N).all()


def test_a_share_for_validation_is_drawn_by_class_and_seed(finished: Any, tmp_path: Path):
    found = dumped(finished("blocks").rounds[1])
    path = write(tmp_path / "all.npz", found["pool"] | found["head"])  # the head stands beside
    parts = of_files(EmbeddingFiles(embeddings=path), data__validation=0.25).problem.parts
    assert not np.isin(parts.pool.id_N, parts.validation.id_N).any()
    union = np.union1d(parts.pool.id_N, parts.validation.id_N)
    assert np.array_equal(union, np.sort(found["pool"]["ids"]))
    assert (parts.validation.class_count_C > 0).all()
    again = of_files(EmbeddingFiles(embeddings=path), data__validation=0.25, seed=1).problem.parts
    assert not np.array_equal(again.validation.id_N, parts.validation.id_N)


def test_where_a_run_ran_says_nothing_of_where_it_is_chosen(finished: Any):
    stored = stored_values(str(finished("blocks").rounds[0].parents[1]))
    assert set(stored["resources"]) == {"threads_per_rank"}  # sums depend on threads
    assert stored["selection"]["fraction"] == 0.25
