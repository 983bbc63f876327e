"""The learner: one process's share of training, as one DDP rank or as all ranks in turn.

Played by one process, W ranks give the bits that W gloo processes give (W = 1, 2; more with
`cluster.sums`): slices in rank order, each gradient divided by W, added in rank order, BatchNorm
statistics per slice, buffers of slice 0. Shape letters: B batch, K subset, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysubset.core.keys import derive_key
from raysubset.learn.blocks import Block, whole
from raysubset.learn.checkpoint import CheckpointRef, Snapshot, read_trainer, read_weights
from raysubset.learn.layout import autocast, autocast_type, laid_out, placed
from raysubset.learn.numerics import explained, settle, stepping, tuned
from raysubset.learn.problem import Problem
from raysubset.learn.recipe import batch_bounds, epoch_order, lr_at
from raysubset.learn.rows import Rows

GoOn = Callable[[int, int], None]
"""Called between batches with (visits done, visits of the phase); raises `Stopped` to stop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochTrace:
    """What one epoch saw of its examples; rows of different ranks concatenate in any order.

    Attributes:
        epoch: the run's epoch number.
        lr: the learning rate of the last step.
        row_K: pool positions, int64.
        loss_K: cross-entropy at the visit (nats), float32.
        margin_K: z_y - max other z, float32.
        correct_K: bool.
    """

    epoch: int
    lr: float
    row_K: np.ndarray
    loss_K: np.ndarray
    margin_K: np.ndarray
    correct_K: np.ndarray

    @staticmethod
    def union(traces: list[EpochTrace]) -> EpochTrace:
        """Return the epoch as all ranks saw it, in the order of rows: the same for any W."""
        row_K = np.concatenate([t.row_K for t in traces])
        order = np.argsort(row_K)
        return EpochTrace(
            epoch=traces[0].epoch,
            lr=traces[0].lr,
            row_K=row_K[order],
            loss_K=np.concatenate([t.loss_K for t in traces])[order],
            margin_K=np.concatenate([t.margin_K for t in traces])[order],
            correct_K=np.concatenate([t.correct_K for t in traces])[order],
        )


@dataclass(frozen=True, kw_only=True)
class TrainOrder:
    """What to train on: plain data that travels to every rank.

    Attributes:
        ids_EK: pool ids, one row per epoch (one row alone serves every epoch).
        weights_K: float32 loss weights in the order of the ids, or None.
        epochs: the run's epoch numbers.
        visits_before: example visits before this order, on its learning-rate schedule.
        total_visits: example visits of that schedule.
    """

    ids_EK: np.ndarray
    weights_K: np.ndarray | None
    epochs: range
    visits_before: int
    total_visits: int

    @property
    def visits(self) -> int:
        """Example visits of this order."""
        return self.ids_EK.shape[1] * len(self.epochs)


class Learner:
    """A model, its optimizer and the rows that it trains on, on one device."""

    def __init__(
        self,
        problem: Problem,
        device: torch.device,
        *,
        world: int,
        rank: int | None = None,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        """Build the model.

        Args:
            problem: data, model and recipe.
            device: where to train.
            world: the number of training ranks W.
            rank: this process's rank; None plays all ranks, one after the other.
            wrap: how a rank's model joins the others (DistributedDataParallel).
        """
        torch.set_num_threads(problem.threads)
        settle(problem.training)
        self.problem, self.device, self.world = problem, device, world
        self.plays = range(world) if rank is None else range(rank, rank + 1)
        self.rows = Rows([whole(problem.parts.pool)], device)
        self.normalize = problem.normalize.to(device)
        self.augment = problem.augment
        model, self.head = problem.build()
        self.model = placed(model, problem, device)
        self._initial = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        joined = self.model if wrap is None else wrap(self.model)
        self.forward = stepping(joined, problem.training)
        self.amp = autocast_type(problem.training.precision, device)
        self.round = -1
        self.reset()

    def reset(self) -> None:
        """Return to the initial weights and a fresh optimizer."""
        self.model.load_state_dict(self._initial)
        self.optimizer = self.problem.optimizer(self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == torch.float16)
        self.round = -1

    def load(self, ref: CheckpointRef) -> None:
        """Continue from a checkpoint; its hashes are checked before anything is parsed."""
        self.reset()
        self.model.load_state_dict(read_weights(ref))
        trainer = read_trainer(ref)
        self.optimizer.load_state_dict(trainer["optimizer"])
        self.scaler.load_state_dict(trainer["scaler"])
        self.round = int(trainer["round"])

    def snapshot(self, round_: int) -> Snapshot:
        """Return a copy of the whole training state on the host."""
        trainer = {
            "optimizer": _on_host(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "round": round_,
        }
        return Snapshot(weights=self.weights(), trainer=trainer)

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the model's state on the host."""
        state = self.model.state_dict()
        return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}

    def hold(self, blocks: Sequence[Block]) -> None:
        """Train on rows of these blocks from now on, instead of the problem's own pool."""
        self.rows = Rows([], torch.device("cpu"))  # what was held goes before the new comes
        self.rows = Rows(blocks, self.device)

    def train(
        self,
        order: TrainOrder,
        go_on: GoOn,
        *,
        done: int = 0,
        epoch_done: Callable[[EpochTrace], object] | None = None,
    ) -> list[EpochTrace]:
        """Train the order's epochs and return what this process saw of each.

        Args:
            order: what to train on.
            go_on: called before each batch.
            done: epochs of the order that the present state has behind it; they are not repeated.
            epoch_done: called after each epoch but the last, when the state is whole.

        Raises:
            DataError: an id that is not among the rows held.
        """
        self.round = -1  # until all of it is done, this is the state after no round
        position_EK = self.rows.positions(torch.from_numpy(order.ids_EK))
        traces: list[EpochTrace] = []
        recipe = self.problem.training
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), tuned(recipe, self.device), explained(recipe):
            for index, epoch in enumerate(order.epochs):
                if index < done:
                    continue
                position_K = position_EK[index % len(position_EK)]
                traces.append(self._epoch(order, index, epoch, position_K, go_on))
                if epoch_done is not None and index + 1 < len(order.epochs):
                    epoch_done(traces[-1])
        return traces

    def _epoch(
        self, order: TrainOrder, index: int, epoch: int, position_K: Tensor, go_on: GoOn
    ) -> EpochTrace:
        self.forward.train()
        seed, size = self.problem.seed, len(position_K)
        weight_N = self._weight_by_row(order, position_K)
        # By positions in the pool, not among these rows: an order depends on nothing but its ids.
        row_K = epoch_order(self.rows.row_N[position_K], derive_key(seed, "order", epoch))
        visit_K = torch.searchsorted(self.rows.row_N, row_K)
        key = derive_key(seed, "augment", epoch)
        seen: list[tuple[Tensor, ...]] = []
        lr = self.problem.training.lr
        for start, stop in batch_bounds(size, self.problem.training.batch_size, self.world):
            done = index * size + start
            go_on(done, order.visits)
            lr = self._lr(order, done + (stop - start) / 2)
            seen += self._step(visit_K[start:stop], weight_N, key, lr, start)
        at, loss, margin, correct = (torch.cat(part) for part in zip(*seen, strict=True))
        return EpochTrace(
            epoch=epoch,
            lr=lr,
            row_K=self.rows.row_N[at].cpu().numpy(),
            loss_K=loss.cpu().numpy(),
            margin_K=margin.cpu().numpy(),
            correct_K=correct.cpu().numpy(),
        )

    def _weight_by_row(self, order: TrainOrder, position_K: Tensor) -> Tensor | None:
        if order.weights_K is None or bool((order.weights_K == 1).all()):
            return None
        weight_N = torch.zeros(len(self.rows), device=self.device)
        weight_N[position_K] = torch.from_numpy(order.weights_K).to(self.device)
        return weight_N

    def _lr(self, order: TrainOrder, visits: float) -> float:
        recipe = self.problem.training
        return lr_at(
            int(order.visits_before + visits),
            total_visits=order.total_visits,
            warmup=recipe.warmup,
            lr=recipe.lr,
        )

    def _step(
        self, position_B: Tensor, weight_N: Tensor | None, key: int, lr: float, start: int
    ) -> list[tuple[Tensor, ...]]:
        """Take one optimizer step on a global batch; return what the played ranks saw."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        virtual = len(self.plays) > 1
        sums = _VirtualRanks(self.model, self.world) if virtual else nullcontext()
        seen: list[tuple[Tensor, ...]] = []
        self.optimizer.zero_grad(set_to_none=True)
        with sums:
            for rank in self.plays:
                self._restart_streams(derive_key(key, start, rank))
                slice_B = position_B[rank :: self.world]
                seen.append(self._backward(slice_B, len(position_B), weight_N, key))
                if isinstance(sums, _VirtualRanks):
                    sums.collect(rank)
        self._update()
        return seen

    def _restart_streams(self, key: int) -> None:
        """Start torch's own streams anew: layers that draw (dropout) know no key.

        Not torch.manual_seed: while CUDA is not up, it keeps every call, with its stack.
        """
        torch.default_generator.manual_seed(key)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(key)

    def _backward(
        self, position_B: Tensor, num_batch: int, weight_N: Tensor | None, key: int
    ) -> tuple[Tensor, ...]:
        content_B = self.rows.take(position_B)
        if self.augment is not None:
            content_B = self.augment(content_B, self.rows.id_N[position_B], key)
        label_B = self.rows.label_N[position_B]
        with autocast(self.device, self.amp):
            logits_BC = self.forward(laid_out(self.normalize(content_B), self.model))
        logits_BC = logits_BC.float()
        smoothing = self.problem.training.label_smoothing
        loss_B = cross_entropy(logits_BC, label_B, reduction="none", label_smoothing=smoothing)
        weighed_B = loss_B if weight_N is None else loss_B * weight_N[position_B]
        # The mean over the global batch, whatever the slices' sizes: DDP divides by W again.
        self.scaler.scale(weighed_B.sum() * (self.world / num_batch)).backward()
        return (position_B, *_observe(logits_BC.detach(), label_B))

    def _update(self) -> None:
        clip = self.problem.training.clip_norm
        if clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()


class _VirtualRanks:
    """The arithmetic of DDP in one process: per-rank gradients and buffers, in rank order."""

    def __init__(self, model: nn.Module, world: int) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.buffers = list(model.buffers())
        self.world = world
        self.sums: list[Tensor | None] = [None] * len(self.parameters)
        self.kept: list[Tensor] = []

    def __enter__(self) -> None:
        # DDP broadcasts rank 0's buffers before every forward: all ranks start from these.
        self.before = [b.clone() for b in self.buffers]

    def collect(self, rank: int) -> None:
        """Add this rank's gradient and give the next one rank 0's buffers to start from."""
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            part, total = parameter.grad / self.world, self.sums[index]
            self.sums[index] = part if total is None else total + part
            parameter.grad = None
        if rank == 0:
            self.kept = [b.clone() for b in self.buffers]
        _copy_all(self.buffers, self.before)

    def __exit__(self, *_: object) -> None:
        if self.kept:
            _copy_all(self.buffers, self.kept)
        for parameter, total in zip(self.parameters, self.sums, strict=True):
            parameter.grad = total


def _observe(logits_BC: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (loss, margin, correct) of a batch; no pass of its own, the logits are there."""
    own_B = logits_BC.gather(1, label_B[:, None])[:, 0]
    other_B = logits_BC.scatter(1, label_B[:, None], -torch.inf).amax(1)
    loss_B = cross_entropy(logits_BC, label_B, reduction="none")
    return loss_B, own_B - other_B, own_B > other_B


def _on_host(value: object) -> object:
    """Return a copy of a nested state with every tensor on the host."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _on_host(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_on_host(v) for v in value]
    return value


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
