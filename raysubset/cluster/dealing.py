"""Dealing: which range an actor does next, so that it reads few blocks that others read too."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType


class Deal:
    """Ranges that are still to do: those that an actor knows, and others in piles by block."""

    def __init__(
        self, blocks: Sequence[Hashable], knows: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """Take the block of every range, and the actor that alone is dealt it, by its index."""
        self._back: deque[int] = deque()
        self._piles: dict[Hashable, deque[int]] = {}
        self._known: dict[int, deque[int]] = {}
        for index, block in enumerate(blocks):
            if index in knows:
                self._known.setdefault(knows[index], deque()).append(index)
            else:
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
        piles = [*self._piles.values(), *self._known.values()]
        return next(pile[0] for pile in piles if pile)

    def has(self, actor: int) -> bool:
        """Return whether there is a range for an actor: what others know is not."""
        others = sum(len(pile) for of, pile in self._known.items() if of != actor)
        return self._left > others

    def next(self, actor: int) -> int:
        """Return the actor's next range.

        One that it knows; a lost one; one of its block, of a new one, of another's.

        Raises:
            IndexError: none is left for it.
        """
        if not self.has(actor):
            raise IndexError("no range is left for this actor")
        self._left -= 1
        if known := self._known.get(actor):
            return known.popleft()
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

    def forget(self, actor: int) -> None:
        """Deal what an actor knew to anybody: it was lost, and its memory with it."""
        self._back.extend(self._known.pop(actor, ()))

    def _new_pile(self) -> Hashable:
        if self._untouched:
            return self._untouched.popleft()
        # A pile that others are at; the largest, so that each is shared by few.
        return max(self._piles, key=lambda block: len(self._piles[block]))
