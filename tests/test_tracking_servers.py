"""One MLflow run, and one W&B run, for a run folder, whatever happens to either."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import Stopped
from raysubset.frontier.trial import Data, run_trial
from raysubset.local_run import run_local
from raysubset.records import read_history
from raysubset.tracking import wandb_run
from raysubset.tracking.tracker import figures, outcome
from tests.fake_trackers import FakeMlflow, FakeWandb
from tests.frontier.sweeps import begin, sweep
from tests.small_runs import BLOCKS, Left, Watcher, assert_same_run, play, prepared
from tests.tracked_runs import untroubled

MLFLOW = {"tracking__mlflow": "http://host:5000", **BLOCKS}
WANDB = {"tracking__wandb": "team/project", **BLOCKS}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    untroubled(monkeypatch)
    monkeypatch.setattr(wandb_run, "_leave_in_time", lambda: None)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for name in ("TIMEOUT", "MAX_RETRIES"):  # set where not set: put back afterwards
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "5")


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> FakeMlflow:
    server = FakeMlflow()
    server.install(monkeypatch)
    return server


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    server = FakeWandb()
    server.install(monkeypatch)
    return server


def stop_after(rounds: int) -> Watcher:
    def stop(now: int, name: str) -> None:
        if name == "training" and watch.names.count("done") == rounds:
            raise Stopped("asked to stop.")

    watch = Watcher(stop)
    return watch


def told_by_history(folder: Path) -> list[tuple[str, float, int]]:
    """Return (name, value, visits) of everything that a run has to tell."""
    points = [
        (name, value, line["visits"])
        for line in read_history(folder)
        for name, value in figures(line).items()
    ]
    result = json.loads((folder / "result.json").read_text())
    last = points[-1][2]
    ends = [(name, value, last) for name, value in outcome(result).items()]
    return sorted(points + ends)


def told_to(run: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Return (name, value, visits) of everything that an MLflow run was told."""
    return sorted((name, value, visits) for _, name, value, _, visits in run["metrics"])


def test_mlflow_gets_the_config_every_figure_and_the_end(mlflow: FakeMlflow, tmp_path: Path):
    play(prepared(**MLFLOW), tmp_path / "run")
    (run,) = mlflow.runs.values()
    assert (run["name"], run["status"]) == ("run", "FINISHED")
    assert mlflow.experiments == {"raysubset": run["experiment"]}
    assert run["params"]["selection.fraction"] == "0.25"
    assert not [name for name in run["params"] if name.startswith("tracking")]
    assert run["tags"].items() >= {"strategy": "glister", "seed": "0", "folder": "run"}.items()
    assert told_to(run) == told_by_history(tmp_path / "run")


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_f38_a_resumed_run_goes_on_in_the_same_mlflow_run(
    rounds: int, mlflow: FakeMlflow, tmp_path: Path
):
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**MLFLOW), folder, watch=stop_after(rounds))
    assert [run["status"] for run in mlflow.runs.values()] == ["KILLED"]
    run_local(prepared(**MLFLOW), folder, resume=True)
    (run,) = mlflow.runs.values()
    assert run["status"] == "FINISHED"
    assert told_to(run) == told_by_history(folder)
    calls = len(mlflow.calls)
    run_local(prepared(**MLFLOW), folder, resume=True)
    assert len(mlflow.calls) == calls, "a run that was told to its end is not told again"


CALLS = (
    "get_experiment_by_name create_experiment search_runs create_run update_run log_batch "
    "set_terminated"
).split()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_f38_a_call_that_is_lost_once_makes_no_second_run_and_no_second_figure(
    call: str,
    when: str,
    mlflow: FakeMlflow,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
):
    """After: the server did it, and its answer came too late."""
    lost: list[str] = []

    def lose(name: str) -> None:
        if name == call and not lost:
            lost.append(name)
            raise TimeoutError(name)

    setattr(mlflow, when, lose)
    _, left = play(prepared(**MLFLOW), tmp_path / "run")
    run_local(prepared(**MLFLOW), tmp_path / "run", resume=True)
    assert_same_run(left, undisturbed("glister"))
    (run,) = mlflow.runs.values()
    assert lost and run["status"] == "FINISHED" and len(run["params"]) > 40
    assert told_to(run) == told_by_history(tmp_path / "run")


def test_mlflow_is_not_waited_for_longer_than_the_user_says(
    mlflow: FakeMlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    play(prepared(**MLFLOW), tmp_path / "run")
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_another_server_gets_a_run_of_its_own(mlflow: FakeMlflow, tmp_path: Path):
    folder = tmp_path / "run"
    play(prepared(**MLFLOW), folder)
    play(prepared(**MLFLOW, tracking__mlflow_experiment="other"), folder, resume=True)
    assert {run["experiment"] for run in mlflow.runs.values()} == {"e0", "e1"}
    one, other = (run["metrics"] for run in mlflow.runs.values())
    assert sorted(one) == sorted(other), "the times too: they are those of the rounds"


def test_every_trial_of_a_frontier_is_a_run_and_the_frontier_their_group(
    mlflow: FakeMlflow, tmp_path: Path
):
    whole = sweep(tmp_path / "fr", tracking__mlflow="http://host:5000")
    begin(whole, resume=False)
    data = Data(whole.base)
    for trial in whole.planned[:3]:
        run_trial(trial, whole.folder, data.of(trial.seed))
    names = [trial.name for trial in whole.planned[:3]]
    assert [run["name"] for run in mlflow.runs.values()] == [f"fr/{name}" for name in names]
    assert {run["tags"]["group"] for run in mlflow.runs.values()} == {"fr"}


def test_a_damaged_memory_is_as_none(mlflow: FakeMlflow, tmp_path: Path):
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**MLFLOW), folder, watch=stop_after(1))
    (folder / "tracking.json").write_text('{"id": ')
    run_local(prepared(**MLFLOW), folder, resume=True)
    assert [run["status"] for run in mlflow.runs.values()] == ["KILLED", "FINISHED"]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_f38_a_resumed_run_goes_on_in_the_same_wandb_run(
    rounds: int, wandb: FakeWandb, tmp_path: Path
):
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**WANDB), folder, watch=stop_after(rounds))
    run_local(prepared(**WANDB), folder, resume=True)
    first, second = wandb.started
    assert first["id"] == second["id"] == json.loads((folder / "tracking.json").read_text())["id"]
    assert (first["resume"], first["project"], first["entity"]) == ("allow", "project", "team")
    assert first["dir"] == str(folder) and first["config"]["selection.fraction"] == 0.25
    lines = [{**figures(x), "visits": x["visits"]} for x in read_history(folder)]
    assert list(wandb.rows.values()) == [lines]
    result = json.loads((folder / "result.json").read_text())
    assert list(wandb.summaries.values()) == [outcome(result)]
    assert list(wandb.exit_codes.values()) == [[255, 0]]
    assert wandb.settings["init_timeout"] < 10


class ServerError(Exception):
    """What a client raises where the server answers 500."""


@pytest.mark.parametrize("up", [0, 1, 6, 9])
def test_f38_an_mlflow_that_answers_500_costs_nothing_and_is_told_all_in_one_run_on_resume(
    up: int,
    mlflow: FakeMlflow,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    """Up: how many calls the server answers before it is down for the rest of the run."""

    def fail(call: str) -> None:
        if len(mlflow.calls) >= up:
            raise ServerError(f"500 Internal Server Error: {call}")

    mlflow.before, folder = fail, tmp_path / "run"
    _, left = play(prepared(**MLFLOW), folder)
    assert_same_run(left, undisturbed("glister"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "MLflow is not being told of this run (ServerError: 500" in caplog.text
    mlflow.before = lambda call: None
    _, again = play(prepared(**MLFLOW), folder, resume=True)
    assert_same_run(again, left)
    (run,) = mlflow.runs.values()
    assert run["status"] == "FINISHED" and len(run["params"]) > 40
    assert told_to(run) == told_by_history(folder)
    assert len(caplog.records) == 1


def test_f38_a_wandb_that_cannot_be_reached_costs_nothing_and_is_told_all_in_one_run_on_resume(
    wandb: FakeWandb,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def offline(**_: Any) -> None:
        raise ConnectionError("no route to api.wandb.ai")

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["wandb"], "init", offline)
        _, left = play(prepared(**WANDB), folder)
    assert_same_run(left, undisturbed("glister"))
    assert len(caplog.records) == 1 and "W&B is not being told of this run" in caplog.text
    assert wandb.rows == {}
    play(prepared(**WANDB), folder, resume=True)
    run_id = json.loads((folder / "tracking.json").read_text())["id"]
    lines = [{**figures(x), "visits": x["visits"]} for x in read_history(folder)]
    assert wandb.rows == {run_id: lines} and wandb.exit_codes == {run_id: [0]}
    assert len(caplog.records) == 1


# ---- the real ones, where they are installed


def test_the_real_mlflow_holds_one_run_with_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module: Any = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    options = {**MLFLOW, "tracking__mlflow": f"file:{tmp_path / 'store'}"}
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**options), folder, watch=stop_after(2))
    run_local(prepared(**options), folder, resume=True)
    client = module.MlflowClient(tracking_uri=options["tracking__mlflow"])
    experiment = client.get_experiment_by_name("raysubset")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    told = {
        (name, metric.value, metric.step)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    }
    assert told == set(told_by_history(folder))


def test_the_real_wandb_keeps_both_parts_of_a_run_under_one_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        run_local(prepared(**WANDB), folder, watch=stop_after(2))
    run_local(prepared(**WANDB), folder, resume=True)
    parts = list((folder / "wandb").glob("offline-run-*"))
    run_id = json.loads((folder / "tracking.json").read_text())["id"]
    assert {part.name.rpartition("-")[2] for part in parts} == {run_id}
    assert caplog.records == []
