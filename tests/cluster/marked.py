"""A small model that does on demand what goes wrong in real life.

A mark is a file of the folder in RAYSUBSET_TEST_MARKS: WHO-WHEN-WHAT, where WHO is rank0, rank1,
... or scorer (a process outside DDP; the tests' own obeys nothing), WHEN is training or scoring
(evaluation included), and WHAT is below. Its content is how many batches to let pass; of slow, how
many seconds a batch takes; of die, how many rows are too many. All but these two happen once.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn

SLOW_S = 0.1


def marked(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return an MLP with BatchNorm, whose buffers have to travel too."""
    width = int(np.prod(in_shape))
    body = nn.Sequential(nn.Flatten(), nn.Linear(width, 24), nn.BatchNorm1d(24), nn.ReLU())
    return _Marked(body, nn.Linear(24, num_classes))


def idle(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return a model with a layer that it never uses."""
    model = marked(in_shape, num_classes)
    model.spare = nn.Linear(24, num_classes)
    return model


class _Marked(nn.Module):
    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, content: Tensor) -> Tensor:
        hidden = self.body(content)
        folder = os.environ.get("RAYSUBSET_TEST_MARKS")
        if folder and os.environ["RAYSUBSET_TEST_DRIVER"] != str(os.getpid()):
            hidden = _obey(Path(folder), "training" if self.training else "scoring", hidden)
        return self.head(hidden)


def _obey(folder: Path, when: str, hidden: Tensor) -> Tensor:
    who = f"rank{distributed.get_rank()}" if distributed.is_initialized() else "scorer"
    if (slow := folder / f"{who}-{when}-slow").exists():
        time.sleep(float(slow.read_text() or 0) or SLOW_S)
    if _due(folder / f"{who}-{when}-kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if (die := folder / f"{who}-{when}-die").exists() and len(hidden) >= int(die.read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
    if _due(folder / f"{who}-{when}-stop"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if _due(folder / f"{who}-{when}-memory"):
        raise MemoryError("the marked model was told to need too much")
    if _due(folder / f"{who}-{when}-raise"):
        raise RuntimeError("the marked model was told to raise")
    if _due(folder / f"{who}-{when}-nan"):
        return torch.full_like(hidden, torch.nan)
    return hidden


def _due(mark: Path) -> bool:
    """Return whether a mark's time has come; it is gone then. Of several processes, one gets it."""
    try:
        left = int(mark.read_text() or 0)
        if left:
            mark.write_text(str(left - 1))
            return False
        mark.unlink()
    except FileNotFoundError:
        return False
    return True
