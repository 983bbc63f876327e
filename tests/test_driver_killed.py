"""F06: what a driver that is killed had committed stays, and nothing else of it is believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.counted import Counting, rounds_begun
from tests.killed_runs import Death, Job
from tests.small_runs import BLOCKS, Left, assert_same_run

Kill = Callable[[Job, Death], bool]
Undisturbed = Callable[[str], Left]
Killed = Callable[[str, int], tuple[int, set[int]]]


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def killed(
    kill: Kill, undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, int], tuple[int, set[int]]]:
    """Kill a run and hold what is done again to the law; give what stood before.

    That is how many rounds were committed, and which of the others had a choice.
    """

    def hold(point: str, count: int) -> tuple[int, set[int]]:
        folder = tmp_path / "run"
        job = Job(options=BLOCKS, place=str(folder))
        assert kill(job, Death(at=point, count=count)), "the run ended before that moment"
        committed = len(list(folder.glob("rounds/*/MANIFEST.json")))
        begun, counting = rounds_begun(folder), Counting(monkeypatch)
        job.run()
        assert counting.trained == list(range(committed, 3))
        assert counting.selected == [r for r in counting.trained if r not in begun]
        assert_same_run(Left(folder), undisturbed("glister"))
        return committed, begun

    return hold


@pytest.mark.parametrize(
    ("point", "count"), [("selection.range", 1), ("selection.range", 4), ("selection.greedy", 1)]
)
def test_f06_driver_killed_during_selection(point: str, count: int, killed: Killed):
    # The first that scores is round 1's; round 0 is being committed beside it.
    assert killed(point, count) in [(0, {0}), (1, set())]


@pytest.mark.parametrize("point", ["commit.begun", "metrics.written", "history.written"])
def test_f06_driver_killed_before_the_manifest_is_written(point: str, killed: Killed):
    assert killed(point, 2) == (1, {1})


def test_f06_driver_killed_after_the_manifest_is_written(killed: Killed):
    assert killed("manifest.written", 2) == (2, set())


@pytest.mark.parametrize("point", ["round.settled", "choice.half"])
def test_f06_driver_killed_between_manifest_and_training(point: str, killed: Killed):
    assert killed(point, 2) == (1, set())


def test_f06_driver_killed_between_choice_and_training(killed: Killed):
    assert killed("choice.written", 2) == (1, {1})


@pytest.mark.parametrize("point", ["epoch.trained", "epoch.kept", "training.done"])
def test_f06_driver_killed_during_training(point: str, killed: Killed):
    assert killed(point, 2) == (1, {1})


def test_f06_driver_killed_again_and_again_still_ends_the_same(
    kill: Kill, undisturbed: Undisturbed, tmp_path: Path
):
    """Every start dies at a later moment than the one before, recovery included."""
    folder = tmp_path / "run"
    job = Job(options=BLOCKS, place=str(folder))
    deaths = [Death(at="file.written", count=n) for n in (2, 6, 7, 8, 9, 10)]
    deaths += [Death(at="recovery.dropped"), Death(at="recovery.begun")]
    assert [kill(job, death) for death in deaths] == [True] * len(deaths)
    job.run()
    assert_same_run(Left(folder), undisturbed("glister"))
