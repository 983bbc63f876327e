"""How stable a choice is: the overlap of the chosen ids across seeds, beside that of chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from raysubset.errors import ConfigError

IdArray = NDArray[np.int64]
Ids = Sequence[int] | IdArray


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Jaccard over all pairs of seeds; no interval, because pairs share seeds.

    Attributes:
        mean: over the pairs.
        low: of the pair that agrees least.
        high: of the pair that agrees most.
        num_pairs: S * (S - 1) / 2 of S seeds.
    """

    mean: float
    low: float
    high: float
    num_pairs: int


def jaccard(a_ids: Ids, b_ids: Ids) -> float:
    """Return the share of the ids of either that are in both; 1 for equal sets."""
    a, b = _distinct(a_ids), _distinct(b_ids)
    both = len(np.intersect1d(a, b, assume_unique=True))
    either = len(a) + len(b) - both
    if not either:
        raise ConfigError("both subsets are empty, so their overlap means nothing; give their ids.")
    return both / either


def mean_overlap(ids_by_seed: Mapping[int, Ids]) -> Overlap:
    """Return the overlap of the chosen ids over all pairs of at least two seeds."""
    if len(ids_by_seed) < 2:
        raise ConfigError(
            f"overlap is between seeds, given: {sorted(ids_by_seed)}; run at least 2 seeds."
        )
    pairs = combinations(ids_by_seed.values(), 2)
    share_P = np.sort([jaccard(first, second) for first, second in pairs])
    return Overlap(
        mean=float(share_P.mean()),
        low=float(share_P[0]),
        high=float(share_P[-1]),
        num_pairs=len(share_P),
    )


def overlap_by_chance(a_size: int, b_size: int, pool_size: int) -> float:
    """Return the expected Jaccard of two independent random subsets of these sizes.

    Exact: the number X of shared ids is hypergeometric, Jaccard is X / (a + b - X), and the mean
    is summed over X. For two subsets of a fraction f of a large pool it tends to f / (2 - f).
    """
    if not 0 <= min(a_size, b_size) <= max(a_size, b_size) <= pool_size or a_size + b_size == 0:
        raise ConfigError(
            f"subsets of {a_size:,} and {b_size:,} cannot be drawn from a pool of {pool_size:,}; "
            "give sizes of the pool's parts, not both 0."
        )
    least, most = max(0, a_size + b_size - pool_size), min(a_size, b_size)
    mean = a_size * b_size / pool_size
    # The variance is below the mean; so far out nothing is left in float64, and it costs seconds.
    reach = 12 * math.sqrt(mean) + 40
    shared_X = np.arange(
        max(least, math.floor(mean - reach)), min(most, math.ceil(mean + reach)) + 1
    )
    chance_X = stats.hypergeom.pmf(shared_X, pool_size, a_size, b_size)
    return float(np.sum(chance_X * shared_X / (a_size + b_size - shared_X)))


def always(ids_by_seed: Mapping[int, Ids]) -> IdArray:
    """Return the ids that every seed chose, ascending."""
    return reduce(np.intersect1d, _all(ids_by_seed))


def never(ids_by_seed: Mapping[int, Ids], pool_ids: Ids) -> IdArray:
    """Return the ids of the pool that no seed chose, ascending.

    Where the seed also draws the parts, give the ids that are in the pool of every seed:
    what a seed kept for validation was not passed over.
    """
    return np.setdiff1d(_distinct(pool_ids), reduce(np.union1d, _all(ids_by_seed)))


def _all(ids_by_seed: Mapping[int, Ids]) -> list[IdArray]:
    if not ids_by_seed:
        raise ConfigError("no seed has chosen ids; give those of at least one.")
    return [_distinct(ids) for ids in ids_by_seed.values()]


def _distinct(ids: Ids) -> IdArray:
    return np.unique(np.asarray(ids, dtype=np.int64))
