"""A run folder read back: everything that a report may show, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysubset.engine import Outcome
from raysubset.errors import RunFolderError
from raysubset.experiment import Experiment
from raysubset.records import read_history
from raysubset.schedule import Phase, plan
from raysubset.storage.staging import shown

STAGES = ("scoring", "greedy", "training", "other")
_PARTS_OF_OTHER = ("seconds_handover", "seconds_checkpoint_wait")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run left behind.

    Attributes:
        path: the run folder.
        experiment: the resolved config.
        identity: data, its parts, the pool after filters, the classes.
        environment: versions and hardware.
        rounds: one mapping per finished round, in order.
        epochs: one mapping per epoch, in order.
        outcome: what the run gave; None while it is not finished.
        test_examples: how many examples the test accuracy is the mean of.
    """

    path: Path
    experiment: Experiment
    identity: Mapping[str, Any]
    environment: Mapping[str, Any]
    rounds: list[dict[str, Any]]
    epochs: list[dict[str, Any]]
    outcome: Outcome | None
    test_examples: int

    @property
    def pool(self) -> int:
        """N: the pool after filters."""
        return int(self.identity["pool"])

    @property
    def classes(self) -> list[str]:
        """The class names, as the data spells them: not to be trusted."""
        return [str(name) for name in self.identity.get("classes", ())]

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What was planned."""
        return plan(self.experiment, self.pool, self.identity.get("rows"))

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)


def read_run(path: str | Path) -> RunRecord:
    """Return the record of a run folder, finished or not.

    Raises:
        RunFolderError: the folder holds no run, or a file of it cannot be read.
    """
    path = Path(path).absolute()
    if not (path / "experiment.yaml").is_file() or not (path / "fingerprint.json").is_file():
        raise RunFolderError(f"{shown(path)} holds no run (no experiment.yaml); give a run folder.")
    identity, result = _read_json(path / "fingerprint.json"), _read_json(path / "result.json")
    lines = read_history(path)
    return RunRecord(
        path=path,
        experiment=Experiment.of(Experiment.read(path / "experiment.yaml")),
        identity=identity,
        environment=_read_json(path / "environment.json"),
        rounds=[line for line in lines if line["kind"] == "round"],
        epochs=[line for line in lines if line["kind"] == "epoch"],
        outcome=Outcome.of(result) if result else None,
        test_examples=int(result.get("test_examples") or identity["parts"]["test"]),
    )


def stage_seconds(round_: Mapping[str, Any]) -> dict[str, float]:
    """Return a round's seconds by stage; hand-over and waiting for a checkpoint are "other"."""
    seconds = {s: float(round_.get(f"seconds_{s}") or 0.0) for s in STAGES[:3]}
    return {**seconds, "other": sum(float(round_.get(name) or 0.0) for name in _PARTS_OF_OTHER)}


def _read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of the run folder; {} where it is not there (yet)."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RunFolderError(
            f"{shown(path)} is not JSON; the run folder is damaged. Run again in another --run-dir."
        ) from None
