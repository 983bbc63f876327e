"""What a round adds to the metrics is what its line of the history says."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from raysubset.cluster.metrics import STAGES, RoundMetrics, measured
from raysubset.engine import run
from raysubset.learn.local import local_ports
from raysubset.preparation import tracked_ledger
from raysubset.records import read_history, read_table
from tests.small_runs import BLOCKS, prepared

TOLD: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(lambda: defaultdict(float))


class _Told:
    """A metric that keeps what it is told, as strict as Ray's own."""

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert name.startswith("raysubset_")
        assert description
        self.name, self.tag_keys = name, set(tag_keys)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        if value <= 0:
            raise ValueError("a counter grows")
        TOLD[self.name][self._key(tags)] += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        TOLD[self.name][self._key(tags)] = value

    def _key(self, tags: dict[str, str]) -> tuple[tuple[str, str], ...]:
        assert set(tags) == self.tag_keys
        assert all(isinstance(value, str) for value in tags.values())
        return tuple(sorted(tags.items()))


class Registry:
    Counter = Gauge = _Told


class Broken:
    @staticmethod
    def Counter(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the agent is gone")

    Gauge = Counter


def play(folder: Path, kinds: Any, *, resume: bool = False) -> list[dict[str, Any]]:
    """Run with metrics and return the history."""
    TOLD.clear()
    ready = prepared(**BLOCKS)
    with (
        tracked_ledger(ready, folder, resume=resume) as ledger,
        measured(ledger, ready.experiment, kinds),
    ):
        pool, trainer = local_ports(
            ready.problem,
            ready.chooser,
            ledger.rounds,
            world=2,
            device="cpu",
            progress=lambda *_: None,
        )
        run(ready.experiment, ready.phases, pool, trainer, ledger)
        trainer.close()
    return [line for line in read_history(folder) if line["kind"] == "round"]


def value(name: str, **tags: str) -> float:
    """Return a figure of the run called demo."""
    every = {"run": "demo", "strategy": "glister", "seed": "0", **tags}
    return TOLD[name][tuple(sorted(every.items()))]


def test_the_metrics_are_the_history(tmp_path: Path):
    rounds = play(tmp_path / "demo", Registry)
    for phase in ("random", "glister"):
        told = sum(line["strategy"] == phase for line in rounds)
        assert value("raysubset_rounds_total", phase=phase) == told > 0
    for stage in STAGES:
        seconds = [line[f"seconds_{stage}"] for line in rounds]
        assert value("raysubset_stage_seconds", stage=stage) == seconds[-1]
        assert value("raysubset_seconds_total", stage=stage) == pytest.approx(sum(seconds))
    assert value("raysubset_validation_loss") == rounds[-1]["validation_loss"]
    assert value("raysubset_validation_accuracy") == rounds[-1]["validation_accuracy"]
    last = read_table(tmp_path / "demo" / "rounds" / "0002" / "selection.parquet")
    assert value("raysubset_subset_size") == len(last)
    assert "raysubset_ranges_recomputed_total" not in TOLD  # nothing was


def test_gauges_are_shown_between_rounds_and_counters_are_not_counted_again():
    TOLD.clear()
    metrics = RoundMetrics("/runs/demo", "glister", 0, Registry)
    line = {"strategy": "glister", "seconds_training": 2.0, "validation_loss": 0.5}
    metrics.record(line, ids=36)
    before = {name: dict(told) for name, told in TOLD.items()}
    for name in ("raysubset_validation_loss", "raysubset_stage_seconds", "raysubset_subset_size"):
        TOLD[name].clear()  # Ray's agent forgets a gauge that nobody set for a while
    metrics.refresh()
    assert {name: dict(told) for name, told in TOLD.items()} == before


def test_a_finished_run_that_is_resumed_adds_nothing(tmp_path: Path):
    play(tmp_path / "demo", Registry)
    play(tmp_path / "demo", Registry, resume=True)
    assert not TOLD


def test_metrics_that_fail_are_told_and_stop_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rounds = play(tmp_path / "demo", Broken)
    assert len(rounds) == 3
    assert [r.message for r in caplog.records if "metrics" in r.message] == [
        "metrics are not recorded (RuntimeError: the agent is gone)"
    ]
