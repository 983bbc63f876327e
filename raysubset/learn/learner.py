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
from raysubset.learn.layout import autocast, autocast_type, laid_out, layout_of, placed
from raysubset.learn.numerics import explained, settle, stepping, tuned
from raysubset.learn.problem import Problem
from raysubset.learn.recipe import batch_bounds, epoch_order, lr_at
from raysubset.learn.rows import Rows
from raysubset.learn.seen import Seen
from raysubset.learn.virtual_ranks import VirtualRanks
from raysubset.learn.weights import pack, unpack

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Visits:
    """An epoch's visits in order, or some of them: all that a batch is made of, on the device."""

    at_K: Tensor
    label_K: Tensor
    weight_K: Tensor | None
    draws_3K: Tensor | None

    def of(self, rows: slice) -> _Visits:
        """Return some of the visits, as views."""
        weight_K, draws_3K = self.weight_K, self.draws_3K
        return _Visits(
            at_K=self.at_K[rows],
            label_K=self.label_K[rows],
            weight_K=None if weight_K is None else weight_K[rows],
            draws_3K=None if draws_3K is None else draws_3K[:, rows],
        )


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
        self.layout = layout_of(self.model)
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
        state = self.model.state_dict()
        flat = pack(state)
        return Snapshot(weights=unpack(flat, state), trainer=trainer, flat=flat)

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the model's state on the host."""
        state = self.model.state_dict()
        return unpack(pack(state), state)

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
        self.problem.to_train(self.model, self.head, self.forward)
        visits, key = self._visits(order, epoch, position_K)
        size, lr, seen = len(position_K), self.problem.training.lr, Seen()
        for start, stop in batch_bounds(size, self.problem.training.batch_size, self.world):
            done = index * size + start
            go_on(done, order.visits)
            lr = self._lr(order, done + (stop - start) / 2)
            self._step(visits, range(start, stop), key, lr, seen)
        sight = seen.sight()
        return EpochTrace(
            epoch=epoch,
            lr=lr,
            row_K=self.rows.row_N[sight.at_K].cpu().numpy(),
            loss_K=sight.loss_K.cpu().numpy(),
            margin_K=sight.margin_K.cpu().numpy(),
            correct_K=sight.correct_K.cpu().numpy(),
        )

    def _visits(self, order: TrainOrder, epoch: int, position_K: Tensor) -> tuple[_Visits, int]:
        """Return an epoch's visits in order, and the key of what alters them.

        All that a batch needs is gathered or drawn here, once for all of them: thirty small
        operations a step would cost a small model as much as its training.
        """
        seed, rows = self.problem.seed, self.rows
        weight_N = self._weight_by_row(order, position_K)
        # By positions in the pool, not among these rows: an order depends on nothing but its ids.
        row_K = epoch_order(rows.row_N[position_K], derive_key(seed, "order", epoch))
        at_K, key = torch.searchsorted(rows.row_N, row_K), derive_key(seed, "augment", epoch)
        visits = _Visits(
            at_K=at_K,
            label_K=rows.label_N[at_K],
            weight_K=None if weight_N is None else weight_N[at_K],
            draws_3K=None if self.augment is None else self.augment.draws(rows.id_N[at_K], key),
        )
        return visits, key

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

    def _step(self, visits: _Visits, batch: range, key: int, lr: float, seen: Seen) -> None:
        """Take one optimizer step on a global batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        virtual = len(self.plays) > 1
        sums = VirtualRanks(self.model, self.world) if virtual else nullcontext()
        self.optimizer.zero_grad(set_to_none=True)
        with sums:
            for rank in self.plays:
                self._restart_streams(derive_key(key, batch.start, rank))
                own = visits.of(slice(batch.start + rank, batch.stop, self.world))
                self._backward(own, len(batch), seen)
                if isinstance(sums, VirtualRanks):
                    sums.collect(rank)
        self._update()

    def _restart_streams(self, key: int) -> None:
        """Start torch's own streams anew: layers that draw (dropout) know no key.

        Not torch.manual_seed: while CUDA is not up, it keeps every call, with its stack.
        """
        torch.default_generator.manual_seed(key)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(key)

    def _backward(self, visits: _Visits, num_batch: int, seen: Seen) -> None:
        content_B = self.rows.take(visits.at_K)
        if self.augment is not None and visits.draws_3K is not None:
            content_B = self.augment.altered(content_B, visits.draws_3K)
        with autocast(self.device, self.amp):
            logits_BC = self.forward(laid_out(self.normalize(content_B), self.layout))
        logits_BC, label_B = logits_BC.float(), visits.label_K
        smoothing = self.problem.training.label_smoothing
        loss_B = cross_entropy(logits_BC, label_B, reduction="none", label_smoothing=smoothing)
        # The mean over the global batch, whatever the slices' sizes: DDP divides by W again.
        self._descend(loss_B, visits.weight_K, self.world / num_batch)
        logits_BC, loss_B = logits_BC.detach(), loss_B.detach()
        if smoothing:  # what is kept is the plain loss
            loss_B = cross_entropy(logits_BC, label_B, reduction="none")
        seen.add(visits.at_K, label_B, logits_BC, loss_B)

    def _descend(self, loss_B: Tensor, weight_B: Tensor | None, share: float) -> None:
        """Take the gradient of share * sum of the weighed losses."""
        if self.scaler.is_enabled():
            weighed_B = loss_B if weight_B is None else loss_B * weight_B
            self.scaler.scale(weighed_B.sum() * share).backward()
        else:  # the same gradient, without the sum that nobody reads
            share_B = torch.full_like(loss_B, share)
            loss_B.backward(share_B if weight_B is None else share_B * weight_B)

    def _update(self) -> None:
        clip = self.problem.training.clip_norm
        if clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()


def _on_host(value: object) -> object:
    """Return a copy of a nested state with every tensor on the host."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: _on_host(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_on_host(v) for v in value]
    return value
