"""Scoring with a person's own model: the forward pass that gives fixed row ranges their factors.

Shape letters: B batch or range, C classes, H embedding width.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysubset.core.keys import derive_key
from raysubset.errors import TrainingDiverged
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head
from raysubset.learn.layout import laid_out, layout_of
from raysubset.learn.outside.adapted import Adapted, Adapter
from raysubset.learn.outside.batches import Batch, checked_labels
from raysubset.learn.outside.chance import chance_left_as_it_was, draw_by
from raysubset.learn.outside.rows import OutsideRows, Unread, read
from raysubset.learn.outside.untouched import untouched
from raysubset.learn.problem import torch_threads
from raysubset.learn.scoring import RangeOutput, RowRange


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What decides the bits of a forward pass beside the model: the same wherever it is run.

    Attributes:
        autocast: 16-bit type of the backbone, or None for the model's own.
        threads: torch threads.
        products: torch's fp32 matmul precision, "highest" where TF32 is not allowed.
        tf32: whether cuDNN's convolutions may use TF32.
    """

    autocast: torch.dtype | None
    threads: int
    products: str
    tf32: bool

    @staticmethod
    def here(autocast: torch.dtype | None, threads: int) -> Arithmetic:
        """Return what this process allows."""
        cudnn: Any = torch.backends.cudnn
        products = torch.get_float32_matmul_precision()
        return Arithmetic(
            autocast=autocast, threads=threads, products=products, tf32=cudnn.allow_tf32
        )

    @contextmanager
    def on(self, device: torch.device) -> Generator[None]:
        """Compute so; this process gets its own arithmetic back after."""
        cudnn: Any = torch.backends.cudnn
        before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
        try:
            torch.set_float32_matmul_precision(self.products)
            # Timed algorithms could differ between two scorers, and the ids with them.
            cudnn.allow_tf32, cudnn.benchmark = self.tf32, False
            with torch_threads(self.threads), self.cast(device):
                yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            cudnn.allow_tf32, cudnn.benchmark = before[1:]

    def cast(self, device: torch.device) -> torch.autocast:
        """Return the autocast, switched off where none is asked: a caller's does not reach in."""
        on = self.autocast is not None
        return torch.autocast(device.type, dtype=self.autocast, enabled=on)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outside:
    """All that scoring reads, as one plain value that may travel.

    Attributes:
        model: the module itself, without wrappers.
        adapter: output -> logits, or None.
        head: where the head is; None before it was found.
        pool: the train_set.
        validation: the val_set.
        batch_size: rows of a forward pass.
        seed: of what models and datasets draw at random; it holds the round.
        arithmetic: what decides the bits.
    """

    model: nn.Module
    adapter: Adapter | None
    head: Head | None
    pool: OutsideRows
    validation: OutsideRows
    batch_size: int
    seed: int
    arithmetic: Arithmetic

    @property
    def num_classes(self) -> int:
        """C: the head's outputs, and two for one logit."""
        assert self.head is not None, "the head was found before anything is scored"
        return max(2, self.head.num_classes)

    def part(self, rows: RowRange) -> OutsideRows:
        """Return the rows that a range is of."""
        return self.pool if rows.part == "pool" else self.validation


@contextmanager
def at_work(outside: Outside, device: torch.device) -> Generator[None]:
    """Run the model as scoring does; it and this process are as they were after."""
    with ExitStack() as stack:
        stack.enter_context(chance_left_as_it_was(device))
        stack.enter_context(untouched(outside.model))
        stack.enter_context(outside.arithmetic.on(device))
        yield


class OutsideScorer:
    """A person's model on one device; knows nothing of Ray."""

    def __init__(self, outside: Outside, device: torch.device) -> None:
        """Look at the model, which lies on the device already; nothing of it is changed."""
        assert outside.head is not None, "the head was found before anything is scored"
        self.outside, self.device, self.head = outside, device, outside.head
        self.model = Adapted(outside.model, outside.adapter)
        self.floating = floating_type(outside.model)
        self.layout = layout_of(outside.model)

    def score(self, rows: RowRange, *, embeddings: bool = True) -> RangeOutput:
        """Return the logits and embeddings of a range, read by this process.

        Raises:
            DataError: rows that cannot be read, or labels that are no classes.
            TrainingDiverged: the model gives NaN or infinity (first ids named).
        """
        (output,) = self.stream([rows], embeddings=embeddings)
        return output

    def stream(
        self, ranges: Sequence[RowRange], *, embeddings: bool = True, num_workers: int = 0
    ) -> Iterator[RangeOutput]:
        """Yield the output of each range in turn; loader processes read ahead, where asked.

        Raises as `score`.
        """
        width = self.head.in_features if embeddings else 0
        batches = self._batches(ranges, num_workers)
        for rows in ranges:
            held = _Range(rows, self.outside.num_classes, width, self.device)
            with at_work(self.outside, self.device):
                while held.size < len(rows.ids):
                    batch = next(batches)
                    if isinstance(batch, Unread):
                        raise batch.error
                    self._fill(held, batch)
            yield held.output()

    def _batches(self, ranges: Sequence[RowRange], num_workers: int) -> Iterator[Batch | Unread]:
        size = self.outside.batch_size
        every = [
            (self.outside.part(rows), rows.ids[start : start + size])
            for rows in ranges
            for start in range(0, len(rows.ids), size)
        ]
        return read(every, num_workers)

    def _fill(self, held: _Range, batch: Batch) -> None:
        """Run the model on a batch and keep what its head took and gave."""
        part, ids_B = self.outside.part(held.rows), held.next_ids(self.outside.batch_size)
        label_B = checked_labels(batch.labels, ids_B, self.outside.num_classes, part.name)
        draw_by(derive_key(self.outside.seed, "forward", part.name, int(ids_B[0])), self.device)
        moved = self.laid_out(batch)
        with FullHead(self.model, self.head) as full:
            self.model.on(moved)(moved.first)
        logits_BC = as_classes(full.logits_BC)
        refuse_non_finite(logits_BC, ids_B, part.name)
        held.add(label_B, logits_BC, full.embedding_BH)

    def laid_out(self, batch: Batch) -> Batch:
        """Return a batch on the device, in the model's own type and layout."""
        moved = batch.to(self.device, self.floating)
        if len(moved.args) == 1 and isinstance(moved.args[0], Tensor):
            return Batch(args=(laid_out(moved.args[0], self.layout),), labels=batch.labels)
        return moved


class _Range:
    """A range's output while it grows, written once where it will stay."""

    def __init__(self, rows: RowRange, classes: int, width: int, device: torch.device) -> None:
        self.rows, self.size, count = rows, 0, len(rows.ids)
        self.label_B = np.empty(count, dtype=np.int64)
        self.logits_BC = torch.empty(count, classes, device=device)
        self.embedding_BH = torch.empty(count, width, device=device)

    def next_ids(self, batch_size: int) -> np.ndarray:
        return self.rows.ids[self.size : self.size + batch_size]

    def add(self, label_B: np.ndarray, logits_BC: Tensor, embedding_BH: Tensor) -> None:
        start, self.size = self.size, self.size + len(label_B)
        self.label_B[start : self.size] = label_B
        self.logits_BC[start : self.size] = logits_BC
        self.embedding_BH[start : self.size] = embedding_BH[:, : self.embedding_BH.shape[1]]

    def output(self) -> RangeOutput:
        return RangeOutput(
            index=self.rows.index,
            ids=self.rows.ids,
            labels=self.label_B,
            logits=self.logits_BC.cpu().numpy(),
            embeddings=self.embedding_BH.cpu().numpy(),
        )


def as_classes(logits_BC: Tensor) -> Tensor:
    """Return one logit z as the logits (0, z) of two classes, and any others as they are.

    softmax(0, z) = (1 - sigmoid(z), sigmoid(z)): cross-entropy is z's sigmoid cross-entropy, with
    the residual (-r, r), r = sigmoid(z) - y. Gradient factors carry both rows, so that inner
    products of gradients are twice those of the one row. Shape: (B, 1) -> (B, 2).
    """
    if logits_BC.shape[1] != 1:
        return logits_BC
    return torch.cat([torch.zeros_like(logits_BC), logits_BC], dim=1)


def floating_type(model: nn.Module) -> torch.dtype | None:
    """Return the type of the model's first floating parameter: what its inputs are given in."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def refuse_non_finite(logits_BC: Tensor, ids_B: np.ndarray, name: str) -> None:
    """Refuse rows for which the model gives NaN or infinity.

    Raises:
        TrainingDiverged: their first ids.
    """
    if bool(logits_BC.sum().isfinite()):
        return  # no sum over a NaN or an infinity is finite; this reads the logits once
    bad_B = (~torch.isfinite(logits_BC)).any(1).cpu().numpy()
    if not bad_B.any():
        return
    bad, good = ids_B[bad_B], int((~bad_B).sum())
    remedy = f"it gives numbers for {good} rows beside them, so look at these first"
    if not good:
        remedy = "it gives no number in this batch: if the training diverged, lower its rate"
    raise TrainingDiverged(
        f"the model gives NaN or infinity for {len(bad)} rows of {name}, first ids "
        f"{bad[:10].tolist()}; {remedy}, or leave such rows out of {name}."
    )
