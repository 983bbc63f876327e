"""A frozen backbone: it stays, its embeddings are kept, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysubset.errors import ModelError
from raysubset.learn.blocks import RangeRows, range_rows, whole
from raysubset.learn.head import find_head
from raysubset.learn.kept import FILE, Kept, KeptEmbeddings
from raysubset.learn.learner import Learner
from raysubset.learn.recall import Recall
from raysubset.learn.scoring import RowRange, Scorer
from tests.learn.ranks import CPU, flat, never, order_of
from tests.learn.test_scoring import pool_ranges, same_output
from tests.small_runs import BLOCKS, play, prepared, problem

OWN = "tests.learn.awkward_models"
NORMED: dict[str, Any] = {"model__name": f"{OWN}:normed", "model__frozen": True}
ITSELF: dict[str, Any] = {"model__name": f"{OWN}:frozen_itself"}
MOVING: dict[str, Any] = {"model__name": f"{OWN}:moving"}
DRAWING: dict[str, Any] = {"model__name": f"{OWN}:drawing"}
VIT: dict[str, Any] = {"model__name": f"{OWN}:small_vit", "model__frozen": True}
ONE: dict[str, Any] = {"model__name": f"{OWN}:WithDict", "model__frozen": True}


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every scorer remember nothing."""
    monkeypatch.setattr(Recall, "is_on", lambda self: False)


def learned(**options: Any) -> Learner:
    learner = Learner(problem(**options), CPU, world=2)
    learner.train(order_of(learner.problem), never)
    return learner


@pytest.mark.parametrize("options", [NORMED, VIT, ONE])
def test_training_moves_the_head_alone(options: dict[str, Any]):
    learner = Learner(problem(**options), CPU, world=2)
    before = learner.weights()
    learner.train(order_of(learner.problem), never)
    moved = {name for name, value in learner.weights().items() if not value.equal(before[name])}
    assert moved == {f"{learner.head.name}.weight", f"{learner.head.name}.bias"}


def test_without_the_option_the_rest_moves_too():
    learner = Learner(problem(**NORMED | {"model__frozen": False}), CPU, world=2)
    before = learner.weights()
    learner.train(order_of(learner.problem), never)
    still = {name for name, value in learner.weights().items() if value.equal(before[name])}
    assert not still


@pytest.mark.parametrize(
    ("options", "on"),
    [
        (NORMED, True),
        (ITSELF, True),
        (MOVING, True),
        (VIT, True),
        (DRAWING, False),
        ({"model__name": "mlp"}, False),
        ({"model__name": "tests.learn.ranks:stateful"}, False),
    ],
)
def test_embeddings_are_kept_where_the_backbone_is_frozen_and_draws_nothing(options, on: bool):
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    scorer = Scorer(problem(**options), CPU)
    before = flat(scorer.model.state_dict())
    torch.manual_seed(4)
    assert scorer.recall.is_on() is on
    assert torch.equal(torch.rand(2), expected)
    assert flat(scorer.model.state_dict()) == before


@pytest.mark.parametrize("options", [NORMED, ITSELF, VIT, ONE])
@pytest.mark.parametrize("embeddings", [True, False])
@pytest.mark.parametrize("memory_bytes", [1 << 30, 9000, 0])
def test_kept_embeddings_give_the_bits_of_a_forward(options, embeddings: bool, memory_bytes: int):
    """At the second weights of the head, in memory, on a disk, and on both."""
    first, later = learned(**options), learned(**options | {"training__lr": 0.2})
    kept = Scorer(first.problem, CPU)
    kept.recall._kept = KeptEmbeddings(memory_bytes)
    kept.load(first.weights())
    ranges = pool_ranges(first.problem)
    for rows in ranges:
        assert kept.score(rows, embeddings=embeddings).remembered is False
    kept.load(later.weights())
    for rows in ranges:
        fresh = Scorer(first.problem, CPU)
        fresh.load(later.weights())
        wanted, mine = (s.score(rows, embeddings=embeddings) for s in (fresh, kept))
        assert (wanted.remembered, mine.remembered) == (False, True)
        assert same_output(mine, wanted)


def test_a_scorer_in_place_remembers_while_the_head_is_trained():
    learner = learned(**NORMED)
    scorer, ranges = Scorer(learner.problem, CPU, learner), pool_ranges(learner.problem)
    assert [scorer.score(rows).remembered for rows in ranges] == [False] * len(ranges)
    learner.train(order_of(learner.problem, epochs=1), never)
    fresh = Scorer(learner.problem, CPU)
    fresh.load(learner.weights())
    for rows in ranges:
        mine = scorer.score(rows)
        assert mine.remembered and same_output(mine, fresh.score(rows))


def test_a_backbone_that_changed_after_all_is_asked_again():
    learner = learned(**MOVING)  # its BatchNorm goes on
    scorer, rows = Scorer(learner.problem, CPU, learner), pool_ranges(learner.problem)[0]
    scorer.score(rows)
    assert scorer.score(rows).remembered
    learner.train(order_of(learner.problem, epochs=1), never)
    mine, fresh = scorer.score(rows), Scorer(learner.problem, CPU)
    fresh.load(learner.weights())
    assert mine.remembered is False and same_output(mine, fresh.score(rows))


def test_one_weight_of_the_backbone_is_enough_to_forget_and_its_return_brings_nothing_back():
    scorer, rows = Scorer(problem(**VIT), CPU), pool_ranges(problem(**VIT))[0]
    first, state = scorer.score(rows), scorer.model.state_dict()
    other = {name: value.clone() for name, value in state.items()}
    other["conv_proj.bias"][0] += 1
    scorer.load(other)
    assert scorer.score(rows).remembered is False
    assert not same_output(scorer.score(rows), first)


def given_rows(scorer: Scorer, rows: RowRange) -> RangeRows:
    return range_rows([whole(scorer.problem.parts.pool)], rows.ids)


@pytest.mark.parametrize("source", [None, "a block"])
def test_other_rows_under_the_same_ids_are_not_taken_for_the_kept_ones(source: str | None):
    scorer, rows = Scorer(problem(**NORMED), CPU), pool_ranges(problem(**NORMED))[0]
    given = given_rows(scorer, rows)
    other = replace(given, content=given.content[::-1].copy())
    assert scorer.score(rows, given, source=source).remembered is False
    assert scorer.score(rows, given, source=source).remembered is True
    fresh = Scorer(problem(**NORMED), CPU).score(rows, other)
    assert same_output(scorer.score(rows, other, source=source and "another block"), fresh)
    if source is None:
        told_otherwise = replace(given, label_K=given.label_K[::-1].copy())
        assert (scorer.score(rows, told_otherwise).labels == given.label_K[::-1]).all()
    fewer = replace(rows, ids=rows.ids[:-1])
    assert scorer.score(fewer).remembered is False


def test_what_is_remembered_needs_no_rows():
    scorer, rows = Scorer(problem(**NORMED), CPU), pool_ranges(problem(**NORMED))[0]
    assert not scorer.remembers(rows, "block 7")
    first = scorer.score(rows, given_rows(scorer, rows), source="block 7")
    assert scorer.remembers(rows, "block 7") and not scorer.remembers(rows, "block 8")
    scorer._own = None  # type: ignore[assignment,method-assign]  # nothing is read
    assert same_output(scorer.score(rows, source="block 7"), first)


def test_a_model_that_is_not_frozen_is_never_remembered():
    scorer, rows = Scorer(problem(), CPU), pool_ranges(problem())[0]
    assert [scorer.score(rows).remembered for _ in range(2)] == [None, None]


def kept(value: float, rows: int = 3) -> Kept:
    embeddings = np.full((rows, 4), value, dtype=np.float32)
    ids = np.arange(rows, dtype=np.int64)
    return Kept(ids=ids, source="s", labels=ids, embeddings=embeddings)


@pytest.mark.parametrize("memory_bytes", [0, 50, 100, 10_000])
def test_ranges_are_kept_exactly_in_memory_or_on_a_disk(memory_bytes: int):
    store = KeptEmbeddings(memory_bytes)
    store.stand_at("backbone")
    for index in range(4):
        store.keep("pool", index, kept(index))
    for index in range(4):
        found = store.find("pool", index, np.arange(3), "s")
        assert found is not None and (found.embeddings == index).all()
        assert found.embeddings.shape == (3, 4)
    in_memory = [k for k in store._held.values() if not isinstance(k.embeddings, np.memmap)]
    assert sum(k.embeddings.nbytes for k in in_memory) <= memory_bytes
    assert store.find("validation", 0, np.arange(3), "s") is None
    store.stand_at("another")
    assert store.find("pool", 0, np.arange(3), "s") is None
    store.keep("pool", 0, kept(9))
    assert store.find("pool", 0, np.arange(3), "s") is not None


def test_other_ids_in_every_round_take_the_place_of_those_before_and_no_disk():
    store = KeptEmbeddings(50)
    store.stand_at("backbone")
    for value in range(5):
        for index in range(3):
            store.keep("pool", index, replace(kept(value), ids=np.arange(3) + value))
        found = [store.find("pool", index, np.arange(3) + value, "s") for index in range(3)]
        assert [f is not None for f in found] == [True, *[value == 0] * 2]
        assert all((f.embeddings == value).all() for f in found if f)
        assert value == 0 or store.find("pool", 0, np.arange(3) + value - 1, "s") is None
    assert (store._spool.folder / FILE).stat().st_size == 2 * 48


def test_a_full_disk_keeps_less_and_fails_nothing(monkeypatch: pytest.MonkeyPatch):
    class Full:
        free = 5

    monkeypatch.setattr("raysubset.learn.kept.shutil.disk_usage", lambda _: Full)
    scorer, ranges = Scorer(problem(**NORMED), CPU), pool_ranges(problem(**NORMED))
    scorer.recall._kept = KeptEmbeddings(7000)  # of 64 rows, 24 wide: one range
    outputs = [[scorer.score(rows) for rows in ranges] for _ in range(2)]
    assert [out.remembered for out in outputs[1]] == [True] + [False] * (len(ranges) - 1)
    assert all(same_output(*pair) for pair in zip(*outputs, strict=True))


def rounds(left: Any, name: str) -> list[float]:
    lines = [line for line in left.history if line["kind"] == "round"]
    return [line[name] for line in lines if line.get("examples_scored")]


@pytest.mark.parametrize("options", [NORMED, ITSELF])
def test_a_run_with_kept_embeddings_is_the_run_without(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ready = prepared(**BLOCKS | options)
    mine = play(ready, tmp_path / "kept")[1]
    with monkeypatch.context() as patch:
        forgetful(patch)
        twin = play(ready, tmp_path / "forgetful")[1]
    assert mine.ids == twin.ids and mine.gains == twin.gains
    assert flat(mine.weights()) == flat(twin.weights())
    scored, told = rounds(mine, "examples_scored"), rounds(mine, "examples_forwarded")
    assert len(scored) >= 2
    assert told == [scored[0]] + [0.0] * (len(scored) - 1)
    assert rounds(mine, "examples_remembered") == [0.0, *scored[1:]]
    assert not any("examples_forwarded" in line for line in twin.history)


def test_a_head_that_shares_its_weight_cannot_stand_before_a_frozen_backbone():
    with pytest.raises(ModelError, match=r"'head' shares its weight with back\.weight"):
        problem(**{"model__name": f"{OWN}:Tied", "model__frozen": True})


def test_a_statistic_that_is_replaced_where_the_old_one_lay_is_not_taken_for_it():
    """A module that assigns its statistic anew may get the very memory that it gave back."""
    model: Any = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(False)
    model.register_buffer("statistic", torch.zeros(1 << 20))
    recall = Recall(model, find_head(model, torch.zeros(2, 3)), torch.zeros(2, 3))
    rows = RowRange(part="pool", index=0, ids=np.arange(2))
    for step in range(20):
        kept = Kept(ids=rows.ids, source="own", labels=rows.ids, embeddings=np.zeros((2, 3)))
        recall.keep(rows, kept)
        assert recall.find(rows, "own") is not None
        model.statistic = None
        model.statistic = torch.full((1 << 20,), step + 1.0)
        assert recall.find(rows, "own") is None
