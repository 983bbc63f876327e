"""The engine: the loop that owns the rounds, whoever scores and trains.

    select -> settle the round before -> train -> append

A round is a value in and a value out, so resume, tests without Ray and sweeps follow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from raysubset.ahead import Ahead, Beside, Chosen, OnWeights
from raysubset.core.observations import Observations
from raysubset.errors import Stopped, TrainingDiverged
from raysubset.experiment import Experiment
from raysubset.faultpoints import reach
from raysubset.learn.choosing import PhaseLike
from raysubset.learn.learner import EpochTrace
from raysubset.learn.local import Fit
from raysubset.learn.partial import Open
from raysubset.learn.scoring import PartName
from raysubset.learn.weights import Weights
from raysubset.ledger import Ledger, Round
from raysubset.outcome import Outcome as Outcome
from raysubset.outcome import distinct_ids as distinct_ids
from raysubset.outcome import outcome_of
from raysubset.schedule import KEPT, Phase
from raysubset.strategies.selection import Selection
from raysubset.timeline import KEY, spans_of, with_selection

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Where examples are scored and chosen."""

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        """Return the selection of a phase at these weights."""
        ...


class Trainer(Protocol):
    """Where the chosen examples are trained on."""

    def fit(
        self,
        selection: Selection,
        phase: PhaseLike,
        weights: Weights | None,
        begun: Open | None,
        last_epoch: OnWeights | None = None,
    ) -> Fit:
        """Train a phase from these weights (None: from the start), or what is left of it.

        Finished epochs are kept where `begun` says, and those that were kept are not repeated.
        `last_epoch` is called with the weights at the start of the last epoch.
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


def run(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    pool: Pool,
    trainer: Trainer,
    ledger: Ledger,
    watch: Watch | None = None,
    beside: Beside | None = None,
) -> Outcome:
    """Run what is left of the phases, then read the test part once.

    `beside` selects for the next round while a round's last epoch is trained; None: nobody does.

    Raises:
        TrainingDiverged: a loss was not finite; the rounds before it stay.
    """
    watch = watch or Silence()
    weights = ledger.weights
    seen = ledger.observations(int(ledger.identity["parts"]["pool"]))
    for phase in phases[ledger.done :]:
        with _whole(ledger):
            watch.round_started(phase, len(phases))
            reach("round.begun")
            began = perf_counter()
            selection = _selection(pool, phase, weights, ledger)
            chosen = perf_counter()
            reach("selection.made")
        ledger.settle()
        reach("round.settled")
        if weights is not None and ledger.weights is not None:
            weights = replace(weights, checkpoint=ledger.weights.checkpoint)
        start = perf_counter()
        begun = ledger.begin(phase, selection)
        reach("choice.written")
        with _ahead(beside, phases[phase.round + 1 :]) as ahead:
            own = None if phase.fresh else weights
            told = () if ahead is None else (ahead.begin,)
            fit = trainer.fit(selection, phase, own, begun, *told)
            trained = perf_counter()
            reach("training.done")
            weights = fit.weights
            _refuse_divergence(fit)
            seen = _after(seen, fit.traces)
            metrics = _metrics(phase, selection, fit, trained - start)
            metrics["seconds_checkpoint_wait"] = ledger.waited()  # for the round before this one
            if int(ledger.identity["parts"]["tuning"]):
                metrics |= _on_tuning(trainer, metrics)
                trained = perf_counter()
            metrics[KEY] = spans_of(ledger.clock, (began, chosen), (start, trained), metrics)
            following = None if ahead is None else ahead.wait(watch.progress)
        if following is not None:
            metrics |= _waited(ledger, metrics, following)
        ledger.append(_round(phase, selection, fit, metrics, seen, following), fit.saved)
        reach("round.appended")
        with _whole(ledger):
            watch.round_done(phase, selection, metrics)
        logger.info("round %d done", phase.round, extra=_told(phase, metrics))
    ledger.settle()
    reach("rounds.done")
    return _finish(experiment, phases, trainer, ledger)


@contextmanager
def _whole(ledger: Ledger) -> Generator[None]:
    """Commit the round that is appended, whatever becomes of the one that comes next."""
    try:
        yield
    except (Stopped, TrainingDiverged):
        ledger.settle()
        raise


def _ahead(beside: Beside | None, rest: tuple[Phase, ...]) -> AbstractContextManager[Ahead | None]:
    """Return what selects for the next phase beside the present one; None where nothing does."""
    if beside is None or not rest or not beside.scores(rest[0]):
        return nullcontext()
    return Ahead(beside, rest[0])


def _waited(ledger: Ledger, metrics: Mapping[str, Any], following: Chosen) -> dict[str, Any]:
    """Return a round's hand-over and spans with what it waited for the next one's selection."""
    (begin, end), (start, stop) = following.span_s, following.waited_s
    at = ledger.clock.at
    return {
        "seconds_handover": metrics["seconds_handover"] + stop - start,
        "seconds_selection_wait": stop - start,
        "seconds_selection_beside": end - begin,
        KEY: with_selection(metrics[KEY], made=(at(begin), at(end)), waited=(at(start), at(stop))),
    }


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
    commit_s = ledger.waited()  # for the last round, whose figures are written by then
    test = trainer.evaluate("test", ledger.weights)
    reach("test.read")
    outcome = outcome_of(experiment, phases, ledger, test, commit_s)
    told = {f"test_{k}": v for k, v in test.items()} | {"seconds_last_commit": commit_s}
    ledger.finish(asdict(outcome) | told)
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
    selecting, training = selection.facts.get("seconds_handover", 0.0), max(0.0, fit_s - inside)
    left_out = selection.left_out.tolist()
    return {
        "strategy": phase.strategy,
        **({"ids_left_out": left_out} if left_out else {}),
        "visits": phase.visits_before + phase.visits,
        "epochs": phase.epochs.stop,
        **selection.facts,
        **fit.metrics,
        "seconds_handover": selecting + training,
        "seconds_handover_selecting": selecting,
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
    phase: Phase,
    selection: Selection,
    fit: Fit,
    metrics: dict[str, Any],
    seen: Observations,
    following: Chosen | None,
) -> Round:
    epochs = [
        {
            "epoch": trace.epoch,
            # Sorted: a sum depends on its order, and a trace's rows come as they were trained on.
            "loss": float(np.sort(trace.loss_K).mean()),
            "accuracy": float(trace.correct_K.mean()),
            "lr": trace.lr,
            "visits": phase.visits_before + (index + 1) * phase.budget,
        }
        for index, trace in enumerate(fit.traces)
    ]
    return Round(
        phase=phase,
        selection=selection,
        metrics=metrics,
        observations=seen,
        epochs=epochs,
        following=None if following is None else (following.phase, following.selection),
    )
