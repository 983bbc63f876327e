"""The number of ranks is part of a run: settled before it begins, recorded, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from raysubset.cli.options import resolve
from raysubset.experiment import Experiment, read_yaml
from raysubset.preparation import prepare
from tests.small_runs import experiment, play


def with_gpus(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("gpus", "device", "ranks"),
    [(0, "auto", 2), (1, "auto", 1), (2, "auto", 2), (8, "auto", 2), (1, "cpu", 2), (1, "cuda", 1)],
)
def test_auto_becomes_what_fits_before_the_run_begins(
    monkeypatch: pytest.MonkeyPatch, gpus: int, device: str, ranks: int
):
    with_gpus(monkeypatch, gpus)
    auto = experiment(resources__workers="auto", resources__device=device)
    assert prepare(auto).experiment.resources.workers == ranks
    asked = experiment(resources__workers=3, resources__device=device)
    assert prepare(asked).experiment.resources.workers == 3


def test_what_auto_became_stands_in_the_run_folder_and_a_resume_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    auto, path = experiment(resources__workers="auto"), tmp_path / "auto.yaml"
    path.write_text(auto.to_yaml())
    play(prepare(auto), tmp_path / "run")
    stored: Any = read_yaml(tmp_path / "run" / "experiment.yaml")
    assert stored["resources"]["workers"] == 2
    with_gpus(monkeypatch, 1)  # the machine it goes on with would settle on another number
    for file in (None, str(path)):
        again = resolve(file, None, tmp_path / "run", resume=True, local=True)
        assert again.resources.workers == 2
        assert not Experiment.of(stored).differences(again)
    begun = resolve(str(path), None, tmp_path / "new", resume=True, local=True)
    assert begun.resources.workers == 1
