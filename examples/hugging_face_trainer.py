"""The Hugging Face Trainer on the subset that a run chose: `_get_train_sampler` says which sampler.

    raysubset run --local --epochs 20 --run-dir runs/demo
    python examples/hugging_face_trainer.py runs/demo

The Trainer's loader is prepared by Accelerate, which shards what a sampler draws, calls
`set_epoch`, and skips what was consumed when it resumes: so `world_size=1`, on any number of
processes. (Accelerate repeats examples to fill up the last batches of an epoch for several
processes; `dataloader_drop_last=True` leaves them out instead.)

Where every epoch visits the same ids, no class is needed:
`Trainer(train_dataset=torch.utils.data.Subset(train_set, sampler.positions), ...)`.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

import raysubset as rs


class Digits(Dataset[dict[str, Any]]):
    """Scans as the Trainer wants them: one dict for each row."""

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        self.pixels, self.labels = torch.from_numpy(pixels).float() / 16, torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"pixels": self.pixels[row], "labels": self.labels[row], "row": row}


class Classifier(nn.Module):
    """A small model; `visited` is what it was trained on, for a look."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.visited: list[int] = []

    def forward(self, pixels: Tensor, labels: Tensor, row: Tensor) -> dict[str, Tensor]:
        """Return loss and logits."""
        self.visited += row.tolist()
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class EpochNamed(TrainerCallback):
    """Names the epoch that begins; the Trainer (5.24) does not, where several processes resume."""

    def __init__(self, subset: rs.SubsetSampler) -> None:
        self.subset = subset

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Name it."""
        self.subset.set_epoch(int(state.epoch or 0))


class SubsetTrainer(Trainer):
    """A Trainer that draws from a chosen subset."""

    def __init__(self, *, subset: rs.SubsetSampler, **options: Any) -> None:
        super().__init__(**options)
        self.subset = subset
        self.add_callback(EpochNamed(subset))

    def _get_train_sampler(self, train_dataset: Any = None) -> rs.SubsetSampler:
        return self.subset


def train(run: str, output: str, *, resume: str | None = None, **options: Any) -> list[int]:
    """Train on a run's last round and return the rows, in the order in which they were visited."""
    train_set, model = Digits(), Classifier()
    trainer = SubsetTrainer(
        subset=rs.SubsetSampler(run, seed=0, dataset=train_set, world_size=1),
        model=model,
        train_dataset=train_set,
        args=TrainingArguments(
            output_dir=output,
            num_train_epochs=3,
            per_device_train_batch_size=16,
            learning_rate=1e-2,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **options,
        ),
    )
    trainer.train(resume_from_checkpoint=resume)
    return model.visited


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        visits = train(sys.argv[1] if len(sys.argv) > 1 else "runs/demo", folder)
        print(f"{len(visits)} visits of {len(set(visits))} examples")
