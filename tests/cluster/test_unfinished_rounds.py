"""Epochs of an open round on Ray: a stop keeps them, and a lost rank does not cost them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from raysubset.chain import OBSERVATIONS
from raysubset.cluster import ray_run
from raysubset.cluster.sight import Token
from raysubset.learn.learner import EpochTrace
from raysubset.records import read_observations
from tests.cluster.crews import assert_same_learning, hands_of, play_on, ready
from tests.small_runs import Left, Silence, play

pytestmark = pytest.mark.ray
Mark = Callable[..., None]
LONG: dict[str, Any] = {
    "training__epochs": 12,
    "selection__select_every": 6,
    "resources__checkpoint_every_s": 0,
}


class Stopping(Silence):
    """Stops training once an epoch is kept."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept

    def progress(self, stage: str, done: int, of: int) -> None:
        if self.kept.is_file():
            raise KeyboardInterrupt


@pytest.fixture
def answers(crew_of_two: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[Mapping[str, Any]]]:
    """What the ranks answer to every order to train."""
    found: list[list[Mapping[str, Any]]] = []
    exchange = crew_of_two.exchange

    def heard(order: Any, progress: Any, stage: str, *early: Any) -> Any:
        answered = exchange(order, progress, stage, *early)
        found.extend([answered] if stage == "training" else [])
        return answered

    monkeypatch.setattr(crew_of_two, "exchange", heard)
    return found


@contextmanager
def out_of_sight(folder: Path) -> Generator[Token]:
    """Leave a token that no rank sees, as where the run folder is the driver's own disk."""
    yield Token(path=str(folder / ".nowhere"), nonce="unseen")


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "blind"])
def test_f09_ctrl_c_keeps_finished_epochs_on_two_ranks_and_resume_does_not_repeat_them(
    crew_of_two: Any,
    tmp_path: Path,
    mark: Mark,
    answers: list[list[Mapping[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    seen: bool,
):
    if not seen:
        monkeypatch.setattr(ray_run, "left_in", out_of_sight)
    mark("rank0-training-slow")
    folder, hands, run = tmp_path / "ray", hands_of(crew_of_two), ready(2, **LONG)
    kept = folder / "rounds/0001/partial/MANIFEST.json"
    with pytest.raises(KeyboardInterrupt):
        play_on(hands, run, folder, watch=Stopping(kept))
    epochs = json.loads(kept.read_text())["epochs"]
    assert 1 <= epochs < 6
    assert [answer[0]["kept"] for answer in answers] == [
        None
    ]  # of round 0; round 1 was not answered
    left = play_on(hands, run, folder, resume=True)[1]
    assert answers[1][0]["kept"].epochs == epochs
    assert [trace.epoch for trace in answers[1][0]["traces"]] == list(range(6 + epochs, 12))
    assert_same_learning(left, play(run, tmp_path / "twin")[1])
    assert not kept.parent.exists()


def test_f04_a_lost_rank_costs_the_epoch_in_progress_and_no_example_is_seen_twice_in_an_epoch(
    crew_of_two: Any, tmp_path: Path, mark: Mark, answers: list[list[Mapping[str, Any]]]
):
    batches_of_a_round = 6 * 3
    mark("rank1-training-kill", after=batches_of_a_round + 13)  # in the fifth epoch of round 1
    run = ready(2, **LONG)
    left = play_on(hands_of(crew_of_two), run, tmp_path / "ray")[1]
    assert answers[0][0]["kept"] is None
    kept = answers[1][0]["kept"]
    assert kept.epochs in (3, 4)  # the fourth may still have been on its way
    by_rank = [answer["traces"] for answer in answers[1]]
    again = [EpochTrace.union([first, second]) for first, second in zip(*by_rank, strict=True)]
    assert [trace.epoch for trace in again] == list(range(6 + kept.epochs, 12))
    for trace in again:
        assert len(set(trace.row_K.tolist())) == len(trace.row_K) == len(left.ids[1])
    twin = play(run, tmp_path / "twin")[1]
    assert_same_learning(left, twin)
    assert visits(left) == visits(twin)


def visits(left: Left) -> list[int]:
    """Return how often each row of the pool was trained on."""
    return read_observations(left.rounds[-1] / OBSERVATIONS).visits_N.tolist()
