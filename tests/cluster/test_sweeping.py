"""A sweep by Ray Tune gives what one process gives, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raysubset.cluster.sweeping import Places, plan_places, run_with_tune
from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings
from raysubset.frontier.plan import EQUAL_TIME, Trial
from raysubset.frontier.sweep import run_sweep
from raysubset.frontier.table import TrialRow, failures_in
from raysubset.frontier.trial import Data
from tests.frontier.sweeps import Ended, begin, given, here, sweep

LOCAL = Places(mode="local", at_once=2, resources={"CPU": 1.0}, waiting=4)
MARKED = {"model__name": "tests.cluster.marked:marked"}


def comparable(rows: list[TrialRow]) -> dict[str, tuple[object, ...]]:
    """Leave out what a clock decided: how long equal time is."""
    return given([row for row in rows if row.row != EQUAL_TIME])


@pytest.mark.ray
@pytest.mark.slow
def test_f36_tune_s_trials_are_those_of_one_process_and_a_failed_one_stops_no_other(
    ray_session: None, mark: Callable[..., None], tmp_path: Path
):
    # Two seeds and no decision: what is asked here is who runs, not who wins.
    settings = {"seeds": 2, "max_drop": None, "fractions": "0.3"}
    twin = sweep(tmp_path / "twin", settings=settings, **MARKED)
    begin(twin, resume=False)
    run_sweep(twin, here(twin))

    own = sweep(tmp_path / "tune", settings=settings, **MARKED)
    begin(own, resume=False)
    ended: Ended = []

    def told(trial: Trial, failure: str | None) -> None:
        ended.append((trial.name, failure))

    run_all = run_with_tune(own, Data(own.base), LOCAL, told)
    mark("scorer-training-raise")
    run_sweep(own, run_all)
    failed = {name: why for name, why in ended if why}
    assert len(failed) == 1 and "the marked model was told to raise" in next(iter(failed.values()))
    assert failures_in(own.folder, own.trials) == failed
    assert len(own.rows()) == len(own.trials) - 1

    begin(own, resume=True)
    run_sweep(own, run_all)
    assert comparable(own.rows()) == comparable(twin.rows())
    assert len(own.rows()) == len(own.trials)
    well = [name for name, why in ended if not why]
    assert sorted(well) == sorted(set(well)) == sorted(trial.name for trial in own.trials)
    assert not (own.folder / ".tune").exists()


@pytest.mark.parametrize(
    ("asked", "there", "mode", "wanted"),
    [
        ({"workers": 1, "scorers": 1}, {"CPU": 4}, "auto", ("local", 4)),
        ({"workers": 1, "scorers": 1, "threads_per_rank": 2}, {"CPU": 5}, "auto", ("local", 2)),
        ({"workers": 2, "scorers": 1}, {"CPU": 8}, "auto", ("crew", 2)),
        ({"workers": 2, "scorers": 2, "placement": "crew"}, {"CPU": 8}, "auto", ("crew", 4)),
        ({"workers": 2, "scorers": 2}, {"CPU": 3}, "local", ("local", 3)),
        ({"workers": 1, "scorers": 1}, {"CPU": 16, "GPU": 3}, "auto", ("local", 3)),
        (
            {"workers": 1, "scorers": 1, "device": "cpu"},
            {"CPU": 16, "GPU": 3},
            "auto",
            ("local", 16),
        ),
        ({"workers": 1, "scorers": 1}, {"CPU": 8}, "crew", ("crew", 4)),
    ],
)
def test_as_many_trials_run_at_once_as_there_is_room_for(asked, there, mode, wanted):
    places = plan_places(ResourceSettings(**asked), there, mode)
    assert (places.mode, places.at_once) == wanted


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"workers": 4, "scorers": 2}, {"CPU": 5}),
        ({"workers": 1, "scorers": 1, "threads_per_rank": 8}, {"CPU": 4}),
        ({"workers": 1, "scorers": 1, "device": "cuda"}, {"CPU": 4}),
    ],
)
def test_a_trial_larger_than_the_cluster_is_refused_with_both_numbers(asked, there):
    with pytest.raises(RoomError, match=r"one trial needs \d+ [CG]PUs, and the cluster has \d+"):
        plan_places(ResourceSettings(**asked), there, "auto")


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_with_more_ranks_starts_a_crew_of_its_own_and_gives_the_same(
    ray_session: None, tmp_path: Path
):
    settings = {"seeds": 1, "max_drop": None, "fractions": "0.3", "controls": False}
    # Two CPUs are what the crews and scorers of other tests leave of this Ray: one trial at a time.
    two = {"resources__workers": 2, "resources__placement": "crew"}
    twin = sweep(tmp_path / "twin", settings=settings, **two)
    begin(twin, resume=False)
    run_sweep(twin, here(twin))

    own = sweep(tmp_path / "crews", settings=settings, **two)
    begin(own, resume=False)
    ended: Ended = []
    places = plan_places(own.base.resources, {"CPU": 2}, "auto")
    assert (places.mode, places.at_once) == ("crew", 1)
    run_sweep(
        own, run_with_tune(own, Data(own.base), places, lambda t, w: ended.append((t.name, w)))
    )
    assert [why for _, why in ended] == [None, None]
    assert given(own.rows()) == given(twin.rows())
