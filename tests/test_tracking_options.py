"""Where a run reports is an option like any other, holds no secret, and decides nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysubset.cli import call
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment
from raysubset.frontier.sweep import left_of, open_folder, run_sweep
from raysubset.tracking.settings import TrackingSettings
from tests.frontier.sweeps import begin, here, sweep
from tests.small_runs import BLOCKS, Left, assert_same_run, experiment, play, prepared

SERVER = "http://host:5000"


def of(**values: Any) -> TrackingSettings:
    return Experiment.of({"tracking": values}).tracking


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@host:5000",
        "https://secret@host/x",
        "http://me:se/cret@host",
        "me:secret@host:5000",
        "postgresql://me:secret@host/db",
        "http://host:5000/?token=secret",
        "postgresql://host/db?user=me&password=secret",
        "http://host/?api_key=secret",
        "http://me:secret" + "x" * 300 + "@host/" + "y" * 300,
    ],
)
def test_f30_credentials_in_an_address_are_refused_with_the_remedy_and_never_shown(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_USERNAME") as caught:
        of(mlflow=uri)
    folder = tmp_path / "run"
    code, _ = call(["run", "--local", "--tracking.mlflow", uri, "--run-dir", str(folder)])
    shown = capsys.readouterr()
    assert code == 2 and "MLFLOW_TRACKING_PASSWORD" in shown.err
    for text in (str(caught.value), shown.err, shown.out):
        assert "secret" not in text and "se/cret" not in text
    assert not folder.exists()


@pytest.mark.parametrize("uri", ["mlruns", "file:mlruns", "sqlite:///mlflow.db", "host:5000"])
def test_a_place_that_depends_on_where_one_stands_is_refused(uri: str):
    with pytest.raises(ConfigError, match="http://host:5000, or an absolute path"):
        of(mlflow=uri)


@pytest.mark.parametrize(
    "uri",
    [
        SERVER,
        "https://host/mlflow",
        "databricks",
        "databricks://profile",
        "/home/me@corp/mlruns",
        "file:/mlruns",
        "file:///home/me@corp/mlruns",
        "sqlite:////home/me/mlflow.db",
        "postgresql://host/db",
    ],
)
def test_other_addresses_are_taken_as_they_are(uri: str):
    assert of(mlflow=uri).mlflow == uri


@pytest.mark.parametrize("word", ["none", "off", "", None])
def test_tracking_is_off_unless_it_is_asked_for(word: str | None):
    assert of(mlflow=word, wandb=word) == TrackingSettings() == Experiment().tracking


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_an_extra_that_is_missing_is_refused_before_any_work(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, name, None)
    place = SERVER if name == "mlflow" else "project"
    for command in ("run", "compare", "frontier"):
        words = [command, "--local", f"--tracking.{name}", place, "--run-dir", str(tmp_path / "r")]
        code, _ = call(words)
        assert code == 2
        assert f'--tracking.{name} needs the extra: pip install "raysubset[{name}]"' in (
            capsys.readouterr().err
        )
        assert not (tmp_path / "r").exists()


def test_where_a_run_reports_decides_nothing():
    plain, told = experiment(), experiment(tracking__mlflow=SERVER, tracking__wandb="project")
    assert plain != told
    assert plain.digest == told.digest
    assert plain.differences(told) == told.differences(plain) == []
    assert not [name for name in plain.deciding if name == "tracking"]


def test_an_experiment_written_before_there_was_tracking_is_still_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run"
    # Manifests of that time did not name it.
    monkeypatch.setattr("raysubset.ledger.named_first", lambda *_: {})
    _, left = play(prepared(**BLOCKS), folder)
    stored = yaml.safe_load((folder / "experiment.yaml").read_text())
    del stored["tracking"]
    (folder / "experiment.yaml").write_text(yaml.safe_dump(stored))
    assert Experiment.of(stored) == experiment(**BLOCKS)
    _, again = play(prepared(**BLOCKS), folder, resume=True)
    assert_same_run(again, left)


def test_a_run_may_be_resumed_with_another_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tests.fake_trackers import FakeMlflow

    FakeMlflow().install(monkeypatch)
    _, left = play(prepared(**BLOCKS), tmp_path / "run")
    _, again = play(prepared(**BLOCKS, tracking__mlflow=SERVER), tmp_path / "run", resume=True)
    assert_same_run(Left(again.path), left)


def test_finished_trials_stay_finished_when_tracking_is_switched(tmp_path: Path):
    plain = sweep(tmp_path / "frontier", settings={"fractions": "0.5"})
    begin(plain, resume=False)
    run_sweep(plain, here(plain))
    told = sweep(
        plain.folder,
        settings={"fractions": "0.5"},
        tracking__mlflow=SERVER,
        tracking__wandb="project",
    )
    assert left_of(plain, plain.trials) == left_of(told, told.trials) == []
    assert len(told.trials) > 2
    with open_folder(told, resume=True):
        pass
    assert len(list(plain.folder.glob("trials/*/tensorboard/events*"))) == len(plain.trials)
