"""One process, no Ray: the laptop twins of the two ports, and the oracle of the Ray ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from raysubset.errors import Stopped
from raysubset.faultpoints import reach
from raysubset.learn.blocks import rows_at, whole
from raysubset.learn.checkpoint import Files, Snapshot, write_checkpoint
from raysubset.learn.choosing import Choice, Chooser, PhaseLike, Progress, choose
from raysubset.learn.learner import EpochTrace, Learner, TrainOrder
from raysubset.learn.paged import is_paged
from raysubset.learn.partial import Keeper, Open, Partial, partial_of, traces_of
from raysubset.learn.problem import Problem
from raysubset.learn.scoring import (
    PartName,
    RangeCounts,
    RangeOutput,
    RowRange,
    Scorer,
    evaluation_of,
    merge_counts,
    ranges_of,
)
from raysubset.learn.weights import Weights
from raysubset.strategies.selection import Selection


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """What a trainer answers.

    Attributes:
        weights: the state after the phase.
        traces: what each epoch saw.
        metrics: validation figures and seconds by stage.
        saved: waits for the checkpoint; returns its files with their hashes, and the seconds that
            writing took.
    """

    weights: Weights
    traces: list[EpochTrace]
    metrics: dict[str, float]
    saved: Callable[[], tuple[Files, float]]


class LocalPool:
    """Scores and selects in this process."""

    def __init__(self, chooser: Chooser, scorer: Scorer, progress: Progress) -> None:
        """Join a chooser and a scorer."""
        self.chooser, self.scorer, self.progress = chooser, scorer, progress

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        """Return the selection of a phase, at these weights where it needs any."""
        return self._select(phase, weights, self.progress)

    def scores(self, phase: PhaseLike) -> bool:
        """Return whether the selection of a phase needs weights, and so takes time."""
        return self.chooser.scores(phase)

    def select_beside(self, phase: PhaseLike, weights: Weights, progress: Progress) -> Selection:
        """Return what `select` returns, while another thread trains a model of its own."""
        return self._select(phase, weights, progress)

    def _select(self, phase: PhaseLike, weights: Weights | None, progress: Progress) -> Selection:
        def score_and_choose(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
            assert weights is not None, "a phase that scores comes after one that trains"
            self.scorer.load(weights.state())
            outputs: list[RangeOutput] = []
            start = perf_counter()
            for rows in ranges:
                outputs.append(self.scorer.score(rows, embeddings=choice.embeddings))
                reach("selection.range")
                progress("scoring", len(outputs), len(ranges))
            busy_s = perf_counter() - start
            return choose(choice, outputs, self.scorer.device, progress), busy_s

        return self.chooser.select(phase, score_and_choose)


class LocalTrainer:
    """Trains in this process, playing all W ranks in turn."""

    def __init__(self, learner: Learner, rounds: Path, progress: Progress) -> None:
        """Join a learner and the folder of rounds.

        Args:
            learner: plays all ranks.
            rounds: checkpoints go to rounds/0007/checkpoint.
            progress: called between batches; may raise `Stopped`.
        """
        self.learner, self.rounds, self.progress = learner, rounds, progress
        self.evaluator = Scorer(learner.problem, learner.device, learner).warm()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def fit(
        self,
        selection: Selection,
        phase: PhaseLike,
        weights: Weights | None,
        begun: Open | None = None,
        last_epoch: Callable[[Weights], object] | None = None,
    ) -> Fit:
        """Train one phase from these weights (None: from the start), or what is left of it.

        `last_epoch` is called with the weights at the start of the last epoch.
        """
        kept = partial_of(begun)
        if kept is None:
            self._continue_from(weights)
        else:
            self.learner.load(kept.checkpoint)
        start = perf_counter() - (kept.seconds if kept else 0.0)
        last = _LastEpoch(self.learner, last_epoch)
        self._fetch(selection.ids)
        traces = self._train(train_order(selection, phase), begun, kept, last)
        trained = perf_counter()
        self.learner.round = phase.round
        metrics = {
            f"validation_{k}": v for k, v in merge_counts(self._counts("validation")).items()
        }
        metrics["seconds_training"] = trained - start
        if last_epoch is not None:
            metrics["seconds_training_beside"] = trained - last.began
        metrics["seconds_evaluation"] = perf_counter() - trained
        snapshot = self.learner.snapshot(phase.round)
        saved = self._save(snapshot)
        weights = Weights(round=phase.round, tensors=snapshot.weights)
        metrics["seconds_fit_wall"] = perf_counter() - start
        return Fit(weights=weights, traces=traces, metrics=metrics, saved=saved.result)

    def _fetch(self, ids: np.ndarray) -> None:
        """Hold the rows that a round trains on, where the pool is seen in a file.

        They are read once for all of the round's epochs; more than half of the pool stays there.
        """
        pool, id_K = self.learner.problem.parts.pool, np.unique(ids)
        if not is_paged(pool.content):
            return
        if 2 * len(id_K) > pool.num_examples:
            self.learner.hold([whole(pool)])
        else:
            self.learner.hold([rows_at(pool, pool.position_of(id_K))])

    def _train(
        self, order: TrainOrder, begun: Open | None, kept: Partial | None, last: _LastEpoch
    ) -> list[EpochTrace]:
        before, unheld = traces_of(kept) if kept else [], list[EpochTrace]()
        keeper = begun and Keeper(
            open=begun,
            before=kept,
            snapshot=lambda: self.learner.snapshot(-1),
            writer=self._writer,
        )

        def epoch_done(trace: EpochTrace) -> None:
            reach("epoch.trained")
            unheld.append(trace)
            if keeper and keeper.due():
                keeper.hold(unheld)
                unheld.clear()
            if trace.epoch + 2 == order.epochs.stop:
                last.begin()

        if len(before) + 1 == len(order.epochs):
            last.begin()
        try:
            return before + self.learner.train(
                order,
                lambda done, of: self.progress("training", done, of),
                done=len(before),
                epoch_done=epoch_done,
            )
        except (Stopped, KeyboardInterrupt):
            if keeper:
                keeper.stop()
            raise

    def evaluate(self, part: PartName, weights: Weights | None = None) -> dict[str, Any]:
        """Return `evaluation_of` a part at these weights (None: the present)."""
        if weights is not None:
            self._continue_from(weights)
        return evaluation_of(self._counts(part))

    def close(self) -> None:
        """Wait for the last checkpoint to be written."""
        self._writer.shutdown()

    def _counts(self, part: PartName) -> list[RangeCounts]:
        return [self.evaluator.count(rows) for rows in part_ranges(self.learner.problem, part)]

    def _continue_from(self, weights: Weights | None) -> None:
        if weights is None:
            self.learner.reset()
        elif self.learner.round != weights.round:
            assert weights.checkpoint is not None, "a resumed round has a checkpoint"
            self.learner.load(weights.checkpoint)

    def _save(self, snapshot: Snapshot) -> Future[tuple[Files, float]]:
        folder = checkpoint_folder(self.rounds, int(snapshot.trainer["round"]))
        return self._writer.submit(write_checkpoint, folder, snapshot)


class _LastEpoch:
    """Tells whoever asks of the start of a phase's last epoch."""

    def __init__(self, learner: Learner, told: Callable[[Weights], object] | None) -> None:
        self.learner, self.told, self.began = learner, told, 0.0

    def begin(self) -> None:
        """Give a copy of the weights, as they are now."""
        if self.told is not None:
            self.told(Weights(round=-1, tensors=self.learner.weights()))
            self.began = perf_counter()


def part_ranges(problem: Problem, part: PartName) -> list[RowRange]:
    """Return the fixed ranges of a whole part."""
    return ranges_of(part, problem.parts.named(part).id_N, problem.scoring_batch)


def checkpoint_folder(rounds: Path, round_: int) -> Path:
    """Return where a round's checkpoint lies."""
    return rounds / f"{round_:04d}" / "checkpoint"


def train_order(selection: Selection, phase: PhaseLike) -> TrainOrder:
    """Return what to train on in a phase, as plain data."""
    weights = None
    if selection.weights is not None and not np.all(selection.weights == 1):
        weights = selection.weights
    begin, end = phase.lr_span or (0, phase.total_visits)
    return TrainOrder(
        ids_EK=selection.ids.reshape(selection.epochs, -1),
        weights_K=weights,
        epochs=phase.epochs,
        visits_before=phase.visits_before - begin,
        total_visits=end - begin,
    )


def local_ports(
    problem: Problem, chooser: Chooser, rounds: Path, *, world: int, device: str, progress: Progress
) -> tuple[LocalPool, LocalTrainer]:
    """Return both ports of a run without Ray."""
    on = torch.device(device)
    learner = Learner(problem, on, world=world)
    trainer = LocalTrainer(learner, rounds, progress)
    return LocalPool(chooser, Scorer(problem, on), progress), trainer
