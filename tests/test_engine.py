from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysubset.chain import OBSERVATIONS
from raysubset.core.observations import Observations
from raysubset.engine import Outcome
from raysubset.errors import RunFolderError, TrainingDiverged
from raysubset.learn.checkpoint import TRAINER, CheckpointRef, file_hash, read_trainer
from raysubset.learn.local import LocalTrainer
from raysubset.learn.scoring import Scorer
from raysubset.ledger import Ledger
from raysubset.local_run import run_local
from raysubset.records import read_observations, read_table
from tests.small_runs import (
    BLOCKS,
    RUNS,
    Left,
    assert_same_run,
    play,
    prepared,
    problem,
    same_weights,
)


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_f15_a_strategy_over_the_whole_pool_selects_nothing_and_is_full_training_bit_for_bit(
    world: int, model: str, tmp_path: Path
):
    options = {
        "model__name": model,
        "selection__fraction": 1.0,
        "training__epochs": 3,
        "resources__workers": world,
    }
    _, full = play(prepared(**options, selection__strategy="full"), tmp_path / "full")
    for strategy in ("glister", "random", "adaptive-random", "full-compressed"):
        ready = prepared(**options, selection__strategy=strategy)
        outcome, left = play(ready, tmp_path / strategy)
        assert same_weights(left.weights(), full.weights()), strategy
        assert [sorted(set(ids)) for ids in left.ids] == [sorted(ids) for ids in full.ids]
        assert (outcome.selections, outcome.visits) == (0, 3 * 144)


@pytest.mark.parametrize("name", RUNS)
def test_visits_observed_are_those_of_the_ledgers_selections(
    name: str, undisturbed: Callable[[str], Left]
):
    left = undisturbed(name)
    visits: Counter[int] = Counter()
    for phase, folder in zip(prepared(**RUNS[name]).phases, left.rounds, strict=True):
        table = read_table(folder / "selection.parquet")
        slices = len(set(table["epoch"].to_pylist()))
        assert slices in (1, len(phase.epochs))
        for i in table["id"].to_pylist():
            visits[i] += len(phase.epochs) // slices
    seen = read_observations(left.rounds[-1] / OBSERVATIONS)
    pool = prepared(**RUNS[name]).problem.parts.pool.id_N.tolist()
    assert dict(zip(pool, seen.visits_N.tolist(), strict=True)) == {i: visits[i] for i in pool}
    proxy = 2 * 144 if name == "smaller" else 0  # the proxy sees all; its visits are no training
    assert left.result and left.result["visits"] == visits.total() - proxy == 36 * 6
    assert left.result["distinct"] == (36 if proxy else len(visits))


def test_observations_are_what_training_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counted by Python, epoch by epoch, from the traces that the trainer answers."""
    traces: list[Any] = []
    fit = LocalTrainer.fit
    monkeypatch.setattr(
        LocalTrainer,
        "fit",
        lambda *args: [answer := fit(*args), traces.extend(answer.traces)][0],
    )
    _, left = play(prepared(**RUNS["adaptive"], training__lr=0.5), tmp_path / "run")
    last: dict[int, tuple[float, bool]] = {}
    margins: dict[int, list[float]] = {}
    forgotten: Counter[int] = Counter()
    for trace in traces:
        saw = zip(trace.row_K, trace.loss_K, trace.margin_K, trace.correct_K, strict=True)
        for row, loss, margin, correct in saw:
            forgotten[row] += row in last and last[row][1] and not correct
            last[row] = (loss, correct)
            margins.setdefault(row, []).append(margin)
    seen = read_observations(left.rounds[-1] / OBSERVATIONS)
    assert forgotten.total() > 0
    for row in range(144):
        loss, correct = last.get(row, (float("nan"), -1))
        np.testing.assert_equal(float(seen.last_loss_N[row]), float(loss))
        assert int(seen.correct_N[row]) == int(correct)
        assert int(seen.forgotten_N[row]) == forgotten[row]
        # float32 sums of a few margins
        np.testing.assert_allclose(seen.margin_sum_N[row], sum(margins.get(row, [0])), atol=1e-4)


def test_f20_the_test_part_is_read_once_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    order: list[str] = []
    count = Scorer.count
    monkeypatch.setattr(
        Scorer, "count", lambda self, rows: [order.append(rows.part), count(self, rows)][1]
    )
    play(prepared(**BLOCKS), tmp_path / "run")
    assert order == [*["validation"] * 3, "test"]


def test_the_outcome_is_that_of_the_history(undisturbed: Callable[[str], Left]):
    left = undisturbed("glister")
    rounds = [line for line in left.history if line["kind"] == "round"]
    epochs = [line for line in left.history if line["kind"] == "epoch"]
    assert [line["strategy"] for line in rounds] == ["random", "glister", "glister"]
    assert [line["visits"] for line in epochs] == [36 * n for n in range(1, 7)]
    assert [line["epoch"] for line in epochs] == list(range(6))
    assert [line["visits"] for line in rounds] == [72, 144, 216]
    assert [line["examples_scored"] for line in rounds] == [0, 160, 160]
    assert left.result is not None
    assert left.result["validation_accuracy"] == rounds[-1]["validation_accuracy"]
    assert (left.result["budget"], left.result["num_pool"]) == (36, 144)
    assert (left.result["selections"], left.result["epochs"]) == (2, 6)
    assert left.result["ceiling"] == pytest.approx(1 / (0.25 + (1 + 16 / 144) / 6))


def test_every_stage_has_its_seconds(tmp_path: Path):
    play(prepared(**BLOCKS), tmp_path / "run")
    lines = Ledger(tmp_path / "run", prepared().experiment, {}).history()
    for line in lines:
        if line["kind"] == "round":
            for stage in ("scoring", "greedy", "training", "evaluation", "handover"):
                assert 0 <= line[f"seconds_{stage}"] < 60
            assert line["seconds_training"] > 0 and line["seconds_evaluation"] > 0
            assert (line["seconds_scoring"] > 0) == (line["strategy"] == "glister")


@pytest.mark.parametrize(
    ("strategy", "epochs", "visits"),
    [
        ("glister", 6, 216),
        ("random", 6, 216),
        ("adaptive-random", 6, 216),
        ("full-compressed", 2, 216),
        ("full", 6, 864),
    ],
)
def test_strategies_of_one_experiment_are_compared_at_equal_compute(
    strategy: str, epochs: int, visits: int, tmp_path: Path
):
    options = {"selection__strategy": strategy} | (BLOCKS if strategy == "glister" else {})
    outcome, left = play(prepared(**options), tmp_path / "run")
    assert (outcome.visits, outcome.epochs, outcome.strategy) == (visits, epochs, strategy)
    seen = read_observations(left.rounds[-1] / OBSERVATIONS)
    assert int(seen.visits_N.sum()) == visits
    assert outcome.distinct == int((seen.visits_N > 0).sum())
    if strategy == "random":
        assert outcome.distinct == outcome.budget == 36
    assert np.isfinite([outcome.test_accuracy, outcome.validation_accuracy]).all()
    assert outcome.speed_up > 0 and np.isfinite(outcome.speed_up)


def test_an_outcome_is_read_back_from_its_result(tmp_path: Path):
    outcome, left = play(prepared(**BLOCKS), tmp_path / "run")
    assert left.result is not None
    ledger = Ledger(left.path, prepared(**BLOCKS).experiment, {})
    assert ledger.result is not None
    assert Outcome.of(ledger.result) == outcome


def test_duplicates_are_never_chosen_and_the_budget_is_of_what_is_left(tmp_path: Path):
    """A CSV whose every fourth row is a copy."""
    draw = np.random.default_rng(0)
    rows = [[*draw.normal(size=3).round(4), i % 2] for i in range(80)]
    rows[::4] = rows[1::4]
    text = "\n".join(["a,b,c,label", *(",".join(map(str, row)) for row in rows)])
    (tmp_path / "copies.csv").write_text(text + "\n")
    ready = prepared(
        **BLOCKS,
        data__format="auto",
        data__limit=None,
        data__path=str(tmp_path / "copies.csv"),
        selection__filters=["duplicates"],
        selection__fraction=0.5,
    )
    outcome, left = play(ready, tmp_path / "run")
    kept = int(ready.verdict.keep_N.sum())
    assert kept < ready.problem.parts.pool.num_examples
    assert (outcome.num_pool, outcome.budget) == (kept, kept // 2)
    dropped = set(ready.verdict.reasons)
    assert dropped and not dropped & {i for ids in left.ids for i in ids}


# ---- training that diverges


DIVERGING = {**BLOCKS, "training__lr": 1e9}


def test_f10_a_loss_that_is_not_finite_stops_the_run_by_epoch_and_rate(tmp_path: Path):
    with pytest.raises(TrainingDiverged) as caught:
        play(prepared(**DIVERGING), tmp_path / "run")
    error = caught.value
    message = str(error)
    assert f"in epoch {error.epoch} at learning rate {error.lr:.4g}" in message
    assert error.epoch in (0, 1) and error.lr > 1e7
    assert "--training.lr" in message and "--training.clip_norm" in message
    assert not list((tmp_path / "run").glob("rounds/*/MANIFEST.json"))


@pytest.mark.parametrize("where", ["loss", "last step"])
def test_f10_rounds_before_a_divergence_stay_whole_and_can_be_resumed(
    where: str, undisturbed: Callable[[str], Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second round's loss, or only the weights after its last step, are made NaN."""
    ready, folder, fit = prepared(**BLOCKS), tmp_path / "run", LocalTrainer.fit

    def poisoned(trainer: LocalTrainer, selection: Any, phase: Any, *how: Any) -> Any:
        if phase.round == 1 and where == "loss":
            trainer.learner.normalize.mean.fill_(np.nan)
        elif phase.round == 1:
            train = trainer.learner.train
            monkeypatch.setattr(trainer.learner, "train", partial(then_spoil, trainer, train))
        return fit(trainer, selection, phase, *how)

    mean = ready.problem.normalize.mean.clone()
    with monkeypatch.context() as patch:
        patch.setattr(LocalTrainer, "fit", poisoned)
        with pytest.raises(TrainingDiverged) as caught:
            run_local(ready, folder)
    ready.problem.normalize.mean.copy_(mean)
    assert caught.value.epoch in (2, 3) and "the rounds before it are kept" in str(caught.value)
    assert [p.parent.name for p in folder.glob("rounds/*/MANIFEST.json")] == ["0000"]
    run_local(ready, folder, resume=True)
    assert_same_run(Left(folder), undisturbed("glister"))


def then_spoil(trainer: LocalTrainer, train: Any, *args: Any, **how: Any) -> Any:
    traces = train(*args, **how)
    with torch.no_grad():
        next(trainer.learner.model.parameters()).fill_(torch.nan)
    return traces


def test_f10_a_run_that_diverges_diverges_again_on_resume_and_loses_nothing(tmp_path: Path):
    folder = tmp_path / "run"
    for _ in range(2):
        with pytest.raises(TrainingDiverged):
            play(prepared(**DIVERGING), folder, resume=True)
    with pytest.raises(RunFolderError, match=r"training\.lr: 1000000000.0 -> 0.05"):
        play(prepared(**BLOCKS), folder, resume=True)


def test_f10_steps_that_the_fp16_scaler_skips_are_no_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A scale whose gradients overflow: it is halved step after step, and the run goes on."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", partial(scaler, init_scale=2.0**24))
    outcome, left = play(prepared(**BLOCKS, training__precision="fp16"), tmp_path / "run")
    folder = left.rounds[-1] / "checkpoint"
    files = {TRAINER: file_hash(folder / TRAINER)}
    state = read_trainer(CheckpointRef(path=str(folder), files=files))["scaler"]
    assert state["scale"] < 2.0**24
    assert np.isfinite([outcome.test_accuracy, outcome.validation_accuracy]).all()


def test_before_the_first_visit_nothing_was_observed(tmp_path: Path):
    ledger = Ledger(tmp_path, prepared().experiment, {})
    seen, none = ledger.observations(5), Observations.none(5)
    assert seen.visits_N.tolist() == none.visits_N.tolist() == [0] * 5
    assert problem().parts.pool.num_examples == 144
