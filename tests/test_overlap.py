"""`selection.overlap`: the next round's choice, made beside the last epoch of a round."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import Stopped
from raysubset.learn.local import LocalPool, local_ports
from raysubset.learn.scoring import Scorer
from raysubset.learn.weights import Weights
from raysubset.local_run import run_local
from raysubset.records import read_history
from raysubset.timeline import timeline_of
from tests.small_runs import BLOCKS, RUNS, Left, Watcher, assert_same_run, play, prepared
from tests.small_runs import same_weights as same

BESIDE: dict[str, Any] = BLOCKS | {"selection__overlap": True}
WHOLE: dict[str, dict[str, Any]] = {
    "glister": BESIDE,
    "each epoch": BESIDE | {"selection__select_every": 1, "training__epochs": 3},
    "warm": BESIDE | RUNS["warm"],
    "smaller": BESIDE | RUNS["smaller"],
    "noisy": BESIDE | RUNS["noisy"],
}


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**BESIDE), tmp_path_factory.mktemp("whole") / "run")[1]


# ---- what is chosen


@pytest.mark.parametrize("name", WHOLE)
def test_a_choice_made_beside_training_is_that_of_the_weights_at_the_start_of_the_last_epoch(
    name: str, tmp_path: Path
):
    """The slow twin trains all but the last epoch, selects at rest, then trains the last."""
    ready = prepared(**WHOLE[name])
    left = play(ready, tmp_path / "run")[1]
    pool, trainer = local_ports(
        ready.problem, ready.chooser, tmp_path, world=2, device="cpu", progress=lambda *_: None
    )
    chosen = weights = None
    for phase, ids in zip(ready.phases, left.ids, strict=True):
        if phase.strategy != "kept":
            chosen = chosen or pool.select(phase, weights)
            assert chosen.ids.tolist() == ids
            selection, chosen = chosen, None
        if phase.fresh:
            trainer.learner.reset()
            weights = None
        early, last = len(phase.epochs) - 1, phase.epochs.stop - 1
        if early:
            begin = replace(phase, epochs=range(phase.epochs.start, last))
            weights = trainer.fit(selection, begin, weights).weights
        before = weights or Weights(round=-1, tensors=trainer.learner.weights())
        following = ready.phases[phase.round + 1 : phase.round + 2]
        if following and pool.scores(following[0]):
            chosen = pool.select(following[0], before)
        visits = phase.visits_before + early * phase.budget
        rest = replace(phase, epochs=range(last, last + 1), visits_before=visits)
        if selection.epochs > 1:
            one = selection.ids.reshape(selection.epochs, -1)[-1]
            selection = replace(selection, ids=one, epochs=1)
        weights = trainer.fit(selection, rest, weights).weights
    trainer.close()
    assert weights is not None and same(weights.state(), left.weights())


def test_an_older_choice_is_another_choice(whole: Left, undisturbed: Callable[[str], Left]):
    assert whole.ids[0] == undisturbed("glister").ids[0]
    assert whole.ids[1] != undisturbed("glister").ids[1]


def test_overlap_changes_nothing_where_nothing_is_scored(
    undisturbed: Callable[[str], Left], tmp_path: Path
):
    left = play(prepared(**RUNS["adaptive"], selection__overlap=True), tmp_path / "run")[1]
    assert_same_run(left, undisturbed("adaptive"))


# ---- resumed equals undisturbed


@pytest.mark.parametrize("batch", [5, 8, 9, 11, 14, 17])
def test_a_run_stopped_in_any_epoch_resumes_as_if_it_never_was(
    batch: int, whole: Left, tmp_path: Path
):
    def see(_: int, name: str) -> None:
        if name == "training" and watch.names.count("training") == batch + 1:
            raise Stopped("asked to stop")

    watch, folder = Watcher(see), tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**BESIDE), folder, watch=watch)
    assert not ahead_threads()
    assert_same_run(play(prepared(**BESIDE), folder, resume=True)[1], whole)


def test_a_committed_round_holds_the_next_choice_and_it_is_not_made_again(
    whole: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def stop(_: int, name: str) -> None:
        if name == "started" and watch.names.count("started") == 2:
            raise Stopped("between two rounds")

    watch, folder = Watcher(stop), tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**BESIDE), folder, watch=watch)
    assert (folder / "rounds/0000/MANIFEST.json").is_file()
    monkeypatch.setattr(LocalPool, "select", lambda *_: pytest.fail("it was chosen already"))
    assert_same_run(play(prepared(**BESIDE), folder, resume=True)[1], whole)


def test_a_damaged_choice_costs_the_round_that_made_it(whole: Left, tmp_path: Path):
    folder = tmp_path / "run"
    play(prepared(**BESIDE), folder)
    for name in ("0002", "0001/checkpoint"):
        os.rename(folder / "rounds" / name, tmp_path / name.replace("/", "-"))
    choice = folder / "rounds/0000/ahead/selection.parquet"
    choice.write_bytes(choice.read_bytes()[:-9])
    assert_same_run(play(prepared(**BESIDE), folder, resume=True)[1], whole)


# ---- stops and errors beside training


def ahead_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_stop_while_a_choice_is_waited_for_ends_it_and_loses_no_bit(
    whole: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def endless(pool: LocalPool, phase: Any, weights: Any, progress: Any) -> Any:
        while True:
            progress("selecting", 0, 1)

    def see(_: int, name: str) -> None:
        if name == "selecting":
            raise Stopped("asked to stop")

    monkeypatch.setattr(LocalPool, "select_beside", endless)
    with pytest.raises(Stopped, match="asked"):
        run_local(prepared(**BESIDE), tmp_path / "run", watch=Watcher(see))
    assert not ahead_threads()
    monkeypatch.undo()
    assert_same_run(play(prepared(**BESIDE), tmp_path / "run", resume=True)[1], whole)


def test_an_error_beside_training_ends_the_run_and_not_in_silence(
    whole: Left, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    score = Scorer.score

    def broken(scorer: Scorer, *given: Any, **how: Any) -> Any:
        if threading.current_thread().name == "ahead":
            raise MemoryError("no room to score")
        return score(scorer, *given, **how)

    monkeypatch.setattr(Scorer, "score", broken)
    with pytest.raises(MemoryError, match="no room"):
        run_local(prepared(**BESIDE), tmp_path / "run")
    monkeypatch.undo()
    assert_same_run(play(prepared(**BESIDE), tmp_path / "run", resume=True)[1], whole)


# ---- what is told of it


def test_seconds_beside_training_are_told_and_not_counted_as_waited_for(whole: Left):
    rounds = [line for line in read_history(whole.path) if line["kind"] == "round"]
    for line, after in pairwise(rounds):
        assert after["seconds_scoring"] == after["seconds_greedy"] == 0
        busy = after["seconds_scoring_beside"] + after["seconds_greedy_beside"]
        assert 0 < busy <= line["seconds_selection_beside"] + 1e-9
        assert line["seconds_handover"] >= line["seconds_selection_wait"] >= 0
        assert line["seconds_training"] >= line["seconds_training_beside"] > 0
        assert after["examples_scored"] == 160
    assert "seconds_selection_beside" not in rounds[-1]


def test_a_speed_up_counts_what_was_waited_for_and_takes_full_at_the_pace_of_epochs_alone(
    whole: Left,
):
    rounds = [line for line in read_history(whole.path) if line["kind"] == "round"]
    alone = [r["seconds_training"] - r.get("seconds_training_beside", 0.0) for r in rounds]
    visits = [36 * (2 - ("seconds_training_beside" in r)) for r in rounds]
    stages = ("scoring", "greedy", "training", "handover", "checkpoint_wait")
    told = json.loads((whole.path / "result.json").read_text())
    spent = sum(line[f"seconds_{stage}"] for line in rounds for stage in stages)
    spent += told["seconds_last_commit"]
    full = sum(alone) / sum(visits) * 144 * 6
    assert told["speed_up"] == pytest.approx(full / spent)


def test_the_timeline_draws_what_was_recorded(whole: Left):
    rounds = [line for line in read_history(whole.path) if line["kind"] == "round"]
    timeline = timeline_of(rounds)
    assert timeline is not None
    for stage in ("selection_beside", "handover", "training", "checkpoint_write"):
        drawn = sum(bar.seconds for bar in timeline.bars if bar.stage == stage)
        recorded = sum(line.get(f"seconds_{stage}") or 0.0 for line in rounds)
        np.testing.assert_allclose(drawn, recorded, atol=1e-9)  # offsets hold 1e-12
    for number in (0, 1):
        own = {bar.stage: bar for bar in timeline.bars if bar.round == number}
        made, trained = own["selection_beside"], own["training"]
        assert trained.begin_s <= made.begin_s <= trained.end_s
