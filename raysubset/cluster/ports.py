"""The two ports on Ray: same ids and metrics as their laptop twins at the same W."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from raysubset.cluster.blocks import Blocks, Located, shares
from raysubset.cluster.crew import Crew, Early
from raysubset.cluster.memory import Meter, by_kind
from raysubset.cluster.names import BESIDE, round_stage
from raysubset.cluster.orders import At, Choose, Count, Score, Train
from raysubset.cluster.room import Room
from raysubset.cluster.scorers import Scored, Scorers
from raysubset.cluster.sight import Token
from raysubset.errors import Stopped
from raysubset.learn.choosing import Choice, Chooser, PhaseLike, Progress, choose
from raysubset.learn.learner import EpochTrace
from raysubset.learn.local import Fit, checkpoint_folder, train_order
from raysubset.learn.partial import Open, Partial, traces_of
from raysubset.learn.scoring import PartName, RowRange, evaluation_of, merge_counts
from raysubset.learn.weights import Weights, pack
from raysubset.strategies.selection import Selection


class RayPool:
    """Factors are made where the data lies, gathered once, and greedy runs on one device."""

    def __init__(
        self,
        run: str,
        chooser: Chooser,
        blocks: Blocks,
        crew: Crew,
        scorers: Scorers | None,
        progress: Progress,
        token: Token | None = None,
    ) -> None:
        """Join a chooser with dedicated scorers, or with the crew where `scorers` is None.

        The token lies in the run folder; without one, all ranks are taken to see the folder.
        """
        self.run, self.chooser, self.crew, self.scorers = run, chooser, crew, scorers
        self.blocks, self.progress, self.token = blocks, progress, token
        self.memory: dict[str, dict[str, int]] = {}

    def select(self, phase: PhaseLike, weights: Weights | None) -> Selection:
        """Return the selection of a phase, at these weights where it needs any."""
        version = "" if weights is None else f"{self.run}:{weights.round}"
        return self._select(phase, weights, version, self.progress)

    def scores(self, phase: PhaseLike) -> bool:
        """Return whether the selection of a phase needs weights, and so takes time."""
        return self.chooser.scores(phase)

    def select_beside(self, phase: PhaseLike, weights: Weights, progress: Progress) -> Selection:
        """Return what `select` returns, by the scorers, which are idle while the crew trains."""
        assert self.scorers is not None, "the ranks, which train, do not score beside"
        version = f"{self.run}:{phase.round - 1}{BESIDE}"
        return self._select(phase, weights, version, progress)

    def _select(
        self, phase: PhaseLike, weights: Weights | None, version: str, progress: Progress
    ) -> Selection:
        def score_and_choose(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
            assert weights is not None, "a phase that scores comes after one that trains"
            located = self.blocks.located(ranges)
            if self.scorers is None:
                return self._by_crew(weights, located, choice)
            flat = weights.flat if weights.flat is not None else pack(weights.state())
            scored = self.scorers.score(
                version,
                flat,
                located,
                embeddings=choice.embeddings,
                progress=progress,
                stage=round_stage("score", phase.round),
            )
            return self._chosen(self.scorers, scored, choice, phase, progress)

        return self.chooser.select(phase, score_and_choose)

    def _chosen(
        self,
        scorers: Scorers,
        scored: Scored,
        choice: Choice,
        phase: PhaseLike,
        progress: Progress,
    ) -> tuple[Selection, float]:
        """Return the choice from what the scorers scored, on the device for it."""
        self.memory = {"scorers": scored.memory}
        if scorers.on_gpu:
            chosen = scorers.choose(choice, scored, round_stage("choose", phase.round))
        else:
            chosen = choose(choice, scored.outputs, progress=progress)
        retries, weights_s = float(scored.retries), scored.weights_s
        facts = {**chosen.facts, "scoring_retries": retries, "seconds_weights": weights_s}
        return replace(chosen, facts=facts), scored.busy_s

    def _by_crew(
        self, weights: Weights, ranges: Sequence[Located], choice: Choice
    ) -> tuple[Selection, float]:
        at = At(run=self.run, round=weights.round, checkpoint=weights.checkpoint, token=self.token)
        each = shares(ranges, self.crew.room.workers)
        order = Score(at=at, ranges=each, embeddings=choice.embeddings)
        answers = self.crew.exchange(order, self.progress, "scoring")
        outputs = [output for answer in answers for output in answer["outputs"]]
        busy_s = max(answer["busy_s"] for answer in answers)
        if self.crew.room.device == "cuda":
            order = Choose(at=at, choice=choice, outputs=outputs)
            return self.crew.exchange(order, self.progress, "choosing")[0], busy_s
        return choose(choice, outputs, progress=self.progress), busy_s


class RayTrainer:
    """DDP training by the standing crew."""

    def __init__(
        self, run: str, crew: Crew, room: Room, rounds: Path, pool: RayPool, progress: Progress
    ) -> None:
        """Join the crew and the folder of rounds; ranks that do not see it send what they write."""
        self.run, self.crew, self.room, self.rounds = run, crew, room, rounds
        self.pool, self.progress = pool, progress
        self.blocks, self.meter = pool.blocks, Meter()
        self._present: Weights | None = None

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
        tell = None if last_epoch is None else _unpacked(last_epoch)
        start = time.perf_counter()
        work = train_order(selection, phase)
        order = Train(
            at=self._at(weights),
            run=self.run,
            round=phase.round,
            work=work,
            rows=self.blocks.subset(work.ids_EK),
            validation=self._shares("validation"),
            folder=str(checkpoint_folder(self.rounds, phase.round)),
            send_weights=self.room.placement == "actors",
            begun=begun,
            token=self.pool.token,
            ahead=last_epoch is not None,
        )
        try:
            answers = self.crew.exchange(order, self.progress, "training", tell)
        except (Stopped, KeyboardInterrupt):
            self.crew.halt()
            raise
        counts = merge_counts([count for answer in answers for count in answer["counts"]])
        metrics: dict[str, Any] = {f"validation_{k}": v for k, v in counts.items()}
        beside = () if last_epoch is None else ("training_beside",)
        for stage in ("rows", "training", *beside, "evaluation"):
            metrics[f"seconds_{stage}"] = max(answer[f"seconds_{stage}"] for answer in answers)
        metrics["seconds_fit_wall"] = time.perf_counter() - start
        metrics |= by_kind(self._memory(answers))
        per_rank = zip(*(answer["traces"] for answer in answers), strict=True)
        kept: Partial | None = answers[0]["kept"]
        before = [] if kept is None else traces_of(kept)
        self._present = Weights(round=phase.round, flat=answers[0]["weights"])
        return Fit(
            weights=self._present,
            traces=before + [EpochTrace.union(list(traces)) for traces in per_rank],
            metrics=metrics,
            saved=lambda: self.crew.saved(self.run, phase.round),
        )

    def evaluate(self, part: PartName, weights: Weights | None = None) -> dict[str, Any]:
        """Return `evaluation_of` a part at these weights (None: the present)."""
        at = self._at(weights if weights is not None else self._present)
        answers = self.crew.exchange(
            Count(at=at, ranges=self._shares(part)), self.progress, "evaluating"
        )
        return evaluation_of([count for counts in answers for count in counts])

    def _at(self, weights: Weights | None) -> At | None:
        if weights is None:
            return None
        return At(
            run=self.run, round=weights.round, checkpoint=weights.checkpoint, token=self.pool.token
        )

    def _shares(self, part: PartName) -> Sequence[Sequence[Located]]:
        return shares(self.blocks.part(part), self.crew.room.workers)

    def _memory(self, answers: list[Any]) -> dict[str, dict[str, int]]:
        ranks = {f"rank_{r}": answer["memory"] for r, answer in enumerate(answers)}
        return {"driver": self.meter.figures, **ranks, **self.pool.memory}


def _unpacked(last_epoch: Callable[[Weights], object]) -> Early:
    """Return what takes packed weights, of no round's end, for what takes weights."""
    return lambda flat: last_epoch(Weights(round=-1, flat=flat))
