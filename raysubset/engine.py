"""The engine: the loop that owns the rounds, whoever scores and trains.

    select -> settle the round before -> train -> append

A round is a value in and a value out, so resume, tests without Ray and sweeps follow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from raysubset.core.observations import Observations
from raysubset.errors import Stopped, TrainingDiverged
from raysubset.experiment import Experiment
from raysubset.learn.choosing import PhaseLike
from raysubset.learn.learner import EpochTrace
from raysubset.learn.local import Fit
from raysubset.learn.partial import Open
from raysubset.learn.scoring import PartName
from raysubset.learn.weights import Weights
from raysubset.ledger import Ledger, Round
from raysubset.records import chosen_paths, read_table
from raysubset.schedule import KEPT, PROXY, Phase, ceiling
from raysubset.strategies.selection import Selection
from raysubset.timeline import KEY, spans_of

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Where examples are scored and chosen."""

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        """Return the selection of a phase at these weights."""
        ...


class Trainer(Protocol):
    """Where the chosen examples are trained on."""

    def fit(
        self, selection: Selection, phase: PhaseLike, weights: Weights | None, begun: Open | None
    ) -> Fit:
        """Train a phase from these weights (None: from the start), or what is left of it.

        Finished epochs are kept where `begun` says, and those that were kept are not repeated.
        """
        ...

    def evaluate(self, part: PartName, weights: Weights | None = None) -> dict[str, Any]:
        """Return accuracy, macro-F1, loss and class_accuracy of a part (None: present weights)."""
        ...


class Watch(Protocol):
    """Who looks on: the command line's progress, or nobody."""

    def progress(self, stage: str, done: int, of: int) -> None:
        """A stage has come this far; may raise `Stopped`."""
        ...

    def round_started(self, phase: Phase, rounds: int) -> None:
        """A round begins; may raise `Stopped`."""
        ...

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """A round ended."""
        ...


class Silence:
    """A watch that looks away."""

    def progress(self, stage: str, done: int, of: int) -> None:
        """Do nothing."""

    def round_started(self, phase: Phase, rounds: int) -> None:
        """Do nothing."""

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run gave; one row of a table.

    Attributes:
        strategy: its name.
        fraction: as asked for.
        seed: as asked for.
        budget: ids an epoch visits while the strategy selects.
        num_pool: N after filters.
        epochs: passes over a subset (or the pool); a proxy's are not among them.
        selections: how many rounds scored the pool.
        visits: example visits in training, a proxy's not among them.
        distinct: distinct ids trained on, a proxy's not among them.
        validation_accuracy: after the last round.
        tuning_accuracy: after the last round; None without a tuning part.
        test_accuracy: after the last round; the test part is read here and nowhere else.
        test_macro_f1: mean of the classes' F1 on the test part.
        seconds_scoring: forward passes over pool and validation for selection, and a proxy's
            training.
        seconds_greedy: choosing.
        seconds_training: training steps.
        seconds_other: hand-over and waiting for checkpoints; evaluation is in none of these.
        speed_up: time of the same epochs over the full pool, at this run's seconds per visit,
            over this run's scoring + greedy + training + other.
        ceiling: 1 / (f + (1 + V / N) / (3 R)): the passes over pool (or candidates) and validation
            are counted, where a forward pass is taken for a third of a training step.
    """

    strategy: str
    fraction: float
    seed: int
    budget: int
    num_pool: int
    epochs: int
    selections: int
    visits: int
    distinct: int
    validation_accuracy: float
    tuning_accuracy: float | None
    test_accuracy: float
    test_macro_f1: float
    seconds_scoring: float
    seconds_greedy: float
    seconds_training: float
    seconds_other: float
    speed_up: float
    ceiling: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Outcome:
        """Return the outcome written in a result.json."""
        return cls(**{k: result[k] for k in cls.__dataclass_fields__})


def run(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    pool: Pool,
    trainer: Trainer,
    ledger: Ledger,
    watch: Watch | None = None,
) -> Outcome:
    """Run what is left of the phases, then read the test part once.

    Raises:
        TrainingDiverged: a loss was not finite; the rounds before it stay.
    """
    watch = watch or Silence()
    weights = ledger.weights
    seen = ledger.observations(int(ledger.identity["parts"]["pool"]))
    for phase in phases[ledger.done :]:
        try:
            watch.round_started(phase, len(phases))
            began = perf_counter()
            selection = _selection(pool, phase, weights, ledger)
            chosen = perf_counter()
        except Stopped:
            ledger.settle()  # the round before is whole, whatever becomes of this one
            raise
        ledger.settle()
        if weights is not None and ledger.weights is not None:
            weights = replace(weights, checkpoint=ledger.weights.checkpoint)
        start = perf_counter()
        begun = ledger.begin(phase, selection)
        fit = trainer.fit(selection, phase, None if phase.fresh else weights, begun)
        trained = perf_counter()
        weights = fit.weights
        _refuse_divergence(fit)
        seen = _after(seen, fit.traces)
        metrics = _metrics(phase, selection, fit, trained - start)
        if int(ledger.identity["parts"]["tuning"]):
            metrics |= _on_tuning(trainer, metrics)
            trained = perf_counter()
        metrics[KEY] = spans_of(ledger.clock, (began, chosen), (start, trained), metrics)
        ledger.append(_round(phase, selection, fit, metrics, seen), fit.saved)
        watch.round_done(phase, selection, metrics)
        logger.info("round %d done", phase.round, extra=_told(phase, metrics))
    ledger.settle()
    return _finish(experiment, phases, trainer, ledger)


def _told(phase: Phase, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a round as fields of its log line."""
    figures = {k: v for k, v in metrics.items() if isinstance(v, (int, float, str))}
    return {**figures, "round": phase.round, "stage": "round"}


def _selection(pool: Pool, phase: Phase, weights: Weights | None, ledger: Ledger) -> Selection:
    """Return the choice of a phase: the one it was begun with, a new one, or one made for good."""
    if (begun := ledger.begun(phase)) is not None:
        return begun
    if phase.strategy != KEPT:
        return pool.select(phase, weights)
    ledger.settle()
    return ledger.chosen(phase)


def _finish(
    experiment: Experiment, phases: tuple[Phase, ...], trainer: Trainer, ledger: Ledger
) -> Outcome:
    result = ledger.result
    if result is not None and set(Outcome.__dataclass_fields__) <= set(result):
        return Outcome.of(result)
    test = trainer.evaluate("test", ledger.weights)
    outcome = _outcome(experiment, phases, ledger, test)
    ledger.finish(asdict(outcome) | {f"test_{k}": v for k, v in test.items()})
    return outcome


def _refuse_divergence(fit: Fit) -> None:
    """Refuse a loss that is not finite; after the last step only validation shows it."""
    after = math.isfinite(fit.metrics["validation_loss"])
    for trace in fit.traces:
        if not np.isfinite(trace.loss_K).all() or (trace is fit.traces[-1] and not after):
            raise TrainingDiverged(
                f"the training loss is no longer finite in epoch {trace.epoch} at learning rate "
                f"{trace.lr:.4g}; the rounds before it are kept. Lower --training.lr or set "
                "--training.clip_norm, and start a new run.",
                epoch=trace.epoch,
                lr=trace.lr,
            )


def _metrics(phase: Phase, selection: Selection, fit: Fit, fit_s: float) -> dict[str, Any]:
    inside = fit.metrics.get("seconds_training", 0.0) + fit.metrics.get("seconds_evaluation", 0.0)
    handover = selection.facts.get("seconds_handover", 0.0) + max(0.0, fit_s - inside)
    return {
        "strategy": phase.strategy,
        "visits": phase.visits_before + phase.visits,
        "epochs": phase.epochs.stop,
        **selection.facts,
        **fit.metrics,
        "seconds_handover": handover,
    }


def _on_tuning(trainer: Trainer, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tuning part's accuracy and loss: what may decide while a run goes on.

    Validation may not: a strategy's score is never read on the part that drove its choice.
    """
    start = perf_counter()
    found = trainer.evaluate("tuning")
    seconds = float(metrics.get("seconds_evaluation", 0.0)) + perf_counter() - start
    told = {f"tuning_{name}": found[name] for name in ("accuracy", "loss", "examples")}
    return {**told, "seconds_evaluation": seconds}


def _after(seen: Observations, traces: list[EpochTrace]) -> Observations:
    for trace in traces:
        seen = seen.after_epoch(
            torch.from_numpy(trace.row_K),
            torch.from_numpy(trace.loss_K),
            torch.from_numpy(trace.margin_K),
            torch.from_numpy(trace.correct_K),
        )
    return seen


def _round(
    phase: Phase, selection: Selection, fit: Fit, metrics: dict[str, Any], seen: Observations
) -> Round:
    epochs = [
        {
            "epoch": trace.epoch,
            "loss": float(trace.loss_K.mean()),
            "accuracy": float(trace.correct_K.mean()),
            "lr": trace.lr,
            "visits": phase.visits_before + (index + 1) * phase.budget,
        }
        for index, trace in enumerate(fit.traces)
    ]
    return Round(
        phase=phase, selection=selection, metrics=metrics, observations=seen, epochs=epochs
    )


def _outcome(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    ledger: Ledger,
    test: Mapping[str, float],
) -> Outcome:
    rounds = [line for line in ledger.history() if line["kind"] == "round"]
    second = {
        stage: sum(line.get(f"seconds_{stage}") or 0.0 for line in rounds)
        for stage in ("scoring", "greedy", "training", "handover", "checkpoint_wait")
    }
    proxy_s = sum(r["seconds_training"] for r in rounds if r["strategy"] == PROXY)
    second["training"] -= proxy_s
    second["scoring"] += proxy_s
    other = second["handover"] + second["checkpoint_wait"]
    spent = second["scoring"] + second["greedy"] + second["training"] + other
    own = [phase for phase in phases if phase.strategy != PROXY]
    num_pool, visits = int(ledger.identity["pool"]), sum(phase.visits for phase in own)
    selection, epochs = experiment.selection, experiment.training.epochs
    full_s = second["training"] / visits * num_pool * epochs
    scored = sum(1 for line in rounds if line.get("examples_scored"))
    share = phases[-1].total_visits / (num_pool * epochs)
    rows = sum(line.get("examples_scored") or 0.0 for line in rounds) / max(1, scored)
    return Outcome(
        strategy=selection.strategy,
        fraction=selection.fraction,
        seed=experiment.seed,
        budget=phases[-1].budget,
        num_pool=num_pool,
        epochs=sum(len(phase.epochs) for phase in own),
        selections=scored,
        visits=visits,
        distinct=distinct_ids(ledger),
        validation_accuracy=rounds[-1]["validation_accuracy"],
        tuning_accuracy=rounds[-1].get("tuning_accuracy"),
        test_accuracy=test["accuracy"],
        test_macro_f1=test["macro_f1"],
        seconds_scoring=second["scoring"],
        seconds_greedy=second["greedy"],
        seconds_training=second["training"],
        seconds_other=other,
        speed_up=full_s / spent if spent else math.nan,
        ceiling=ceiling(share, rows=rows, num_pool=num_pool, apart=_apart(experiment)),
    )


def _apart(experiment: Experiment) -> int:
    """Return the epochs between two selections; goal smaller selects once."""
    once = experiment.selection.goal == "smaller"
    return experiment.training.epochs if once else experiment.selection.select_every


def distinct_ids(ledger: Ledger) -> int:
    """Return how many distinct ids the run trained on."""
    seen: np.ndarray = np.zeros(0, dtype=np.int64)
    for path in chosen_paths(ledger.path):
        seen = np.union1d(seen, read_table(path)["id"].to_numpy())
    return len(seen)
