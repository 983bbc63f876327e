"""A plain PyTorch loop on the subset that a run chose, resumable in the middle of an epoch.

    raysubset run --local --epochs 20 --run-dir runs/demo
    python examples/plain_pytorch.py runs/demo

Digits stand for your data: row i of `train_set` is row i of what the run chose from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import raysubset as rs

EPOCHS, BATCH = 5, 32


def digits() -> TensorDataset:
    """Return (image, label, row) of every scan; the row is for the weights of the loss."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float() / 16
    return TensorDataset(images, torch.from_numpy(labels), torch.arange(len(images)))


def train(run: str, checkpoint: Path | None = None, stop_after: int = -1) -> list[list[int]]:
    """Train and return the rows that each epoch visited.

    Args:
        run: the folder of a run; or anything else that a SubsetSampler takes.
        checkpoint: is gone on with where it is there, and written after each batch.
        stop_after: stop after this many batches, as a machine that is taken away does.
    """
    train_set = digits()
    sampler = rs.SubsetSampler(run, seed=0, dataset=train_set)
    loader = DataLoader(train_set, batch_size=BATCH, sampler=sampler, num_workers=1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    parts = {"model": model, "optimizer": optimizer, "sampler": sampler}
    restore(parts, checkpoint)

    visited: list[list[int]] = []
    for epoch in range(sampler.epoch, EPOCHS):
        sampler.set_epoch(epoch)
        visited.append([])
        for images, labels, rows in sampler.counted(loader):  # the loader's own batches, counted
            loss_B = nn.functional.cross_entropy(model(images), labels, reduction="none")
            optimizer.zero_grad()
            weighted_mean(loss_B, sampler.weights_of(rows)).backward()
            optimizer.step()
            visited[-1] += rows.tolist()
            save(parts, checkpoint)
            stop_after -= 1
            if stop_after == 0:
                return visited
        print(f"epoch {epoch}: {len(visited[-1])} examples")  # none, where it had just ended
    return visited


def restore(parts: dict[str, Any], checkpoint: Path | None) -> None:
    """Set model, optimizer and sampler to where a checkpoint was written, if there is one."""
    if checkpoint and checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])


def save(parts: dict[str, Any], checkpoint: Path | None) -> None:
    """Write where model, optimizer and sampler stand."""
    if checkpoint:
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)


def weighted_mean(loss_B: Tensor, weight_B: Tensor) -> Tensor:
    """Return the mean loss under weights; GLISTER's and random's are all 1."""
    return (loss_B * weight_B).sum() / weight_B.sum()


if __name__ == "__main__":
    train(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
