"""Ids above 2^24, where float32 has no room, and above 2^53, where float64 has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raysubset.answers import explain, export
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, Taken
from raysubset.errors import Stopped
from raysubset.learn.choosing import filter_pool
from raysubset.learn.data import Dataset
from raysubset.local_run import run_local
from raysubset.preparation import Prepared, with_strategy
from tests.small_runs import Left, Watcher, assert_same_run, prepared

FIRST = {"above float32": 2**24 + 1, "above float64": 2**53 + 1}


def moved(part: Dataset, first: int) -> Dataset:
    """Return a part whose ids are all odd numbers from one on, which no float there can hold."""
    return replace(part, id_N=first + 2 * part.id_N)


def with_ids_from(ready: Prepared, first: int) -> Prepared:
    """Return the run over the same rows under other ids."""
    problem, _ = ready.given
    parts = problem.parts
    large = replace(
        parts,
        pool=moved(parts.pool, first),
        validation=moved(parts.validation, first),
        test=moved(parts.test, first),
    )
    return with_strategy(
        ready.experiment, replace(problem, parts=large), filter_pool(large.pool, ())
    )


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("strategy", ["glister", "adaptive-random"])
def test_f37_large_ids_stay_what_they_are_through_a_whole_run_and_its_resume(
    first: str, strategy: str, tmp_path: Path
):
    options: dict[str, Any] = {"selection__strategy": strategy, "training__augment": "none"}
    ready = with_ids_from(prepared(**options), FIRST[first])
    known = set(ready.problem.parts.pool.id_N.tolist())
    run_local(ready, tmp_path / "run")
    left = Left(tmp_path / "run")
    for ids in left.ids:
        assert ids and set(ids) <= known
    visits = [int(line["visits"]) for line in left.history if line["kind"] == "round"]
    assert visits[-1] == ready.phases[-1].total_visits

    def stop(now: int, name: str) -> None:
        if name == "training" and "done" in watch.names:
            raise Stopped("one round is enough")

    watch = Watcher(stop)
    with pytest.raises(Stopped):
        run_local(ready, tmp_path / "cut", watch=watch)
    run_local(ready, tmp_path / "cut", resume=True)
    assert_same_run(Left(tmp_path / "cut"), left)


def test_f37_every_file_and_answer_of_a_run_tells_large_ids_exactly(tmp_path: Path):
    ready = with_ids_from(prepared(training__augment="none"), FIRST["above float64"])
    run_local(ready, tmp_path / "run")
    table: pa.Table = pq.read_table(sorted(tmp_path.glob("run/rounds/*/selection.parquet"))[-1])
    ids = table["id"].to_pylist()
    assert table.schema.field("id").type == pa.int64()
    parts: pa.Table = pq.read_table(tmp_path / "run" / "parts.parquet")
    assert set(ready.problem.parts.pool.id_N.tolist()) <= set(parts["id"].to_pylist())
    text = export(tmp_path / "run", "txt", output=str(tmp_path / "ids.txt")).read_text()
    assert [int(line) for line in text.splitlines()] == ids
    told = json.loads(export(tmp_path / "run", "json").read_text())["ids"]
    assert told == ids
    why = explain(tmp_path / "run", ids[0])
    assert (why.id, why.part) == (ids[0], "pool") and why.choices[-1].rank == 1


def the_last_ones(factors: GradientFactors) -> torch.Tensor:
    """Gains that rise by a row at a time above 2^24, and are 0 below."""
    return (factors.ids_N - 2**24).clamp_(min=0).double()


def test_f37_of_more_rows_than_float32_can_number_the_best_are_told_by_their_own_ids():
    """2^24 + 6 rows: a row number that went through float32 would be even above 2^24."""
    size = 2**24 + 6
    pool = LocalGroundSet(GradientFactors.from_labels(np.zeros(size, dtype=np.int64), 2))
    best = pool.best(the_last_ones, 7, Taken.nothing())
    last = list(range(size - 1, 2**24, -1))
    assert best.factors.ids_N.tolist() == [*last, 0, 1]  # ties at 0 go to the lower id
