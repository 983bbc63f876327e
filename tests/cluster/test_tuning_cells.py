"""Tuning by Tune: stopping is cooperative, studies are repeatable, and a sweep always ends."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysubset.cluster.stoppable_trial import Report, StoppableTrial
from raysubset.cluster.sweeping import Placed, Places, run_with_tune
from raysubset.cluster.tuning_cells import tune_on_ray
from raysubset.engine import Outcome, Watch
from raysubset.errors import CrewLost, Stopped
from raysubset.frontier.candidates import changed
from raysubset.frontier.plan import Trial
from raysubset.frontier.sweep import Sweep, left_of, run_sweep
from raysubset.frontier.trial import Data, run_trial, trial_folder
from raysubset.frontier.tuning import candidates_of, cells_of, with_tuning_part, with_values
from tests.frontier.sweeps import Ended, begin, given, here, sweep

# One at a time: who is compared with whom does not depend on who is faster.
LOCAL = Places(mode="local", at_once=1, resources={"CPU": 1.0})


def tuning(folder: Path, **settings: Any) -> Sweep:
    own = {"fractions": "0.3", "seeds": 1, "max_drop": None, "controls": False}
    made = sweep(folder, settings=own | settings)
    return replace(made, base=with_tuning_part(made.base, made.settings))


def on_ray(own: Sweep, ended: Ended, places: Places = LOCAL) -> None:
    """Run a sweep to its end on the Ray that is connected."""

    def told(trial: Trial, failure: str | None) -> None:
        ended.append((trial.name, failure))

    placed = Placed(Data(own.base))
    tune = tune_on_ray(own, placed, places, told)
    run_sweep(own, run_with_tune(own, placed, places, told), tune)


def started(own: Sweep, wait_s: float = 30.0) -> tuple[StoppableTrial, Trial]:
    trial = next(t for t in own.untuned if t.row == "glister")
    sources = Data(own.base).of(trial.seed)

    def run(watch: Watch) -> Outcome:
        return run_trial(trial, own.folder, sources, watch=watch)

    return StoppableTrial(run, trial.name, wait_s), trial


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_trial_that_is_never_stopped_reports_its_rounds_and_gives_the_same(tmp_path: Path):
    twin, own = tuning(tmp_path / "twin", tune_lr=2), tuning(tmp_path / "own", tune_lr=2)
    stoppable, trial = started(own)
    told: list[Report | Outcome] = [stoppable.next()]
    while isinstance(told[-1], Report):
        told.append(stoppable.next())
    wanted = run_trial(trial, twin.folder, Data(twin.base).of(trial.seed))
    assert isinstance(told[-1], Outcome)
    assert told[-1].test_accuracy == wanted.test_accuracy
    assert [t.epochs for t in told] == [2, 4, 6]
    assert [t.share for t in told[:-1] if isinstance(t, Report)] == pytest.approx([1 / 3, 2 / 3])
    stoppable.stop()
    assert not threads_of(trial.name)


def test_a_proxy_that_only_chooses_is_not_reported(tmp_path: Path):
    own = tuning(tmp_path / "f", tune_lr=2)
    smaller = changed(own.base, {"selection.goal": "smaller", "selection.proxy_epochs": 2})
    stoppable, _ = started(replace(own, base=smaller))
    told: list[Report | Outcome] = [stoppable.next()]
    while isinstance(told[-1], Report):
        told.append(stoppable.next())
    shares = [t.share for t in told if isinstance(t, Report)]
    assert shares == pytest.approx([1 / 3, 2 / 3])


def test_a_stopped_trial_ends_by_itself_and_its_folder_keeps_the_rounds(tmp_path: Path):
    own = tuning(tmp_path / "f", tune_lr=2)
    stoppable, trial = started(own)
    assert isinstance(stoppable.next(), Report)
    stoppable.stop()
    assert not threads_of(trial.name)
    path = trial_folder(own.folder, trial)
    assert (path / "rounds/0000/selection.parquet").is_file()
    assert not (path / "rounds/0001/selection.parquet").exists()
    assert not (path / "result.json").exists()
    with pytest.raises(Stopped):
        stoppable.next()


def test_a_trial_that_nobody_asks_for_a_report_stops_by_itself(tmp_path: Path):
    stoppable, trial = started(tuning(tmp_path / "f", tune_lr=2), wait_s=0.3)
    assert isinstance(stoppable.next(), Report)
    end = time.monotonic() + 30
    while threads_of(trial.name) and time.monotonic() < end:
        time.sleep(0.05)
    assert not threads_of(trial.name)


def test_an_error_in_a_trial_reaches_who_asks_and_one_that_does_not_stop_is_told(tmp_path: Path):
    def broken(_: Watch) -> Outcome:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        StoppableTrial(broken, "broken", 1.0).next()
    inside, free = threading.Event(), threading.Event()

    def deaf(watch: Watch) -> Outcome:
        inside.set()
        free.wait(30)
        raise Stopped("at last.")

    stoppable = StoppableTrial(deaf, "deaf", 0.2)

    def wait() -> None:
        with pytest.raises(Stopped):
            stoppable.next()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert inside.wait(30)  # a thread is listed before it can be joined
    with pytest.raises(CrewLost, match=r"--resources\.call_timeout_s"):
        stoppable.stop()
    free.set()
    waiting.join(10)
    assert not waiting.is_alive() and not threads_of("deaf")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("trial_mode", ["local", "crew"])
def test_f36_asha_stops_a_bad_candidate_in_good_order_gives_its_room_back_and_the_sweep_ends(
    ray_session: None, tmp_path: Path, trial_mode: str
):
    # the first rate learns, the second hardly moves: it falls behind after the first round
    swept = {"sweep": "training.lr=0.05,1e-7", "early_stop": "asha"}
    own, before = tuning(tmp_path / "f", strategies="random", **swept), groups()
    places = LOCAL
    if trial_mode == "crew":
        places = Places(mode="crew", at_once=1, resources={"node:__internal_head__": 0.001})
    begin(own, resume=False)
    ended = Ended()
    on_ray(own, ended, places)
    for one in own.tuned.values():
        good, bad = one.tried
        assert not good.out and good.epochs == 6 and one.chosen == good.values
        assert bad.out.startswith("stopped early after 2 epochs at tuning accuracy")
    assert left_of(own, own.trials) == []
    assert sorted(name for name, _ in ended) == sorted(
        c.name
        for cell in cells_of(own.base, own.settings, own.untuned)
        for c in candidates_of(own.base, own.settings, cell)
    )
    assert none_left_beside(before)
    again = Ended()
    (own.folder / "tuned.json").unlink()
    on_ray(own, again, places)
    assert again == []


def groups() -> set[str]:
    """Return the placement groups that hold room; crews of other tests may stand ready."""
    from ray.util import placement_group_table

    return {name for name, group in placement_group_table().items() if group["state"] != "REMOVED"}


def none_left_beside(before: set[str]) -> bool:
    """Return whether all other placement groups are given back, soon."""
    end = time.monotonic() + 30
    while groups() - before and time.monotonic() < end:
        time.sleep(0.2)
    return not groups() - before


@pytest.mark.ray
@pytest.mark.slow
def test_tune_chooses_what_one_process_chooses_and_a_failed_candidate_stops_no_other(
    ray_session: None, tmp_path: Path
):
    lrs = "training.lr=0.05,0.1,1e6"
    twin, own = tuning(tmp_path / "twin", sweep=lrs), tuning(tmp_path / "own", sweep=lrs)
    begin(twin, resume=False)
    run_sweep(twin, here(twin))
    begin(own, resume=False)
    on_ray(own, Ended(), Places(mode="local", at_once=2, resources={"CPU": 1.0}, waiting=4))
    assert own.tuned == twin.tuned
    assert given(own.rows()) == given(twin.rows())


@pytest.mark.ray
@pytest.mark.slow
def test_optuna_draws_as_many_for_every_cell_and_a_resumed_study_draws_the_same(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("optuna")
    settings = {"sweep": "training.lr=0.001..0.3", "search": "optuna", "samples": 4}
    own, cut = tuning(tmp_path / "own", **settings), tuning(tmp_path / "cut", **settings)
    begin(own, resume=False)
    ended = Ended()
    on_ray(own, ended)
    assert len(own.tuned) == 2 and all(len(one.tried) == 4 for one in own.tuned.values())
    assert all(0.001 <= t.values["training.lr"] <= 0.3 for o in own.tuned.values() for t in o.tried)
    assert len({name for name, _ in ended}) == len(ended) == 8

    # half of the candidates are on disk, as if the other half had been interrupted
    begin(cut, resume=False)
    for one in own.tuned.values():
        cell = next(c for c in cells_of(cut.base, cut.settings, cut.untuned) if c.row == one.row)
        for tried in one.tried[:2]:
            name = Path("trials") / with_values(cell, tried.values).name
            shutil.copytree(own.folder / name, cut.folder / name)
    more = Ended()
    on_ray(cut, more)
    assert cut.tuned == own.tuned and len(more) == 4
    monkeypatch.setattr("raysubset.cluster.tuning_cells.fit", lambda *_: pytest.fail("ran again"))
    (own.folder / "tuned.json").unlink()
    wanted = cut.tuned
    on_ray(own, Ended())
    assert own.tuned == wanted
