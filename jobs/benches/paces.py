"""Paces: seconds per row of our training loop and of plain steps and forwards, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter, process_time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from raysubset.learn.layout import autocast, laid_out
from raysubset.learn.learner import Learner, TrainOrder
from raysubset.preparation import Prepared

ROWS = 512
Turn = dict[str, np.ndarray]
"""Name -> seconds per row, (wall, CPU)."""


def now() -> np.ndarray:
    """Return (the wall's, this process's CPU) seconds, once a GPU has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return np.array([perf_counter(), process_time()])


class Paces:
    """The same rows, model, batches and precision: ours, plain training steps, bare forwards."""

    def __init__(self, run: Prepared, device: torch.device) -> None:
        """Build two models, and warm up."""
        problem, self.device = run.problem, device
        self.batch, self.problem = problem.training.batch_size, problem
        self.learner = Learner(problem, device, world=1)
        self.plain = Learner(problem, device, world=1)
        pool = problem.parts.pool
        self.id_N = pool.id_N[:ROWS]
        self.content = torch.from_numpy(np.array(pool.content[: len(self.id_N)])).to(device)
        self.label = torch.from_numpy(np.array(pool.label_N[: len(self.id_N)])).to(device)
        self.ids = torch.from_numpy(np.array(self.id_N)).to(device)
        self.taken: list[Turn] = []
        self.turn()

    @property
    def means(self) -> Turn:
        """Means of all turns: what a run takes is a sum over good moments and bad ones, too."""
        return {n: np.mean([turn[n] for turn in self.taken], axis=0) for n in self.taken[0]}

    def turn(self) -> None:
        """Measure each once more."""
        work: dict[str, Callable[[], object]] = {
            "ours": self._ours,
            "step": self._steps,
            "forward": self._forwards,
        }
        found: Turn = {}
        for name, do in work.items():
            start = now()
            do()
            found[name] = (now() - start) / len(self.id_N)
        self.taken.append(found)

    def _ours(self) -> None:
        order = TrainOrder(
            ids_EK=self.id_N[None],
            weights_K=None,
            epochs=range(1),
            visits_before=0,
            total_visits=len(self.id_N),
        )
        self.learner.train(order, lambda *_: None)

    def _steps(self) -> None:
        learner, smoothing = self.plain, self.problem.training.label_smoothing
        learner.model.train()
        for position_B in self._batches(shuffled=True):
            content_B = self.content[position_B]
            if self.problem.augment is not None:
                content_B = self.problem.augment(content_B, self.ids[position_B], 0)
            learner.optimizer.zero_grad(set_to_none=True)
            logits_BC = self._logits(content_B)
            label_B = self.label[position_B]
            cross_entropy(logits_BC, label_B, label_smoothing=smoothing).backward()
            learner.optimizer.step()

    @torch.no_grad()
    def _forwards(self) -> None:
        self.plain.model.eval()
        for position_B in self._batches(shuffled=False):
            self._logits(self.content[position_B])

    def _logits(self, content_B: Tensor) -> Tensor:
        learner = self.plain
        with autocast(self.device, learner.amp):
            return learner.model(laid_out(learner.normalize(content_B), learner.model)).float()

    def _batches(self, *, shuffled: bool) -> Iterator[Tensor]:
        size = len(self.id_N)
        order = torch.randperm(size) if shuffled else torch.arange(size)
        yield from order.to(self.device).split(self.batch)
