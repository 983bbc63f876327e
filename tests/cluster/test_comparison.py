"""Three runs by one crew are three runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysubset.cluster.comparing import check_comparison, folder_of, plan_comparison
from raysubset.errors import RunFolderError
from tests.cluster.crews import assert_same_learning, hands_of, play_on, ready
from tests.small_runs import play


def test_a_comparison_is_the_strategy_and_the_controls_that_it_is_not():
    names = [run.experiment.selection.strategy for run in plan_comparison(ready(2))]
    assert names == ["glister", "adaptive-random", "full-compressed"]
    other = plan_comparison(ready(2, selection__strategy="adaptive-random"))
    names = [run.experiment.selection.strategy for run in other]
    assert names == ["adaptive-random", "full-compressed"]


@pytest.mark.ray
def test_three_runs_by_one_crew_equal_three_runs_alone(crew_of_two: Any, tmp_path: Path):
    for run in plan_comparison(ready(2)):
        mine, twin = (folder_of(run, tmp_path / side) for side in ("ray", "here"))
        left = play_on(hands_of(crew_of_two), run, mine)[1]
        assert_same_learning(left, play(run, twin)[1])


def test_a_used_folder_is_refused_before_anything_starts(tmp_path: Path):
    runs = plan_comparison(ready(2))
    check_comparison(runs, tmp_path / "new", resume=False)
    assert not any(tmp_path.iterdir())
    play(runs[1], folder_of(runs[1], tmp_path))
    with pytest.raises(RunFolderError, match=r"adaptive-random is used; add --resume"):
        check_comparison(runs, tmp_path, resume=False)
    check_comparison(runs, tmp_path, resume=True)
    assert [folder.name for folder in tmp_path.iterdir()] == ["adaptive-random"]
