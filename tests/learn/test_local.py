from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysubset.errors import ConfigError, Stopped
from raysubset.learn.checkpoint import CheckpointRef, file_hash
from raysubset.learn.choosing import PhaseLike
from raysubset.learn.local import (
    Fit,
    LocalPool,
    LocalTrainer,
    checkpoint_folder,
    local_ports,
    part_ranges,
    train_order,
)
from raysubset.learn.scoring import Scorer, merge_counts
from raysubset.learn.weights import Weights
from raysubset.local_run import local_device
from raysubset.preparation import Prepared
from raysubset.strategies.selection import Selection
from tests.learn.ranks import CPU, flat
from tests.small_runs import prepared

Events = list[tuple[str, int, int]]


@pytest.fixture
def ports(tmp_path: Path) -> Generator[tuple[LocalPool, LocalTrainer, Events]]:
    events: Events = []
    pool, trainer = made(prepared(), tmp_path, events)
    yield pool, trainer, events
    trainer.close()


def made(ready: Prepared, folder: Path, events: Events) -> tuple[LocalPool, LocalTrainer]:
    return local_ports(
        ready.problem,
        ready.chooser,
        folder,
        world=2,
        device="cpu",
        progress=lambda stage, done, of: events.append((stage, done, of)),
    )


def phase(index: int) -> PhaseLike:
    return prepared().phases[index]


def committed(fit: Fit, trainer: LocalTrainer) -> Weights:
    """The weights of a fit as a ledger gives them back: the checkpoint alone."""
    files, _ = fit.saved()
    folder = checkpoint_folder(trainer.rounds, fit.weights.round)
    return Weights(round=fit.weights.round, checkpoint=CheckpointRef(path=str(folder), files=files))


def test_a_fit_answers_with_the_weights_that_its_checkpoint_holds(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    fit = trainer.fit(pool.select(phase(0), None), phase(0), None)
    files, seconds = fit.saved()
    assert seconds > 0
    for name, digest in files.items():
        assert file_hash(checkpoint_folder(trainer.rounds, 0) / name) == digest
    assert flat(committed(fit, trainer).state()) == flat(fit.weights.state())
    assert flat(fit.weights.state()) == flat(trainer.learner.weights())
    assert fit.weights.round == trainer.learner.round == 0


def test_the_metrics_of_a_fit_are_those_of_the_whole_validation_part(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    fit = trainer.fit(pool.select(phase(0), None), phase(0), None)
    scorer = Scorer(prepared().problem, CPU)
    scorer.load(fit.weights.state())
    ranges = part_ranges(prepared().problem, "validation")
    wanted = merge_counts([scorer.count(rows) for rows in ranges])
    for name, value in wanted.items():
        assert fit.metrics[f"validation_{name}"] == value
    assert wanted["examples"] == 16
    stages = fit.metrics["seconds_training"] + fit.metrics["seconds_evaluation"]
    assert 0 < stages <= fit.metrics["seconds_fit_wall"]


def test_traces_have_the_epochs_of_the_phase_and_the_ids_of_the_selection(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    chosen = pool.select(phase(0), None)
    fit = trainer.fit(chosen, phase(0), None)
    assert [trace.epoch for trace in fit.traces] == list(phase(0).epochs)
    for trace in fit.traces:
        ids = prepared().problem.parts.pool.id_N[trace.row_K]
        assert sorted(ids.tolist()) == sorted(chosen.ids.tolist())


def both_rounds(pool: LocalPool, trainer: LocalTrainer, by_checkpoint: bool) -> tuple[Any, Any]:
    fit = trainer.fit(pool.select(phase(0), None), phase(0), None)
    weights = committed(fit, trainer) if by_checkpoint else fit.weights
    chosen = pool.select(phase(1), weights)
    fit = trainer.fit(chosen, phase(1), weights)
    fit.saved()
    return chosen.ids.tolist(), flat(fit.weights.state())


@pytest.mark.parametrize("between", ["nothing", "new objects", "another round", "a stop"])
def test_a_round_continues_from_the_weights_it_is_given_whatever_was_done_between(
    between: str, tmp_path: Path
):
    first = made(prepared(), tmp_path / "a", [])
    wanted = both_rounds(*first, by_checkpoint=False)
    first[1].close()

    pool, trainer = made(prepared(), tmp_path / "b", [])
    weights = committed(trainer.fit(pool.select(phase(0), None), phase(0), None), trainer)
    if between == "new objects":
        trainer.close()
        pool, trainer = made(prepared(), tmp_path / "b", [])
    elif between == "another round":
        trainer.fit(pool.select(phase(2), weights), phase(2), weights).saved()
    elif between == "a stop":
        go_on = trainer.progress
        trainer.progress = stop_at(3)
        with pytest.raises(Stopped):
            trainer.fit(pool.select(phase(1), weights), phase(1), weights)
        trainer.progress = go_on
    chosen = pool.select(phase(1), weights)
    fit = trainer.fit(chosen, phase(1), weights)
    assert (chosen.ids.tolist(), flat(fit.weights.state())) == wanted
    trainer.close()


def stop_at(batch: int) -> Any:
    asked = iter(range(99))

    def progress(stage: str, done: int, of: int) -> None:
        if next(asked) == batch:
            raise Stopped("asked to")

    return progress


def test_without_weights_training_starts_from_the_beginning(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    states = [
        flat(trainer.fit(pool.select(phase(0), None), phase(0), None).weights.state())
        for _ in range(2)
    ]
    assert states[0] == states[1]


def test_evaluating_other_weights_takes_them_from_their_checkpoint(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    fit = trainer.fit(pool.select(phase(0), None), phase(0), None)
    weights = committed(fit, trainer)
    at_first = trainer.evaluate("test")
    trainer.fit(pool.select(phase(1), weights), phase(1), weights).saved()
    assert trainer.evaluate("test") != at_first
    assert trainer.evaluate("test", weights) == at_first
    assert at_first["examples"] == 40


def test_evaluating_changes_no_bit_of_the_training(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, _ = ports
    trainer.fit(pool.select(phase(0), None), phase(0), None)
    before = flat(trainer.learner.snapshot(0).trainer), flat(trainer.learner.weights())
    trainer.evaluate("pool")
    assert (flat(trainer.learner.snapshot(0).trainer), flat(trainer.learner.weights())) == before


def test_progress_tells_how_far_scoring_and_training_are(
    ports: tuple[LocalPool, LocalTrainer, Events],
):
    pool, trainer, events = ports
    fit = trainer.fit(pool.select(phase(0), None), phase(0), None)
    assert events == [("training", done, 72) for done in (0, 16, 32, 36, 52, 68)]
    events.clear()
    pool.select(phase(1), fit.weights)
    scoring = [event for event in events if event[0] == "scoring"]
    assert scoring == [("scoring", done, 4) for done in (1, 2, 3, 4)]  # 1 of validation, 3 of pool


def test_a_pool_that_must_score_needs_weights(ports: tuple[LocalPool, LocalTrainer, Events]):
    with pytest.raises(AssertionError, match="comes after one that trains"):
        ports[0].select(phase(1), None)


def selection(**changes: Any) -> Selection:
    ids = np.array([9, 4, 7, 1], dtype=np.int64)
    chosen = Selection(
        ids=ids,
        gains=np.zeros(4, dtype=np.float32),
        weights=None,
        labels=ids % 2,
        num_pool=20,
        num_classes=2,
        fraction=0.2,
    )
    return replace(chosen, **changes)


def test_an_order_is_a_row_of_ids_per_epoch_slice():
    assert train_order(selection(), phase(1)).ids_EK.tolist() == [[9, 4, 7, 1]]
    order = train_order(selection(epochs=2), phase(1))
    assert order.ids_EK.tolist() == [[9, 4], [7, 1]]
    assert (order.epochs, order.visits_before, order.total_visits) == (range(2, 4), 72, 216)
    assert order.visits == 4


def test_weights_of_one_are_no_weights():
    ones, some = np.ones(4, dtype=np.float32), np.array([1, 2, 1, 1], dtype=np.float32)
    assert train_order(selection(weights=ones), phase(1)).weights_K is None
    np.testing.assert_array_equal(train_order(selection(weights=some), phase(1)).weights_K, some)


def test_the_ranges_of_a_part_are_all_of_it():
    for part in ("pool", "validation", "test"):
        ranges = part_ranges(prepared().problem, part)
        ids = np.concatenate([rows.ids for rows in ranges])
        np.testing.assert_array_equal(ids, getattr(prepared().problem.parts, part).id_N)
        assert {rows.part for rows in ranges} == {part}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    assert local_device("auto") == local_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"resources\.device=cuda.*--resources\.device cpu"):
        local_device("cuda")
