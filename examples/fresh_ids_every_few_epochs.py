"""Your own PyTorch loop, with fresh ids from raysubset every few epochs.

    python examples/fresh_ids_every_few_epochs.py --strategy glister --fraction 0.1

Nothing of the loop is rewritten: one call gives the ids of the next epochs. Inside a program that
called `ray.init()` the same call scores on the cluster, with the same ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

import raysubset as rs

STRATEGIES = {"glister": rs.Glister(), "adaptive-random": rs.AdaptiveRandom()}


def data(seed: int) -> tuple[Subset, Subset, Subset]:
    """Return scikit-learn's digits as train, validation and test."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    whole = TensorDataset(x, torch.tensor(digits.target))
    train, val, test = random_split(
        whole, [0.7, 0.15, 0.15], generator=torch.Generator().manual_seed(seed)
    )
    return train, val, test


def train_epoch(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:
    """Train one epoch, as anybody does."""
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, test: Subset) -> float:
    """Return the share of test examples that are classified right."""
    model.eval()
    x, y = next(iter(DataLoader(test, batch_size=len(test))))
    return float((model(x).argmax(1) == y).float().mean())


def main(words: Sequence[str] | None = None) -> tuple[float, list[rs.Selection]]:
    """Train on fresh ids; return the test accuracy and what was chosen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", choices=STRATEGIES, default="glister")
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--every", type=int, default=5, help="epochs between two choices")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)

    torch.manual_seed(asked.seed)
    train, val, test = data(asked.seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    loader, selections = DataLoader(train, batch_size=32), list[rs.Selection]()
    for epoch in range(asked.epochs):
        if epoch % asked.every == 0:
            chosen = rs.select(
                model,
                train,
                val,
                fraction=asked.fraction,
                strategy=STRATEGIES[asked.strategy],
                seed=asked.seed,
                round=epoch // asked.every,
            )
            subset = Subset(train, chosen.ids.tolist())
            loader = DataLoader(subset, batch_size=32, shuffle=True)
            selections.append(chosen)
            print(f"epoch {epoch:2}: {chosen}")
        train_epoch(model, loader, optimizer)
    score = accuracy(model, test)
    print(f"test accuracy {score:.3f} on {asked.fraction:.0%} of the examples at a time")
    return score, selections


if __name__ == "__main__":
    main()
