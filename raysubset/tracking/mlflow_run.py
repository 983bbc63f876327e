"""A run in MLflow: one MLflow run for a run folder, however often it is resumed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from raysubset.tracking.memory import Memory
from raysubset.tracking.tracker import Ending, Facts, Told, outcome

STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_PARAMS, _METRICS = 100, 1000  # what one call of log_batch may hold
_OWN_TAG = "raysubset.id"


class MlflowRun:
    """Tells an MLflow server by its client; no state of the `mlflow` module is touched."""

    name = "MLflow"

    def __init__(self, uri: str, experiment: str, facts: Facts, memory: Memory) -> None:
        """Hold where to report; nothing is imported or called yet."""
        self._where = {"uri": uri, "experiment": experiment}
        self._facts, self._memory = facts, memory
        self._kept: dict[str, Any] = {}
        self._client: Any = None

    def begin(self) -> int:
        """Find the folder's run or make it, and send the config."""
        # Its own 120 s and 7 retries would hold this thread for a quarter of an hour a call.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        self._client = import_module("mlflow").MlflowClient(tracking_uri=self._where["uri"])
        self._kept = self._memory.of("mlflow", **self._where)
        if "run_id" not in self._kept:
            self._keep(run_id=self._run_id(), rounds=0)
        self._client.update_run(self._kept["run_id"], status="RUNNING")
        self._keep(finished=False)
        if self._kept["rounds"] == 0:
            self._send_params()
        return int(self._kept["rounds"])

    def round_done(self, told: Told) -> None:
        """Send a round's figures; they have its time, so that a repeated call adds nothing."""
        self._send(told.points, told.time_s)
        self._keep(rounds=told.number + 1)

    def caught_up(self) -> None:
        """Do nothing: every call was answered."""

    def finished(self, result: Mapping[str, Any], visits: int, time_s: float) -> None:
        """Send the outcome."""
        self._send([(visits, outcome(result))], time_s)

    def close(self, ending: Ending) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._kept["run_id"], STATUS[ending])
        self._keep(finished=ending == "finished")

    def _keep(self, **values: Any) -> None:
        self._kept = {**self._where, **self._kept, **values}
        self._memory.keep("mlflow", self._kept)

    def _run_id(self) -> str:
        """Return the run of this folder: a call that was answered too late may have made it."""
        experiment_id = self._experiment_id()
        own = f"tags.`{_OWN_TAG}` = '{self._memory.id}'"
        # The id is on disk before the run is made, so that its tag is found after any crash.
        self._memory.keep("mlflow", self._where)
        found = self._client.search_runs([experiment_id], filter_string=own, max_results=1)
        if not found:
            tags = {**self._facts.tags, _OWN_TAG: self._memory.id}
            found = [self._client.create_run(experiment_id, run_name=self._facts.name, tags=tags)]
        return str(found[0].info.run_id)

    def _experiment_id(self) -> str:
        name = self._where["experiment"]
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except Exception:
            found = self._client.get_experiment_by_name(name)
            if found is None:  # it was not that another trial made it first
                raise
            return str(found.experiment_id)

    def _send_params(self) -> None:
        param = import_module("mlflow.entities").Param
        params = [param(key, str(value)) for key, value in self._facts.params.items()]
        for start in range(0, len(params), _PARAMS):
            chunk = params[start : start + _PARAMS]
            self._client.log_batch(self._kept["run_id"], params=chunk)

    def _send(self, points: Sequence[tuple[int, Mapping[str, float]]], time_s: float) -> None:
        metric = import_module("mlflow.entities").Metric
        time_ms = round(1000 * time_s)
        metrics = [
            metric(tag, value, time_ms, visits)
            for visits, named in points
            for tag, value in named.items()
        ]
        for start in range(0, len(metrics), _METRICS):
            chunk = metrics[start : start + _METRICS]
            self._client.log_batch(self._kept["run_id"], metrics=chunk)
