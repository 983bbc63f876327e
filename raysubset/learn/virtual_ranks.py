"""Virtual ranks: the arithmetic of DDP in one process, one rank after the other."""

from __future__ import annotations

from torch import Tensor, nn


class VirtualRanks:
    """Per-rank gradients and buffers of one step, in rank order."""

    def __init__(self, model: nn.Module, world: int) -> None:
        """Begin a step of `world` ranks with this model."""
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.buffers = list(model.buffers())
        self.world = world
        self.sums: list[Tensor | None] = [None] * len(self.parameters)
        self.kept: list[Tensor] = []

    def __enter__(self) -> None:
        """Remember the buffers: DDP broadcasts rank 0's before every forward of all ranks."""
        self.before = [b.clone() for b in self.buffers]

    def collect(self, rank: int) -> None:
        """Add this rank's gradient and give the next one rank 0's buffers to start from."""
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            part, total = parameter.grad / self.world, self.sums[index]
            self.sums[index] = part if total is None else total + part
            parameter.grad = None
        if rank == 0:
            self.kept = [b.clone() for b in self.buffers]
        _copy_all(self.buffers, self.before)

    def __exit__(self, *_: object) -> None:
        """Leave the mean gradient and rank 0's buffers in the model."""
        if self.kept:
            _copy_all(self.buffers, self.kept)
        for parameter, total in zip(self.parameters, self.sums, strict=True):
            parameter.grad = total


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
