"""Stability: what the seeds of a frontier agree on, from the run folders of its trials.

Every seed splits its own pool, so two seeds are compared on the ids that both could choose.
Letters: N pool of a seed, U ids of any seed, K chosen, C classes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysubset.evidence.overlap import always, jaccard, never, overlap_by_chance
from raysubset.frontier.plan import FULL
from raysubset.frontier.table import TrialRow, chosen_ids
from raysubset.frontier.trial import TRIALS
from raysubset.records import pool_of, read_table

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolIds:
    """What one seed could choose.

    Attributes:
        id_N: int64, ascending; rows that the filters dropped are not in it.
        label_N: int64.
    """

    id_N: IntArray
    label_N: IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Stability:
    """What the seeds of one strategy at one fraction agree on.

    Attributes:
        row: the strategy.
        fraction: of the pool.
        seeds: how many of its trials are finished.
        chosen: distinct ids that a trial trained on, mean.
        overlap: mean Jaccard overlap of two seeds, on the ids that both could choose; None for
            one seed.
        expected: the same for random subsets of these sizes.
        shared: ids that stood in the pool of every seed.
        always: of those, the ids that every seed chose, ascending.
        never: of those, the ids that no seed chose, ascending.
        chosen_C: each class's share of the chosen ids, mean over seeds.
        pool_C: each class's share of the pool, mean over seeds.
    """

    row: str
    fraction: float
    seeds: int
    chosen: float
    overlap: float | None
    expected: float | None
    shared: int
    always: IntArray
    never: IntArray
    chosen_C: FloatArray
    pool_C: FloatArray

    @property
    def coverage_C(self) -> FloatArray:
        """How often a class was chosen against its share of the pool; 1 is its due, NaN no row."""
        there = self.pool_C > 0
        return np.where(there, self.chosen_C / np.where(there, self.pool_C, 1.0), np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassChange:
    """What one row at one fraction costs each class.

    Attributes:
        row: the strategy or control.
        fraction: of the pool.
        seeds: how many pairs with full there are.
        change_C: accuracy minus full's, mean over pairs; NaN where no test part has the class.
    """

    row: str
    fraction: float
    seeds: int
    change_C: FloatArray


def stability_of(folder: Path, rows: Sequence[TrialRow], num_classes: int) -> list[Stability]:
    """Return what seeds agree on, for every strategy that was asked about and every fraction.

    Raises:
        RunFolderError: a file of a trial that cannot be read, by name.
    """
    cells: dict[tuple[str, float], dict[int, str]] = {}
    for row in rows:
        if row.role == "strategy":
            cells.setdefault((row.row, row.fraction), {})[row.seed] = row.trial
    trial_of = {seed: trial for own in cells.values() for seed, trial in own.items()}
    pool_of = {seed: read_pool_ids(folder, trial) for seed, trial in trial_of.items()}
    return [
        _stability(
            {seed: chosen_ids(folder, trial) for seed, trial in own.items()},
            pool_of,
            num_classes,
            row=row,
            fraction=fraction,
        )
        for (row, fraction), own in cells.items()
    ]


def class_changes(rows: Sequence[TrialRow]) -> list[ClassChange]:
    """Return each cell's accuracy minus full's by class, paired by seed; [] without full."""
    full = {row.seed: np.array(row.class_accuracy) for row in rows if row.row == FULL}
    pairs: dict[tuple[str, float], list[FloatArray]] = {}
    for row in rows:
        if row.row != FULL and row.seed in full:
            change_C = np.array(row.class_accuracy) - full[row.seed]
            pairs.setdefault((row.row, row.fraction), []).append(change_C)
    return [
        ClassChange(row=row, fraction=fraction, seeds=len(own), change_C=_mean_known(own))
        for (row, fraction), own in pairs.items()
    ]


def read_pool_ids(folder: Path, trial: str) -> PoolIds:
    """Return what a trial could choose.

    Raises:
        RunFolderError: its parts cannot be read.
    """
    ids, labels = pool_of(read_table(folder / TRIALS / trial / "parts.parquet"))
    return PoolIds(id_N=ids.astype(np.int64), label_N=labels.astype(np.int64))


def _stability(
    chosen: Mapping[int, IntArray], pool_of: Mapping[int, PoolIds], num_classes: int, **cell: Any
) -> Stability:
    """Return what these seeds agree on; `cell` names the row and the fraction."""
    pools = [pool_of[seed] for seed in chosen]
    shared = functools.reduce(np.intersect1d, [pool.id_N for pool in pools])
    pairs = itertools.combinations(zip(chosen.values(), pools, strict=True), 2)
    overlaps = [o for (a, p), (b, q) in pairs if (o := _overlap(a, b, p, q)) is not None]
    labels = [
        pool.label_N[np.searchsorted(pool.id_N, ids)]
        for ids, pool in zip(chosen.values(), pools, strict=True)
    ]
    return Stability(
        **cell,
        seeds=len(chosen),
        chosen=float(np.mean([len(ids) for ids in chosen.values()])),
        overlap=float(np.mean([found for found, _ in overlaps])) if overlaps else None,
        expected=float(np.mean([by_chance for _, by_chance in overlaps])) if overlaps else None,
        shared=len(shared),
        always=always(chosen),
        never=never(chosen, shared),
        chosen_C=np.mean([_shares(label, num_classes) for label in labels], axis=0),
        pool_C=np.mean([_shares(pool.label_N, num_classes) for pool in pools], axis=0),
    )


def _overlap(
    a: IntArray, b: IntArray, pool_a: PoolIds, pool_b: PoolIds
) -> tuple[float, float] | None:
    """Return the overlap of two choices on what both could choose, and chance's; None for no id."""
    both = np.intersect1d(pool_a.id_N, pool_b.id_N)
    a, b = np.intersect1d(a, both), np.intersect1d(b, both)
    if not len(a) + len(b):
        return None
    return jaccard(a, b), overlap_by_chance(len(a), len(b), len(both))


def _shares(label_K: IntArray, num_classes: int) -> FloatArray:
    """Return each class's share of these rows; 0 everywhere for no row."""
    return np.bincount(label_K, minlength=num_classes) / max(1, len(label_K))


def _mean_known(values: Sequence[FloatArray]) -> FloatArray:
    """Return the mean over rows where a value is known; NaN where none is."""
    value_SC = np.stack(values)
    known_SC = np.isfinite(value_SC)
    total_C, count_C = np.where(known_SC, value_SC, 0.0).sum(axis=0), known_SC.sum(axis=0)
    return np.where(count_C > 0, total_C / np.maximum(count_C, 1), np.nan)
