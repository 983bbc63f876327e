"""MLflow and W&B as far as they are called: the test environment has neither."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


class FakeMlflow:
    """An MLflow server in memory; `after` may raise once a call was carried out."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.before: Callable[[str], object] = lambda call: None
        self.after: Callable[[str], object] = lambda call: None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the module."""
        entities = SimpleNamespace(
            Metric=lambda *values: ("metric", *values), Param=lambda *values: ("param", *values)
        )
        module = SimpleNamespace(MlflowClient=self._client, entities=entities)
        monkeypatch.setitem(sys.modules, "mlflow", module)  # pyright: ignore
        monkeypatch.setitem(sys.modules, "mlflow.entities", entities)  # pyright: ignore

    def _client(self, tracking_uri: str) -> FakeMlflow:
        return self

    def _called(self, name: str, value: Any = None) -> Any:
        self.calls.append(name)
        self.after(name)
        return value

    def get_experiment_by_name(self, name: str) -> Any:
        self.before("get_experiment_by_name")
        known = name in self.experiments
        found = SimpleNamespace(experiment_id=self.experiments[name]) if known else None
        return self._called("get_experiment_by_name", found)

    def create_experiment(self, name: str) -> str:
        self.before("create_experiment")
        assert name not in self.experiments, "RESOURCE_ALREADY_EXISTS"
        self.experiments[name] = f"e{len(self.experiments)}"
        return self._called("create_experiment", self.experiments[name])

    def search_runs(self, experiments: list[str], filter_string: str, max_results: int) -> Any:
        self.before("search_runs")
        tag, wanted = filter_string.removeprefix("tags.`").removesuffix("'").split("` = '")
        found = [
            _run(run_id)
            for run_id, run in self.runs.items()
            if run["experiment"] in experiments and run["tags"].get(tag) == wanted
        ]
        return self._called("search_runs", found[:max_results])

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        self.before("create_run")
        run_id = f"r{len(self.runs)}"
        self.runs[run_id] = {
            "experiment": experiment,
            "name": run_name,
            "tags": tags,
            "metrics": [],
            "params": {},
            "status": "RUNNING",
        }
        return self._called("create_run", _run(run_id))

    def update_run(self, run_id: str, status: str) -> None:
        self.before("update_run")
        self.runs[run_id]["status"] = status
        self._called("update_run")

    def set_terminated(self, run_id: str, status: str) -> None:
        self.before("set_terminated")
        self.runs[run_id]["status"] = status
        self._called("set_terminated")

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        self.before("log_batch")
        assert len(metrics) <= 1000 and len(params) <= 100
        run = self.runs[run_id]
        for row in metrics:  # as a database does: the same row twice is one
            if row not in run["metrics"]:
                run["metrics"].append(row)
        for _, name, value in params:
            assert run["params"].setdefault(name, value) == value, "a param is never another"
        self._called("log_batch")


def _run(run_id: str) -> Any:
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id))


class FakeWandb:
    """W&B in memory: what was started, logged and finished, by run id."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.exit_codes: dict[str, list[int]] = {}
        self.settings: dict[str, Any] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand in for the module."""
        module = SimpleNamespace(
            init=self._init,
            Settings=lambda **values: self.settings.update(values),
            teardown=lambda: None,
        )
        monkeypatch.setitem(sys.modules, "wandb", module)  # pyright: ignore

    def _init(self, **how: Any) -> Any:
        self.started.append(how)
        run_id = how["id"]
        rows = self.rows.setdefault(run_id, [])
        return SimpleNamespace(
            define_metric=lambda name, step_metric: None,
            log=rows.append,
            summary=self.summaries.setdefault(run_id, {}),
            finish=lambda exit_code: self.exit_codes.setdefault(run_id, []).append(exit_code),
        )
