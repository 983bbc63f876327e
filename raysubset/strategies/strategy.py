"""What a strategy is: a frozen value with a pure `select`."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import GroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.core.quotas import Balance, class_quotas
from raysubset.strategies.selection import Selection

Need = Literal["factors", "lookahead", "embeddings", "observations"]


class Strategy(Protocol):
    """A plan that chooses K ids of a pool."""

    @property
    def name(self) -> str:
        """The name of the field, as reports show it."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """What must be computed before `select`; nothing else is."""
        ...

    def select(
        self,
        ground_set: GroundSet,
        lookahead: Lookahead | None,
        budget: int,
        key: int = 0,
        epochs: range = range(1),
    ) -> Selection:
        """Return exactly `budget` distinct ids, in order of choice.

        Args:
            ground_set: the examples that may be chosen.
            lookahead: the validation set; None where neither needs nor balance ask for it.
            budget: K, in 1..N.
            key: the run's randomness; the same key gives the same ids.
            epochs: the run's epoch numbers that this selection will serve; only strategies that
                redraw every epoch look at its length.
        """
        ...


def rooms(
    balance: Balance, ground_set: GroundSet, lookahead: Lookahead | None, budget: int
) -> list[int] | None:
    """Return the class quotas of a checked budget over this ground set."""
    validation_C = None if lookahead is None else lookahead.class_count_C
    return class_quotas(balance, budget, ground_set.class_count_C, validation_C)


def selection_of(
    chosen: GradientFactors,
    gain_K: Tensor | None,
    ground_set: GroundSet,
    *,
    weighted: bool = False,
    epochs: int = 1,
    facts: dict[str, float] | None = None,
) -> Selection:
    """Return the result for rows chosen in this order; gains None means nothing was scored."""
    size = chosen.num_examples
    gains = torch.full((size,), torch.nan) if gain_K is None else gain_K
    return Selection(
        ids=chosen.ids_N.cpu().numpy().astype(np.int64),
        gains=gains.detach().cpu().numpy().astype(np.float32),
        weights=np.ones(size, dtype=np.float32) if weighted else None,
        labels=chosen.label_N.cpu().numpy().astype(np.int64),
        num_pool=ground_set.num_examples,
        num_classes=chosen.num_classes,
        fraction=size / epochs / max(1, ground_set.num_examples),
        epochs=epochs,
        facts=facts or {},
    )
