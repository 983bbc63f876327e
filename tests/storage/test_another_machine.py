"""F07: the machine that drove a run is gone; another one has nothing but the address."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from raysubset.cli import call
from raysubset.learn.local import LocalTrainer
from raysubset.storage import owner
from raysubset.storage.owner import LOCK
from tests.counted import Counting
from tests.killed_runs import Death, Job
from tests.small_runs import COMMAND, Left, assert_same_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(owner, "BEAT_S", 0.02)
    monkeypatch.setattr(owner, "WATCH_S", 0.4)


@pytest.mark.parametrize("point", ["selection.range", "mirror.manifest", "manifest.written"])
def test_f07_another_machine_goes_on_with_the_address_alone(
    point: str,
    kill: Callable[[Job, Death], bool],
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    machines = [tmp_path / "first", tmp_path / "second"]
    for machine in machines:
        machine.mkdir()
    place = f"file://{tmp_path / 'run'}"
    job = Job(words=COMMAND, place=place, temporary=str(machines[0]))
    assert kill(job, Death(at=point, count=2)), "the run ended before that moment"
    assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] != os.getpid()
    committed = len(list(tmp_path.glob("run/rounds/*/MANIFEST.json")))
    # Another staging folder and another lock, another working directory; no word of options.
    monkeypatch.setattr(tempfile, "tempdir", str(machines[1]))
    monkeypatch.chdir(machines[1])
    counting = Counting(monkeypatch)
    assert call(["run", "--local", "--run-dir", place, "--resume"])[0] == 0
    assert counting.trained == list(range(committed, 3))
    assert_same_run(Left(tmp_path / "run"), undisturbed("glister"))
    assert not (tmp_path / "run" / LOCK).exists()
    assert [p for p in machines[1].rglob("*") if p.is_file()] == []


def test_f07_epochs_that_the_store_has_are_not_trained_again_on_another_machine(
    kill: Callable[[Job, Death], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place, kept = f"file://{tmp_path / 'run'}", list[int]()
    (tmp_path / "first").mkdir()
    job = Job(words=COMMAND, place=place, temporary=str(tmp_path / "first"))
    assert kill(job, Death(at="mirror.manifest", count=2))  # of round 1's first epoch of two
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    train = LocalTrainer._train

    def seen(trainer: LocalTrainer, order: object, begun: object, before: object, last: object):
        kept.append(0 if before is None else before.epochs)  # type: ignore[attr-defined]
        return train(trainer, order, begun, before, last)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalTrainer, "_train", seen)
    assert call(["run", "--local", "--run-dir", place, "--resume"])[0] == 0
    assert kept == [1, 0]
