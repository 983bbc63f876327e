"""Small people's models and datasets, at module level so that other processes find them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

N, V, C, F = 90, 30, 3, 6


def numbers(size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return features (size, F) and labels in 0..C-1 that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, F, generator=generator)
    noise = torch.randn(size, C, generator=generator)
    return x, (x[:, :C] + noise).argmax(1)


TRAIN, VAL = numbers(N, 1), numbers(V, 2)


class Net(nn.Module):
    """Dropout and BatchNorm before a head; in training mode it gives other numbers each time."""

    def __init__(self, classes: int = C) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(F, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 8)
        )
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Any:
        return self.fc(torch.tanh(self.body(x)))


class AsDict(Net):
    """A Hugging Face kind of forward: named inputs, a mapping out, a loss beside the logits."""

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        assert labels is None, "the labels are not the model's business here"
        logits = super().forward(pixel_values)
        return {"loss": logits.sum(), "logits": logits, "hidden": torch.zeros(3, 3)}


class AsObject(Net):
    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=super().forward(x), other=x)


class AsPair(Net):
    """Two tensors and no name: only an adapter can say."""

    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return logits, logits.softmax(1)


class TwoInputs(Net):
    def forward(self, left: Tensor, right: Tensor) -> Any:
        return super().forward(torch.cat([left, right], dim=1))


class Noisy(Net):
    """Dropout that never ends: chance in every forward, whatever the mode."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(nn.functional.dropout(x, 0.2, training=True))


def made(kind: type[Net] = Net, seed: int = 0, **options: Any) -> Any:
    """Return a model of a seed that has seen a few batches, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(**options)
        with torch.no_grad():
            model.body(torch.randn(40, F) * 2 + 1)  # statistics of BatchNorm
    return model.train()


class Items(Dataset):
    """Items of one of several forms, read one by one."""

    def __init__(self, xy: tuple[Tensor, Tensor], form: str) -> None:
        self.x, self.y = xy
        self.form = form

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        x, y = self.x[i], int(self.y[i])
        return {
            "tuple": (x, y),
            "list": [x, y],
            "dict": {"pixel_values": x, "labels": y},
            "more": {"index": i, "pixel_values": x, "label": y},
            "dataclass": Example(pixel_values=x, y=y),
            "two": (x[:2], x[2:], y),
            "bare": x,
            "numpy": (x.numpy().astype(np.float64), np.int32(y)),
        }[self.form]


@dataclass
class Example:
    pixel_values: Tensor
    y: int


class Jittered(Items):
    """A transform that draws from all three global generators, as augmentations do."""

    def __getitem__(self, i: int) -> Any:
        import random

        x, y = super().__getitem__(i)
        drawn = random.random() + np.random.rand() + float(torch.rand(()))  # noqa: NPY002
        return x + 0.1 * drawn, y


def same(mine: Any, twin: Any) -> bool:
    """Return whether two selections have the same ids, gains and labels, to the bit."""
    return (
        mine.ids.tobytes() == twin.ids.tobytes()
        and mine.gains.tobytes() == twin.gains.tobytes()
        and mine.labels.tobytes() == twin.labels.tobytes()
    )
