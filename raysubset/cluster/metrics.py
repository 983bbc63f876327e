"""Metrics: what a committed round adds to Prometheus, through Ray's own metrics agent.

The driver records, once per round; Ray exposes every figure as ray_<name> at each node's metrics
port. A failure to record is told once and stops no run: history.jsonl has everything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ray.util.metrics import Counter, Gauge

from raysubset.cluster.names import run_id
from raysubset.experiment import Experiment
from raysubset.ledger import Ledger

logger = logging.getLogger(__name__)
REFRESH_S = 5.0
LAST_S = 1.0  # what a run's end waits for the thread that refreshes gauges
TAGS = ("run", "strategy", "seed")
STAGES = ("scoring", "greedy", "handover", "training", "evaluation", "checkpoint_wait")
_GAUGES = {
    "raysubset_subset_size": ("ids", "Ids that an epoch of the round visited."),
    "raysubset_validation_loss": ("validation_loss", "Validation loss after the round (nats)."),
    "raysubset_validation_accuracy": ("validation_accuracy", "Validation accuracy, 0 to 1."),
}


class Kinds(Protocol):
    """Where metrics come from: `ray.util.metrics`, or a test's twin of it."""

    Counter: Any
    Gauge: Any


class OfRay:
    """The kinds of `ray.util.metrics`."""

    Counter, Gauge = Counter, Gauge


class RoundMetrics:
    """The metrics of one run in this process."""

    def __init__(self, run: str, strategy: str, seed: int, kinds: Kinds | type = OfRay) -> None:
        """Name them; nothing is recorded yet.

        Args:
            run: the folder or URI of the run; its short name becomes a tag.
            strategy: the run's.
            seed: the run's.
            kinds: where metrics come from.
        """
        made: Any = kinds
        self.tags = {"run": run_id(run), "strategy": strategy, "seed": str(seed)}
        self.rounds = made.Counter(
            "raysubset_rounds_total",
            description="Rounds committed, by what selected in them.",
            tag_keys=(*TAGS, "phase"),
        )
        self.recomputed = made.Counter(
            "raysubset_ranges_recomputed_total",
            description="Row ranges that were scored again because their scorer was lost.",
            tag_keys=TAGS,
        )
        # No histogram: Ray 2.60 exports its sum as bucket middles, not as what was observed.
        self.seconds = made.Gauge(
            "raysubset_stage_seconds",
            description="Seconds of the last round by stage; evaluation and waits are stages too.",
            tag_keys=(*TAGS, "stage"),
        )
        self.all_seconds = made.Counter(
            "raysubset_seconds_total",
            description="Seconds of all rounds of this process by stage.",
            tag_keys=(*TAGS, "stage"),
        )
        self.gauges = {
            name: (key, made.Gauge(name, description=told, tag_keys=TAGS))
            for name, (key, told) in _GAUGES.items()
        }
        self._shown: dict[tuple[int, str], tuple[Any, float, dict[str, str]]] = {}

    def record(self, line: Mapping[str, Any], ids: int) -> None:
        """Add a round's line of history.jsonl, whose epochs visited this many ids each."""
        self.rounds.inc(1, tags={**self.tags, "phase": str(line["strategy"])})
        if retries := float(line.get("scoring_retries") or 0.0):
            self.recomputed.inc(retries, tags=self.tags)
        for stage in STAGES:
            seconds = line.get(f"seconds_{stage}")
            if seconds is not None:
                tags = {**self.tags, "stage": stage}
                self._show(self.seconds, float(seconds), tags)
                if seconds > 0:  # Ray's counters refuse to grow by nothing
                    self.all_seconds.inc(float(seconds), tags=tags)
        for key, gauge in self.gauges.values():
            value = ids if key == "ids" else line.get(key)
            if value is not None:
                self._show(gauge, float(value), self.tags)

    def refresh(self) -> bool:
        """Set every gauge to what it shows: Ray drops one that was not set for 20 seconds."""
        for gauge, value, tags in list(self._shown.values()):
            gauge.set(value, tags=tags)
        return True

    def _show(self, gauge: Any, value: float, tags: dict[str, str]) -> None:
        self._shown[id(gauge), tags.get("stage", "")] = gauge, value, tags
        gauge.set(value, tags=tags)


@contextmanager
def measured(
    ledger: Ledger, experiment: Experiment, kinds: Kinds | type = OfRay, every_s: float = REFRESH_S
) -> Generator[None]:
    """Record every round that the ledger commits meanwhile, after what it does already."""
    before, strategy, seed = ledger.committed, experiment.selection.strategy, experiment.seed
    made = _never_raising(lambda: RoundMetrics(str(ledger.path), strategy, seed, kinds))
    if made is None:
        yield
        return
    last = max((int(line["visits"]) for line in ledger.history()), default=0)

    def committed() -> None:
        nonlocal last
        before()
        lines = ledger.history()
        line = lines[-1]  # a round's own line comes after its epochs'
        epochs = sum(each["round"] == line["round"] for each in lines) - 1
        ids, last = round((line["visits"] - last) / max(1, epochs)), line["visits"]
        _never_raising(lambda: made.record(line, ids))

    ledger.committed = committed
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(made, over, every_s), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(LAST_S)
        ledger.committed = before


def _keep(made: RoundMetrics, over: threading.Event, every_s: float) -> None:
    while not over.wait(every_s) and _never_raising(made.refresh):
        pass


def _never_raising(do: Callable[[], Any]) -> Any:
    try:
        return do()
    except Exception as error:  # Ray raises whatever is at hand, and no run is worth a metric
        logger.warning("metrics are not recorded (%s: %s)", type(error).__name__, error)
        return None
