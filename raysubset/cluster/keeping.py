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

from raysubset.errors import Stopped
from raysubset.learn.checkpoint import Snapshot
from raysubset.learn.learner import EpochTrace
from raysubset.learn.partial import BEGUN, Keeper, Open, Partial, Write, partial_of

logger = logging.getLogger(__name__)


def agreed(
    begun: Open | None, world: int, look: Callable[[Open], Partial | None] = partial_of
) -> Partial | None:
    """Return the kept epochs that all ranks have, the same ones; None where one has none.

    Args:
        begun: the round.
        world: how many ranks.
        look: what finds them for this rank; it always ends, for the others wait for it.

    Raises:
        Stopped: `look` raised it on one rank; all of them stop then.
    """
    if begun is None:
        return None
    kept, stopped = None, None
    try:
        kept = look(begun)
    except Stopped as error:
        stopped = error
    seen: list[Any] = [(None if kept is None else kept.state, stopped)]
    if world > 1:
        mine, seen = seen[0], [None] * world
        dist.all_gather_object(seen, mine)
    for _, stop in seen:
        if stop is not None:
            raise stop
    return kept if len({state for state, _ in seen}) == 1 else None


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
        write: Write | None = None,
    ) -> None:
        """Join; without a `begun`, nothing is kept.

        Args:
            begun: the round.
            kept: what is kept of it already.
            snapshot: copies the training state to the host.
            writer: a thread of its own.
            rank: of W.
            world: W.
            device: for collectives.
            write: how rank 0 keeps what it holds, where it does not see the round's folder.
        """
        self.begun, self.rank, self.world, self.device = begun, rank, world, device
        self._unheld: list[EpochTrace] = []
        self._keeper: Keeper | None = None
        if begun is not None and rank == 0:
            if write is not None or (Path(begun.folder) / BEGUN[0]).is_file():
                self._keeper = Keeper(
                    open=begun, before=kept, snapshot=snapshot, writer=writer, write=write
                )
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
