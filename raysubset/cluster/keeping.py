"""Finished epochs of a round, kept by ranks that train together.

Rank 0 says when and writes; the others give what they saw of their rows. Every rank calls this
after the same epochs, so that its collectives meet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raysubset.learn.checkpoint import Snapshot
from raysubset.learn.learner import EpochTrace
from raysubset.learn.partial import BEGUN, Keeper, Open, Partial, partial_of

logger = logging.getLogger(__name__)


def agreed(begun: Open | None, world: int) -> Partial | None:
    """Return the kept epochs that all ranks see, the same ones; None where one of them does not."""
    kept = partial_of(begun) if begun is not None else None
    if world == 1 or begun is None:
        return kept
    seen: list[Any] = [None] * world
    dist.all_gather_object(seen, None if kept is None else kept.state)
    return kept if len(set(seen)) == 1 else None


class Together:
    """One rank's part in keeping a round's epochs."""

    def __init__(
        self,
        begun: Open | None,
        kept: Partial | None,
        snapshot: Callable[[], Snapshot],
        writer: Executor,
        *,
        rank: int,
        world: int,
        device: torch.device,
    ) -> None:
        """Join; without a `begun`, or where rank 0 does not see its folder, nothing is kept."""
        self.begun, self.rank, self.world, self.device = begun, rank, world, device
        self._unheld: list[EpochTrace] = []
        self._keeper: Keeper | None = None
        if begun is not None and rank == 0:
            if (Path(begun.folder) / BEGUN[0]).is_file():
                self._keeper = Keeper(open=begun, before=kept, snapshot=snapshot, writer=writer)
            else:
                logger.warning(
                    "rank 0 does not see %s, so epochs of this round are not kept", begun.folder
                )

    def epoch_done(self, trace: EpochTrace) -> None:
        """Hold the state after this epoch, where rank 0 finds it due."""
        if self.begun is None:
            return
        self._unheld.append(trace)
        if not self._due():
            return
        traces = self._of_all_ranks()
        if self._keeper is not None:
            self._keeper.hold(traces)
        self._unheld = []

    def stop(self) -> None:
        """Write what is held, and wait for it; no other rank is waited for."""
        if self._keeper is not None:
            self._keeper.stop()

    def _due(self) -> bool:
        due = self._keeper is not None and self._keeper.due()
        if self.world == 1:
            return due
        said = torch.tensor([int(due)], device=self.device)
        dist.broadcast(said, 0)
        return bool(said.item())

    def _of_all_ranks(self) -> list[EpochTrace]:
        if self.world == 1:
            return self._unheld
        parts: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(self._unheld, parts)
        if parts is None:
            return []
        return [EpochTrace.union(list(traces)) for traces in zip(*parts, strict=True)]
