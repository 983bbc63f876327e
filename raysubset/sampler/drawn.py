"""What is drawn in which epoch, in which order and by whom: pure functions of (seed, epoch).

Shape letters: E epochs that have a slice of their own, K ids of an epoch, B rows of a batch.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from raysubset.core.keys import derive_key, hash_ids
from raysubset.errors import ConfigError
from raysubset.sampler.chosen import Chosen
from raysubset.sampler.place import Place

Remainder = Literal["drop", "keep"]
State = dict[str, int | str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """The ids of every epoch and the rows of a dataset where they lie.

    Attributes:
        chosen: ids, weights and where they come from.
        row_EK: the dataset's row of each id.
        seed: of the order.
        shuffle: False for the order of choice.
        remainder: what becomes of ids that do not fill a row of ranks.
    """

    chosen: Chosen
    row_EK: np.ndarray
    seed: int
    shuffle: bool
    remainder: Remainder

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.remainder not in ("drop", "keep"):
            raise ConfigError(f"remainder={self.remainder!r} must be 'drop' or 'keep'.")

    def __len__(self) -> int:
        """K: how many ids an epoch has, over all ranks."""
        return self.row_EK.shape[1]

    def ids(self, epoch: int) -> np.ndarray:
        """Return an epoch's ids in the order of choice. Shape: (K,)."""
        return self.chosen.ids_EK[epoch % len(self.row_EK)]

    def rows(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch's ids, in the order of choice. Shape: (K,)."""
        return self.row_EK[epoch % len(self.row_EK)]

    def weights(self, epoch: int) -> np.ndarray:
        """Return an epoch's weights, in the order of choice. Shape: float32 (K,)."""
        if self.chosen.weights_EK is None:
            return np.ones(len(self), dtype=np.float32)
        return self.chosen.weights_EK[epoch % len(self.row_EK)]

    def weights_of(self, epoch: int, row_B: np.ndarray) -> np.ndarray:
        """Return the weights of some of an epoch's rows. Shape: (B,) -> (B,).

        Raises:
            ConfigError: a row that the epoch does not draw.
        """
        rows_K = self.rows(epoch)
        order_K = self._order_EK[epoch % len(self.row_EK)]
        place_B = np.searchsorted(rows_K[order_K], row_B).clip(max=len(self) - 1)
        found_B = order_K[place_B]
        if len(strange := row_B[rows_K[found_B] != row_B]):
            raise ConfigError(
                f"row {strange[0]:,} is not drawn in epoch {epoch} from {self.chosen.origin}."
            )
        return self.weights(epoch)[found_B]

    def share(self, epoch: int, start: int, place: Place) -> list[int]:
        """Return the rows that a rank draws of an epoch from a position on, in order.

        Every W-th from the rank on: after n rows each, the ranks drew the first n * W together.
        """
        rest = self._order(epoch)[start:]
        return rest[place.rank : self.drawn(start, place) : place.world_size].tolist()

    def drawn(self, start: int, place: Place) -> int:
        """Return how many rows all ranks draw of an epoch from a position on."""
        rest = len(self) - start
        return rest - rest % place.world_size if self.remainder == "drop" else rest

    def count(self, start: int, place: Place) -> int:
        """Return how many rows a rank draws of an epoch from a position on."""
        return len(range(place.rank, self.drawn(start, place), place.world_size))

    def _order(self, epoch: int) -> np.ndarray:
        rows_K = self.rows(epoch)
        if not self.shuffle:
            return rows_K
        # By the hash of the ids, not of the rows: the same examples in the same order wherever
        # they lie. Distinct ids have distinct hashes, so there are no ties to break.
        key = derive_key(self.seed, "sampler", epoch)
        hash_K = hash_ids(torch.from_numpy(self.ids(epoch)), key)
        return rows_K[torch.sort(hash_K).indices.numpy()]

    def state(self, epoch: int, position: int) -> State:
        """Return a place in an epoch as plain values.

        Args:
            epoch: which.
            position: examples of its order that were consumed, over all ranks.
        """
        return {**self._identity, "epoch": epoch, "position": position}

    def read_state(self, state: Mapping[str, Any]) -> tuple[int, int]:
        """Return (epoch, position) of a state.

        Raises:
            ConfigError: it is no state, or of another order; the difference is named.
        """
        own = self._identity
        try:
            epoch, position = operator.index(state["epoch"]), operator.index(state["position"])
            other = {name: state[name] for name in own if state[name] != own[name]}
        except (KeyError, TypeError):
            raise ConfigError(f"{state!r} is no state of a SubsetSampler.") from None
        if other:
            told = "; ".join(f"{name} {was}, here {own[name]}" for name, was in other.items())
            raise ConfigError(
                f"the state is of another order than that of {self.chosen.origin} with seed "
                f"{self.seed}: {told}. Give the sampler the source (of a run, round= too), seed "
                "and shuffle that it was saved with."
            )
        if epoch < 0 or not 0 <= position <= len(self):
            raise ConfigError(f"epoch {epoch}, position {position:,}: there is no such place.")
        return epoch, position

    @cached_property
    def _order_EK(self) -> np.ndarray:
        """The places of each slice's rows in ascending order: asked for with every batch."""
        return np.argsort(self.row_EK, axis=1)

    @cached_property
    def _identity(self) -> State:
        """What decides the order: a position means nothing in another."""
        ids_EK = np.ascontiguousarray(self.chosen.ids_EK)
        digest = hashlib.sha256(repr(ids_EK.shape).encode() + ids_EK.tobytes()).hexdigest()
        return {"seed": self.seed, "shuffle": self.shuffle, "ids": digest[:16]}
