"""The one result type of every selection."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from raysubset.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Selection:
    """The chosen ids, in order of choice.

    Attributes:
        ids: int64 (K,), distinct within an epoch's slice.
        gains: float32 (K,), the score by which each id was taken; NaN where nothing was scored.
        weights: float32 (K,) for the loss, or None for a strategy that does not weigh.
        labels: int64 (K,).
        num_pool: N, of what was chosen.
        num_classes: C.
        fraction: K / N as asked for.
        round: the round it was chosen in; -1 outside a run.
        epochs: the ids are this many slices of equal size, one an epoch (1: the same ids in
            every epoch that the selection serves).
        facts: named figures about the choice (certificate, seconds), for the record.
        left_out: int64, ids that could not be chosen because the model gave NaN or infinity for
            them; empty but where bad rows are skipped.
    """

    ids: np.ndarray
    gains: np.ndarray
    weights: np.ndarray | None
    labels: np.ndarray
    num_pool: int
    num_classes: int
    fraction: float
    round: int = -1
    epochs: int = 1
    facts: Mapping[str, float] = field(default_factory=dict[str, float])
    left_out: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        """Refuse slices that do not divide the ids."""
        assert len(self.ids) % self.epochs == 0, "every epoch's slice has the same size"

    def __len__(self) -> int:
        """The budget K: how many ids an epoch visits."""
        return len(self.ids) // self.epochs

    def of_epoch(self, index: int) -> np.ndarray:
        """Return the ids of the index-th epoch that this selection serves. Shape: (K,)."""
        return self.ids.reshape(self.epochs, -1)[index % self.epochs]

    def mask(self, n: int) -> np.ndarray:
        """Return a bool mask over rows 0..n-1 that marks the chosen ids."""
        if len(self.ids) and int(self.ids.max()) >= n:
            raise ConfigError(f"mask({n}) cannot hold id {int(self.ids.max())}; give n > that id.")
        mask = np.zeros(n, dtype=bool)
        mask[self.ids] = True
        return mask

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return "rank,id,label,gain,weight" as CSV text, and write it where a path is given."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "id", "label", "gain", "weight"])
        weights = np.ones(len(self.ids)) if self.weights is None else self.weights
        rows = zip(self.ids, self.labels, self.gains, weights, strict=True)
        for rank, (i, label, gain, weight) in enumerate(rows):
            writer.writerow([rank, int(i), int(label), repr(float(gain)), repr(float(weight))])
        if path is not None:
            with open(path, "w", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        return text.getvalue()

    def __repr__(self) -> str:
        """Return for instance "500 of 50,000 (1.0 %), 10 classes 48-52 each"."""
        first = self.labels.reshape(self.epochs, -1)[0] if len(self.labels) else self.labels
        count = np.bincount(first, minlength=self.num_classes)
        low, high = int(count.min()), int(count.max())
        each = f"{low}" if low == high else f"{low}-{high}"
        share = 100 * len(self) / max(1, self.num_pool)
        return (
            f"{len(self):,} of {self.num_pool:,} ({share:.1f} %), "
            f"{self.num_classes} classes {each} each"
        )
