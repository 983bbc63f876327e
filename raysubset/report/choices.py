"""Choices: which ids a run chose, how often, and how they spread over the classes.

Read round by round, so that only one round's ids are in memory beside the tally.
Letters: U distinct ids, R rounds, C classes.
"""

# pyarrow.compute makes its functions at import time, so its stubs lack them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysubset.chain import MANIFEST
from raysubset.records import chosen_paths, read_table

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Distinct ids with what is known of each.

    Attributes:
        id_U: int64, ascending.
        times_U: int64, how often it was chosen: once per round, or once per epoch for a strategy
            that draws anew in every epoch.
        label_U: int64.
        first_U: int64, the round that chose it first.
        gain_U: float64, its best gain; NaN where it was never scored.
    """

    id_U: IntArray
    times_U: IntArray
    label_U: IntArray
    first_U: IntArray
    gain_U: NDArray[np.float64]

    def __len__(self) -> int:
        """The number of distinct ids."""
        return len(self.id_U)

    def plus(self, other: Tally) -> Tally:
        """Return both tallies as one, `other` being a later round's."""
        at = np.searchsorted(self.id_U, other.id_U)
        known = self.id_U[np.minimum(at, len(self) - 1)] == other.id_U
        old, new = at[known], at[~known]
        times_U, gain_U = self.times_U.copy(), self.gain_U.copy()
        times_U[old] += other.times_U[known]
        gain_U[old] = np.fmax(gain_U[old], other.gain_U[known])
        return Tally(
            id_U=np.insert(self.id_U, new, other.id_U[~known]),
            times_U=np.insert(times_U, new, other.times_U[~known]),
            label_U=np.insert(self.label_U, new, other.label_U[~known]),
            first_U=np.insert(self.first_U, new, other.first_U[~known]),
            gain_U=np.insert(gain_U, new, other.gain_U[~known]),
        )

    def most_chosen(self, count: int) -> IntArray:
        """Return the places of the ids chosen most often; ties to the higher gain, lower id."""
        gain_U = np.nan_to_num(self.gain_U, nan=-np.inf)
        return np.lexsort((self.id_U, -gain_U, -self.times_U))[:count]


@dataclass(frozen=True, kw_only=True, eq=False)
class Choices:
    """What a run chose.

    Attributes:
        tally: per id, over all rounds read.
        rounds_R: the rounds whose selection is there.
        chosen_RC: distinct ids of each class in each round.
        distinct_RC: distinct ids of each class up to and with each round.
    """

    tally: Tally
    rounds_R: IntArray
    chosen_RC: IntArray
    distinct_RC: IntArray

    @property
    def new_R(self) -> IntArray:
        """Ids that each round chose for the first time."""
        return np.diff(self.distinct_RC.sum(axis=1), prepend=0)


def read_choices(run_dir: Path, num_classes: int) -> Choices | None:
    """Return what a run chose in its finished rounds; None where no selection is there.

    Raises:
        RunFolderError: a selection that cannot be read, by name.
    """
    tally: Tally | None = None
    rounds: list[int] = []
    chosen: list[IntArray] = []
    distinct: list[IntArray] = []
    for path in chosen_paths(run_dir):
        if not (path.parent / MANIFEST).is_file():
            continue
        rounds.append(int(path.parent.name))
        mine = _tally_of(path, rounds[-1])
        tally = tally.plus(mine) if tally is not None and len(tally) else mine
        chosen.append(np.bincount(mine.label_U, minlength=num_classes))
        distinct.append(np.bincount(tally.label_U, minlength=num_classes))
    if tally is None:
        return None
    return Choices(
        tally=tally,
        rounds_R=np.array(rounds, dtype=np.int64),
        chosen_RC=_stack(chosen),
        distinct_RC=_stack(distinct),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolRows:
    """What is known of the pool besides the choices.

    Attributes:
        count_C: rows of each class that could be chosen.
        keys: id -> the person's own name of the row, for the ids asked for.
    """

    count_C: IntArray
    keys: dict[int, str]


def read_pool(run_dir: Path, num_classes: int, ids: IntArray) -> PoolRows | None:
    """Return the pool's classes, and the keys of these ids; None where the run recorded none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    path = run_dir / "parts.parquet"
    if not path.is_file():
        return None
    table = read_table(path)
    pool = table.filter(pc.equal(table["part"], "pool"))
    label_N = pool.filter(pc.is_null(pool["dropped"]))["label"].to_numpy()
    asked = pool.filter(pc.is_in(pool["id"], value_set=pa.array(ids, pa.int64())))
    named = zip(asked["id"].to_pylist(), asked["key"].to_pylist(), strict=True)
    return PoolRows(
        count_C=np.bincount(label_N, minlength=num_classes).astype(np.int64),
        keys={id_: key for id_, key in named if key is not None},
    )


def _tally_of(path: Path, round_: int) -> Tally:
    table = read_table(path)
    id_U, at_K, times_U = np.unique(
        table["id"].to_numpy().astype(np.int64), return_inverse=True, return_counts=True
    )
    gain_U = np.full(len(id_U), np.nan)
    np.fmax.at(gain_U, at_K, table["gain"].to_numpy().astype(np.float64))
    label_U = np.zeros(len(id_U), dtype=np.int64)
    label_U[at_K] = table["label"].to_numpy()
    return Tally(
        id_U=id_U,
        times_U=times_U.astype(np.int64),
        label_U=label_U,
        first_U=np.full(len(id_U), round_, dtype=np.int64),
        gain_U=gain_U,
    )


def _stack(counts: list[IntArray]) -> IntArray:
    """Return rows of one width: a label beyond the named classes widens them all."""
    width = max(len(row) for row in counts)
    return np.stack([np.pad(row, (0, width - len(row))) for row in counts]).astype(np.int64)
