"""Lightning on the subset that a run chose: the loader is all that changes.

    raysubset run --local --epochs 20 --run-dir runs/demo
    python examples/lightning_loop.py runs/demo            # or with two processes: ... runs/demo 2

Lightning calls `set_epoch` by itself, and takes a SubsetSampler for what it is, a distributed
sampler: `use_distributed_sampler` may stay True, and no example is repeated to fill up.
To resume in the middle of an epoch, give it a torchdata StatefulDataLoader.
"""

from __future__ import annotations

import sys

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import raysubset as rs


class Digits(L.LightningModule):
    """A small classifier; `visited` is what each epoch trained on, for a look."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.visited: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        """Begin the list of an epoch."""
        self.visited.append([])

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels, rows = batch
        self.visited[-1] += rows.tolist()
        return nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def train(run: str, epochs: int = 3, devices: int = 1, resume: str | None = None) -> Digits:
    """Train on a run's last round and return the model."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float() / 16
    train_set = TensorDataset(images, torch.from_numpy(labels), torch.arange(len(images)))

    sampler = rs.SubsetSampler(run, seed=0, dataset=train_set)
    loader = DataLoader(train_set, batch_size=32, sampler=sampler)

    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Digits()
    trainer.fit(model, loader, ckpt_path=resume)
    return model


if __name__ == "__main__":
    run, devices = [*sys.argv[1:], *["runs/demo", "1"][len(sys.argv) - 1 :]]
    done = train(run, devices=int(devices))
    for number, rows in enumerate(done.visited):
        print(f"rank {done.global_rank}, epoch {number}: {len(rows)} examples")
