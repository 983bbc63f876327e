"""Signs of life: how long each rank is silent, though the mailbox that heard of it may restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping


class SignsOfLife:
    """When each of W ranks was last heard of."""

    def __init__(self, world: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Count from now on."""
        self._world, self._clock = world, clock
        self.forget()

    def forget(self) -> None:
        """Count from now on: the ranks are others."""
        self._heard = dict.fromkeys(range(self._world), self._clock())

    def hear(self, silent_s: Mapping[int, float]) -> None:
        """Take the mailbox's word on the ranks that it knows; one that restarted knows none."""
        now = self._clock()
        for rank, seconds in silent_s.items():
            self._heard[rank] = max(self._heard[rank], now - seconds)

    def beyond(self, limit_s: float, answered: Collection[int] = ()) -> dict[int, float]:
        """Return the seconds of silence of ranks beyond a limit.

        Ranks that answered are not waited for, so their silence is nobody's harm.
        """
        now = self._clock()
        silent_s = {rank: now - heard for rank, heard in self._heard.items()}
        return {r: s for r, s in silent_s.items() if s > limit_s and r not in answered}
