"""One pass through a rank's share of an epoch, which knows where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raysubset.sampler.drawn import Drawn, State
from raysubset.sampler.place import Place


class Walk(Iterator[int]):
    """The rows that a rank draws of an epoch, from a position on.

    Has `state_dict` and `load_state_dict` as torchdata's StatefulDataLoader asks of a sampler's
    iterator: a state is of what was drawn so far, and the loader keeps one for each batch that is
    on its way.

    Attributes:
        over: whether it was asked for more than it had.
        counted: rows that were consumed, where somebody counts; None where nobody does.
    """

    def __init__(self, drawn: Drawn, place: Place, epoch: int, start: int) -> None:
        """Begin at a position of an epoch."""
        self.drawn, self.place = drawn, place
        self._go(epoch, start)

    def _go(self, epoch: int, start: int) -> None:
        self.epoch, self.start = epoch, start
        self._rows = self.drawn.share(epoch, start, self.place)
        self._next, self.over = 0, False
        self.counted: int | None = None

    def __next__(self) -> int:
        """Return the next row of the dataset."""
        if self._next == len(self._rows):
            self.over = True
            raise StopIteration
        self._next += 1
        return self._rows[self._next - 1]

    def count(self, consumed: int | None) -> None:
        """Take word of how many rows were consumed so far; None for all of them."""
        self.counted = len(self._rows) if consumed is None else min(consumed, len(self._rows))

    @property
    def position(self) -> int:
        """How many examples of the epoch's order were consumed, over all ranks.

        Ranks consume in step. At the end all of the epoch is, and what no rank drew with it.
        """
        consumed = self._next if self.counted is None else self.counted
        if self.over and consumed == len(self._rows):
            return len(self.drawn)
        return min(self.start + consumed * self.place.world_size, len(self.drawn))

    def state_dict(self) -> State:
        """Return where it stands, in plain values."""
        return self.drawn.state(self.epoch, self.position)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved, with any number of ranks."""
        self._go(*self.drawn.read_state(state))
