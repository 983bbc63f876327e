"""A crew that is told to stop does, in good order; what was finished stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import CrewLost
from tests.cluster.crews import assert_same_learning, hands_of, living, play_on, ready, until
from tests.small_runs import Left, Watcher, play

pytestmark = pytest.mark.ray
Mark = Callable[..., None]


def test_f09_ctrl_c_in_training_keeps_the_finished_rounds_and_the_run_goes_on(
    crew_of_two: Any, tmp_path: Path, mark: Mark
):
    mark("rank0-training-slow")

    def see(_: int, name: str) -> None:
        if name == "training" and watch.names.count("started") == 2:
            raise KeyboardInterrupt

    watch = Watcher(see)
    hands, run = hands_of(crew_of_two), ready(2, training__epochs=30, selection__select_every=10)
    with pytest.raises(KeyboardInterrupt):
        play_on(hands, run, tmp_path / "ray", watch=watch)
    left = Left(tmp_path / "ray")
    assert {line["round"] for line in left.history} == {0}
    assert left.result is None
    left = play_on(hands, run, tmp_path / "ray", resume=True)[1]
    assert_same_learning(left, play(run, tmp_path / "twin")[1])


def test_a_crew_closed_in_the_middle_of_an_order_leaves_it_between_two_batches(
    last_of_two: Any, tmp_path: Path, mark: Mark, monkeypatch: pytest.MonkeyPatch
):
    mark("rank0-training-slow")
    forced: list[bool] = []
    fit = last_of_two._fit
    monkeypatch.setattr(fit, "abort", lambda _: forced.append(True))

    def see(_: int, name: str) -> None:
        if name == "training":
            last_of_two.close()

    run = ready(2, training__epochs=2000, selection__select_every=1000)
    with pytest.raises(CrewLost):
        play_on(hands_of(last_of_two), run, tmp_path, watch=Watcher(see))
    assert not forced
    assert not fit.goes_on
    assert fit.error is None  # both ranks returned; neither waited for the other
    until(lambda: not living("RayTrainWorker", "TrainController"), "the ranks are gone")
    assert Left(tmp_path).history == []
