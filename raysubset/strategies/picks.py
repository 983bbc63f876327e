"""How many ids greedy takes under one direction before it looks ahead again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raysubset.errors import ConfigError


@dataclass(frozen=True)
class Exact:
    """One id per step, each under its own direction: true greedy."""

    def sizes(self, budget: int) -> list[int]:
        """Return the number of picks of every step."""
        return [1] * budget


@dataclass(frozen=True)
class Block:
    """The top `size` ids under one stale direction; the last block takes what is left."""

    size: int

    def __post_init__(self) -> None:
        """Refuse an empty block."""
        if self.size < 1:
            raise ConfigError(f"Block(size={self.size}) must take at least 1 id per step.")

    def sizes(self, budget: int) -> list[int]:
        """Return the number of picks of every step."""
        whole, last = divmod(budget, self.size)
        return [self.size] * whole + ([last] if last else [])


@dataclass(frozen=True)
class Blocks:
    """`count` blocks whose sizes differ by at most one (fewer where the budget is smaller)."""

    count: int

    def __post_init__(self) -> None:
        """Refuse no blocks."""
        if self.count < 1:
            raise ConfigError(f"Blocks(count={self.count}) must be at least 1 block.")

    def sizes(self, budget: int) -> list[int]:
        """Return the number of picks of every step."""
        small, larger = divmod(budget, self.count)
        return [size for i in range(self.count) if (size := small + (i < larger))]


@dataclass(frozen=True)
class Stochastic:
    """One id per step, the best of a fresh uniform sample of ceil(N / K * ln(1 / epsilon)).

    Source: Mirzasoleiman et al., "Lazier Than Lazy Greedy", AAAI 2015.
    """

    epsilon: float

    def __post_init__(self) -> None:
        """Refuse an epsilon that is no probability."""
        if not 0 < self.epsilon < 1:
            raise ConfigError(f"Stochastic(epsilon={self.epsilon:g}) must lie in (0, 1).")

    def sizes(self, budget: int) -> list[int]:
        """Return the number of picks of every step."""
        return [1] * budget

    def sample_size(self, num_examples: int, budget: int) -> int:
        """Return how many candidates each pick looks at."""
        return math.ceil(num_examples / budget * math.log(1 / self.epsilon))


Picks = Exact | Block | Blocks | Stochastic
