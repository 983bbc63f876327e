"""Scoring: the forward pass that turns examples into gradient factors, by fixed row ranges.

Ranges, and batches inside a range, are fixed numbers of rows: an id is always computed in a call
of the same shape, so that 1, 2 or 7 scorers, a retry or another arrival order give the same bits.
Shape letters: B batch, C classes, H embedding width.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysubset.learn.blocks import Block, RangeRows, range_rows, whole
from raysubset.learn.diverged import diverged, rows_not_finite
from raysubset.learn.full_head import FullHead, full_logits
from raysubset.learn.kept import OWN, Kept, content_digest
from raysubset.learn.layout import autocast, autocast_type, laid_out, layout_of, placed
from raysubset.learn.learner import Learner
from raysubset.learn.numerics import settle
from raysubset.learn.parts import PartName as PartName
from raysubset.learn.problem import Problem
from raysubset.learn.recall import Recall
from raysubset.learn.rows import on_device, tensor_of

RANGE_BATCHES = 2


@dataclass(frozen=True, kw_only=True)
class RowRange:
    """A fixed run of rows of one part: the unit of scoring work.

    Attributes:
        part: which part.
        index: its place among the ranges of the part.
        ids: int64, ascending.
    """

    part: PartName
    index: int
    ids: np.ndarray


def no_ids() -> np.ndarray:
    """Return an empty array of ids."""
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class RangeOutput:
    """What a range gave: numpy, because that crosses processes without a copy.

    Attributes:
        index: the range's place.
        ids: int64 (B,).
        labels: int64 (B,).
        logits: float32 (B, C).
        embeddings: float32 (B, H); (B, 0) where only the bias gradient is asked for.
        left_out: int64, ids of the range that are not among `ids`: the model gives NaN or infinity
            for them, and bad rows are skipped.
        remembered: whether the embeddings were kept from another round; None where the backbone
            is not frozen, and so nothing is kept.
    """

    index: int
    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    embeddings: np.ndarray
    left_out: np.ndarray = field(default_factory=no_ids)
    remembered: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RangeCounts:
    """A range's evaluation.

    Attributes:
        index: the range's place.
        stat_C5: int64, torchmetrics' true/false positives/negatives and support per class.
        loss_sum: cross-entropy summed over the range (nats).
    """

    index: int
    stat_C5: np.ndarray
    loss_sum: float


def ranges_of(part: PartName, ids: np.ndarray, batch_size: int) -> list[RowRange]:
    """Return the fixed ranges of ascending ids; they depend on nothing but ids and batch size."""
    rows = RANGE_BATCHES * batch_size
    starts = range(0, len(ids), rows)
    return [RowRange(part=part, index=i, ids=ids[s : s + rows]) for i, s in enumerate(starts)]


class Scorer:
    """A model in eval mode, on one device; knows nothing of Ray.

    It holds no rows: a call brings those of its range, or they are read out of the problem's parts
    where the problem has them.
    """

    def __init__(
        self, problem: Problem, device: torch.device, learner: Learner | None = None
    ) -> None:
        """Build a model, whose weights come with `load`; or score in place with a learner's."""
        torch.set_num_threads(problem.threads)
        settle(problem.training)
        self.problem, self.device = problem, device
        self._whole: dict[PartName, Block] = {}
        if learner is None:
            model, self.head = problem.build()
            self.model = placed(model, problem, device).eval()
        else:
            self.model, self.head = learner.model, learner.head
        self.normalize = problem.normalize.to(device)
        self.amp = autocast_type(problem.training.precision, device)
        self.layout = layout_of(self.model)
        self.recall = Recall(self.model, self.head, problem.sample().to(device))

    def warm(self) -> Scorer:
        """Import what `count` needs; torchmetrics takes seconds, which no round should pay."""
        importlib.import_module("torchmetrics.classification")
        return self

    def load(self, state: dict[str, Tensor]) -> None:
        """Take these weights."""
        self.model.load_state_dict(state)

    def score(
        self,
        rows: RowRange,
        given: RangeRows | None = None,
        *,
        embeddings: bool = True,
        source: str | None = None,
    ) -> RangeOutput:
        """Return logits and embeddings of a range; the head's product is taken in fp32.

        Where the backbone is frozen, embeddings are kept, and the next time the range costs the
        head's product alone, with the same bits; see `Recall`.

        Args:
            rows: the range.
            given: its rows; None for those of the problem's own parts, or where they are kept.
            embeddings: whether they are returned.
            source: what tells the data of the rows from any other; None to look at their bytes.

        Raises:
            TrainingDiverged: the model gives NaN or infinity (first ids named); pool rows are
                left out instead where the problem skips bad rows.
        """
        on = self.recall.is_on()
        source = self._source(given, source) if on else ""
        kept = self.recall.find(rows, source) if on else None
        if kept is not None:
            made, logits_BC = kept, self._logits_of(kept.embeddings)
        else:
            made, logits_BC = self._forwarded(rows, given, source, wide=embeddings or on)
        if on and kept is None:
            self.recall.keep(rows, made)
        output = RangeOutput(
            index=rows.index,
            ids=rows.ids,
            labels=made.labels,
            logits=logits_BC.cpu().numpy(),
            embeddings=made.embeddings if embeddings else made.embeddings[:, :0],
            remembered=(kept is not None) if on else None,
        )
        return self._of_finite(rows, output, logits_BC)

    def _of_finite(self, rows: RowRange, output: RangeOutput, logits_BC: Tensor) -> RangeOutput:
        """Return the output of the rows whose logits are numbers, where the rest may be skipped."""
        bad_B = rows_not_finite(logits_BC)
        if bad_B is None:
            return output
        if rows.part == "pool" and self.problem.skip_bad_rows:
            return _without(output, bad_B)
        raise diverged(rows, bad_B)

    def remembers(self, rows: RowRange, source: str) -> bool:
        """Return whether `score` would need no rows for this range of this data."""
        return self.recall.is_on() and self.recall.find(rows, source) is not None

    def _source(self, given: RangeRows | None, source: str | None) -> str:
        if source is not None:
            return source
        return OWN if given is None else content_digest(given.content, given.label_K)

    def _forwarded(
        self, rows: RowRange, given: RangeRows | None, source: str, *, wide: bool
    ) -> tuple[Kept, Tensor]:
        """Return a range's embeddings (none unless `wide`) and logits, batch by batch."""
        given = given or self._own(rows)
        size, width = len(given.label_K), self.head.in_features if wide else 0
        logits_BC = torch.empty(size, self.head.num_classes, device=self.device)
        embedding_BH = torch.empty(size, width, device=self.device)
        start = 0
        with FullHead(self.model, self.head) as full:
            for own_BC in self._batches(given):
                stop = start + len(own_BC)
                logits_BC[start:stop] = full.logits_BC
                embedding_BH[start:stop] = full.embedding_BH[:, :width]
                start = stop
        made = Kept(
            ids=rows.ids,
            source=source,
            labels=np.array(given.label_K),  # not a view: it would hold the whole block
            embeddings=embedding_BH.cpu().numpy(),
        )
        return made, logits_BC

    def _logits_of(self, embeddings: np.ndarray) -> Tensor:
        """Return the head's product with kept embeddings, by the batches of a forward: its bits."""
        logits: list[Tensor] = []
        for embedding_BH in tensor_of(embeddings).split(self.problem.scoring_batch):
            # a copy: memory of torch's own, aligned as what a layer gives
            own_BH = embedding_BH.to(self.device, copy=True)
            logits.append(full_logits(self.model, self.head, own_BH))
        return torch.cat(logits)

    def count(self, rows: RowRange, given: RangeRows | None = None) -> RangeCounts:
        """Return the evaluation of a range: no row twice, none left out."""
        from torchmetrics.classification import MulticlassStatScores

        given = given or self._own(rows)
        # sync_on_compute off: a rank counts its own ranges, and torchmetrics would else wait for
        # all ranks in every one of them.
        stat = MulticlassStatScores(
            self.problem.num_classes, average=None, validate_args=False, sync_on_compute=False
        )
        label_B = tensor_of(given.label_K)
        logits_BC = torch.cat([own_BC.float() for own_BC in self._batches(given)]).cpu()
        loss = torch.nn.functional.cross_entropy(logits_BC.double(), label_B, reduction="sum")
        stat.update(logits_BC, label_B)
        return RangeCounts(
            index=rows.index, stat_C5=stat.compute().numpy().astype(np.int64), loss_sum=float(loss)
        )

    @torch.no_grad()
    def _batches(self, given: RangeRows) -> Iterator[Tensor]:
        """Yield what the model gives for each batch, in the type that it gives."""
        self.model.eval()
        for content_B in tensor_of(given.content).split(self.problem.scoring_batch):
            content_B = self.normalize(on_device(content_B, self.device))
            with autocast(self.device, self.amp):
                own_BC = self.model(laid_out(content_B, self.layout))
            yield own_BC

    def _own(self, rows: RowRange) -> RangeRows:
        """Return the rows of a range out of the problem's own parts."""
        if rows.part not in self._whole:
            self._whole[rows.part] = whole(self.problem.parts.named(rows.part))
        return range_rows([self._whole[rows.part]], rows.ids)


def _without(whole: RangeOutput, bad_B: np.ndarray) -> RangeOutput:
    """Return a range's output without some rows, whose ids it tells instead."""
    return replace(
        whole,
        ids=whole.ids[~bad_B],
        labels=whole.labels[~bad_B],
        logits=whole.logits[~bad_B],
        embeddings=whole.embeddings[~bad_B],
        left_out=whole.ids[bad_B],
    )


def merge_counts(counts: list[RangeCounts]) -> dict[str, float]:
    """Return accuracy, macro-F1 and loss over all ranges, summed in range order."""
    ordered = sorted(counts, key=lambda c: c.index)
    stat_C5 = np.sum([c.stat_C5 for c in ordered], axis=0)
    true, false_positive, false_negative = stat_C5[:, 0], stat_C5[:, 1], stat_C5[:, 3]
    support = int(stat_C5[:, 4].sum())
    present = (stat_C5[:, 4] + false_positive) > 0
    f1 = 2 * true / np.maximum(1, 2 * true + false_positive + false_negative)
    return {
        "accuracy": float(true.sum() / support),
        "macro_f1": float(f1[present].mean()),
        "loss": float(sum(c.loss_sum for c in ordered) / support),
        "examples": float(support),
    }


def evaluation_of(counts: list[RangeCounts]) -> dict[str, Any]:
    """Return `merge_counts` and class_accuracy: per class, None where it has no example."""
    stat_C5 = np.sum([c.stat_C5 for c in counts], axis=0)
    right_C, support_C = stat_C5[:, 0].tolist(), stat_C5[:, 4].tolist()
    shares = [right / n if n else None for right, n in zip(right_C, support_C, strict=True)]
    return {**merge_counts(counts), "class_accuracy": shares}
