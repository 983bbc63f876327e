from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raysubset.errors import Stopped
from raysubset.local_run import run_local
from raysubset.schedule import KEPT
from tests.counted import Counting, rounds_begun
from tests.small_runs import (
    BLOCKS,
    RUNS,
    Left,
    Watcher,
    assert_same_run,
    play,
    prepared,
    same_weights,
)


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def events(name: str, folder: Path) -> list[str]:
    """Return the names of the events of a run, in their order."""
    watch = Watcher(lambda number, name: None)
    play(prepared(**RUNS[name]), folder, watch=watch)
    return watch.names


def stop_at(number: int) -> Watcher:
    def stop(now: int, name: str) -> None:
        if now == number:
            raise Stopped(f"asked to stop at event {number}, {name}")

    return Watcher(stop)


# ---- resumed equals undisturbed


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_at_any_moment_resumes_as_if_it_never_was(
    name: str, undisturbed: Callable[[str], Left], tmp_path: Path
):
    ready, names = prepared(**RUNS[name]), events(name, tmp_path / "events")
    # the first and last event of each stage; but for one run only the first, from round 1 on
    first = [i for i, n in enumerate(names) if i == 0 or n != names[i - 1]]
    last = [i - 1 for i in first[1:]]
    second = [i for i in first if i > names.index("done")]
    for number in sorted({*first, *last}) if name == "glister" else second:
        folder = tmp_path / f"run{number}"
        with pytest.raises(Stopped):
            run_local(ready, folder, watch=stop_at(number))
        done = len(list(folder.glob("rounds/*/MANIFEST.json")))
        assert done == names[: number + 1].count("done"), f"event {number}: {names[number]}"
        begun = rounds_begun(folder)
        with pytest.MonkeyPatch.context() as patch:
            counting = Counting(patch)
            run_local(ready, folder, resume=True)
        rounds = list(range(done, len(undisturbed(name).rounds)))
        assert counting.trained == rounds
        chosen = [r for r in rounds if ready.phases[r].strategy != KEPT and r not in begun]
        assert counting.selected == chosen
        assert_same_run(Left(folder), undisturbed(name))
        shutil.rmtree(folder)


def test_a_run_stopped_after_every_round_resumes_as_if_it_never_was(
    undisturbed: Callable[[str], Left], tmp_path: Path
):
    """Each part runs with fresh objects; only the folder goes from one to the next."""
    ready, folder = prepared(**BLOCKS), tmp_path / "run"
    parts = 0
    while True:
        try:
            run_local(ready, folder, resume=True, watch=second_round())
            break
        except Stopped:
            parts += 1
    assert parts == 2
    assert_same_run(Left(folder), undisturbed("glister"))


def second_round() -> Watcher:
    def stop(now: int, name: str) -> None:
        if name == "training" and "done" in watch.names:
            raise Stopped("one round is enough")

    watch = Watcher(stop)
    return watch


def test_a_finished_run_is_not_run_again(
    undisturbed: Callable[[str], Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ready, folder = prepared(**BLOCKS), tmp_path / "run"
    outcome, _ = play(ready, folder)
    counting = Counting(monkeypatch)
    again, left = play(ready, folder, resume=True)
    assert again == outcome
    assert not counting.selected and not counting.trained and not counting.evaluated
    assert_same_run(left, undisturbed("glister"))


@pytest.mark.parametrize("damage", ["checkpoint/weights.safetensors", "MANIFEST.json", ""])
def test_f23_a_damaged_last_round_is_redone_to_the_same_end(
    damage: str, undisturbed: Callable[[str], Left], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ready, folder = prepared(**BLOCKS), tmp_path / "run"
    play(ready, folder)
    last = folder / "rounds" / "0002"
    if damage:
        (last / damage).write_bytes((last / damage).read_bytes()[:-9])
    else:
        shutil.rmtree(last)
    counting = Counting(monkeypatch)
    _, left = play(ready, folder, resume=True)
    assert counting.trained == [2]
    assert_same_run(left, undisturbed("glister"))


@pytest.mark.parametrize("rounds", [0, 2])
def test_f25_a_truncated_snapshot_of_ray_in_the_run_folder_is_neither_read_nor_minded(
    rounds: int, undisturbed: Callable[[str], Left], tmp_path: Path
):
    """What is resumed is for the ledger to say; Ray's own state may lie in a hidden folder."""
    ready, folder = prepared(**BLOCKS), tmp_path / "run"
    if rounds:
        with pytest.raises(Stopped):
            run_local(ready, folder, watch=stop_at(events("glister", tmp_path / "e").index("done")))
    state = folder / ".ray" / "raysubset-run" / "checkpoint_manager_snapshot.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"checkpoint_results": [{"checkpoint_dir_name": "check')
    run_local(ready, folder, resume=True)
    assert_same_run(Left(folder), undisturbed("glister"))


def test_two_runs_in_a_row_with_the_same_seed_are_the_same_and_with_another_are_not(
    undisturbed: Callable[[str], Left], tmp_path: Path
):
    _, again = play(prepared(**BLOCKS), tmp_path / "again")
    assert_same_run(again, undisturbed("glister"))
    _, other = play(prepared(**BLOCKS, seed=1), tmp_path / "other")
    assert other.ids != again.ids and not same_weights(other.weights(), again.weights())
