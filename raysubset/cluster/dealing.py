"""Dealing: which range an actor does next, so that it reads few blocks that others read too."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence


class Deal:
    """Ranges that are still to do, in piles of one block each."""

    def __init__(self, blocks: Sequence[Hashable]) -> None:
        """Take the block of every range, by the range's index."""
        self._back: deque[int] = deque()
        self._piles: dict[Hashable, deque[int]] = {}
        for index, block in enumerate(blocks):
            self._piles.setdefault(block, deque()).append(index)
        self._untouched = deque(self._piles)
        self._of_actor: dict[int, Hashable] = {}
        self._left = len(blocks)

    def __len__(self) -> int:
        """The number of ranges that nobody has."""
        return self._left

    def first(self) -> int:
        """Return a range that nobody has."""
        if self._back:
            return self._back[0]
        return next(pile[0] for pile in self._piles.values() if pile)

    def next(self, actor: int) -> int:
        """Return the actor's next range: a lost one, one of its block, of a new one, of another's.

        Raises:
            IndexError: none is left.
        """
        if not self._left:
            raise IndexError("no range is left")
        self._left -= 1
        if self._back:
            return self._back.popleft()
        own = self._of_actor.get(actor)
        if own is None or not self._piles[own]:
            own = self._of_actor[actor] = self._new_pile()
        return self._piles[own].popleft()

    def give_back(self, index: int) -> None:
        """Take a range back that was lost; it is the next that is dealt."""
        self._back.appendleft(index)
        self._left += 1

    def _new_pile(self) -> Hashable:
        if self._untouched:
            return self._untouched.popleft()
        # A pile that others are at; the largest, so that each is shared by few.
        return max(self._piles, key=lambda block: len(self._piles[block]))
