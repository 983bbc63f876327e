"""What training sees of its examples, from logits that are there anyway.

A look takes ten small operations. They cost a small model more than its batches do, so logits wait
until a good many of them can be looked at together. Shape letters: B batch, K visits, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HELD = 1 << 18  # logits: 1 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What was seen of some visits.

    Attributes:
        at_K: where the rows lie, int64.
        loss_K: cross-entropy (nats), float32.
        margin_K: z_y - max other z, float32.
        correct_K: bool.
    """

    at_K: Tensor
    loss_K: Tensor
    margin_K: Tensor
    correct_K: Tensor


class Seen:
    """Gathers an epoch's visits."""

    def __init__(self) -> None:
        """Begin an epoch."""
        self._at: list[Tensor] = []
        self._loss: list[Tensor] = []
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._held = 0
        self._looked: list[tuple[Tensor, Tensor]] = []

    def add(self, at_B: Tensor, label_B: Tensor, logits_BC: Tensor, loss_B: Tensor) -> None:
        """Add a batch; all detached."""
        self._at.append(at_B)
        self._loss.append(loss_B)
        self._waiting.append((logits_BC, label_B))
        self._held += logits_BC.numel()
        if self._held >= _HELD:
            self._look()

    def sight(self) -> Sight:
        """Return what was seen, in the order of visits."""
        self._look()
        margin_K, correct_K = (torch.cat(part) for part in zip(*self._looked, strict=True))
        return Sight(
            at_K=torch.cat(self._at),
            loss_K=torch.cat(self._loss),
            margin_K=margin_K,
            correct_K=correct_K,
        )

    def _look(self) -> None:
        if self._waiting:
            logits, labels = zip(*self._waiting, strict=True)
            self._looked.append(_margin(torch.cat(logits), torch.cat(labels)))
        self._waiting, self._held = [], 0


def _margin(logits_KC: Tensor, label_K: Tensor) -> tuple[Tensor, Tensor]:
    """Return (z_y - max other z, whether that is above 0). Shapes: (K, C), (K,) -> (K,), (K,)."""
    own_K = logits_KC.gather(1, label_K[:, None])[:, 0]
    other_K = logits_KC.scatter(1, label_K[:, None], -torch.inf).amax(1)
    return own_K - other_K, own_K > other_K
