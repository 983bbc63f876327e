"""A choice that reads no model: only labels, and those only where they matter.

Shape letters: N rows, K chosen, C classes.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.learn.outside.batches import checked_labels
from raysubset.learn.outside.chance import chance_left_as_it_was
from raysubset.learn.outside.rows import OutsideRows, Unread, read
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy

_ANY_CLASS = 2**31
_CPU = torch.device("cpu")


def choose_unscored(
    strategy: Strategy,
    pool: OutsideRows,
    validation: OutsideRows,
    *,
    budget: int,
    key: int,
    epochs: range,
    batch_size: int,
    num_workers: int,
) -> Selection:
    """Return a selection by a strategy that needs no factors, or of the whole pool.

    Without class quotas the labels of chosen rows alone are read, after the choice.

    Raises:
        DataError: rows that cannot be read, or labels that are no classes.
    """
    if budget == len(pool):
        strategy = _without_quotas(strategy)  # whoever takes all takes every class's
    balance = getattr(strategy, "balance", "none")

    def labels(rows: OutsideRows, ids_K: np.ndarray) -> np.ndarray:
        return labels_of(rows, ids_K, batch_size=batch_size, num_workers=num_workers)

    if balance == "none":
        unlabelled = GradientFactors.from_labels(np.zeros(len(pool), int), 1, pool.id_N)
        lookahead = Lookahead.from_labels([0], 1)
        chosen = strategy.select(LocalGroundSet(unlabelled), lookahead, budget, key, epochs)
        label_K = labels(pool, chosen.ids)
        classes = int(label_K.max() if pool.label_N is None else pool.label_N.max()) + 1
        return replace(chosen, labels=label_K, num_classes=classes)
    label_N = labels(pool, pool.id_N)
    label_V = labels(validation, validation.id_N) if balance == "validation" else label_N[:1]
    classes = int(max(label_N.max(), label_V.max())) + 1
    ground_set = LocalGroundSet(GradientFactors.from_labels(label_N, classes, pool.id_N))
    lookahead = Lookahead.from_labels(label_V, classes)
    return strategy.select(ground_set, lookahead, budget, key, epochs)


def labels_of(
    rows: OutsideRows, ids_K: np.ndarray, *, batch_size: int, num_workers: int
) -> np.ndarray:
    """Return the labels of these ids, in their order; read once each, where they are not known.

    Raises:
        DataError: as the readers.
    """
    if rows.label_N is not None:
        return rows.label_N[np.searchsorted(rows.id_N, ids_K)]
    once, back_K = np.unique(ids_K, return_inverse=True)
    cuts = [once[start : start + batch_size] for start in range(0, len(once), batch_size)]
    found: list[np.ndarray] = []
    with chance_left_as_it_was(_CPU):
        batches = read([(rows, ids_B) for ids_B in cuts], num_workers)
        for ids_B, batch in zip(cuts, batches, strict=True):
            if isinstance(batch, Unread):
                raise batch.error
            found.append(checked_labels(batch.labels, ids_B, _ANY_CLASS, rows.name))
    return np.concatenate(found)[back_K]


def _without_quotas(strategy: Strategy) -> Strategy:
    value: Any = strategy
    if is_dataclass(strategy) and "balance" in {f.name for f in fields(strategy)}:
        return replace(value, balance="none")
    return strategy
