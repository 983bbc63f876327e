"""What a run's rounds say of every pool row: how often it was chosen, and how at last.

Letters: N pool rows, K rows chosen in a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from raysubset.answers import committed_rounds, labels_of, whole
from raysubset.errors import ConfigError, RunFolderError
from raysubset.records import read_table
from raysubset.storage.staging import shown

NEVER = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolHistory:
    """Every pool row and what became of it, in the order of ids.

    Attributes:
        id_N: int64, ascending.
        label_N: the class names.
        key_N: the person's own names, or None where the data has none.
        times_N: int64, in how many rounds it was chosen.
        round_N: int64, the last of them; NEVER for none.
        rank_N: int64, its place in that round's order of choice, from 0; NEVER for none.
        gain_N: float32, the score by which it was taken there; NaN where nothing was scored.
    """

    id_N: np.ndarray
    label_N: list[str]
    key_N: list[str] | None
    times_N: np.ndarray
    round_N: np.ndarray
    rank_N: np.ndarray
    gain_N: np.ndarray


def pool_history(run: Path) -> PoolHistory:
    """Return what the committed rounds of a run say of its pool.

    Raises:
        ConfigError: no round is finished.
        RunFolderError: a file that cannot be read, or that does not fit the others.
    """
    rounds = committed_rounds(run)
    if not rounds:
        raise ConfigError(f"{shown(run)} has no finished round; run it again with --resume.")
    pool = pool_of(run)
    id_N = pool["id"].to_numpy()
    times_N = np.zeros(len(id_N), dtype=np.int64)
    round_N, rank_N = (np.full(len(id_N), NEVER, dtype=np.int64) for _ in range(2))
    gain_N = np.full(len(id_N), np.nan, dtype=np.float32)
    for number in rounds:
        path = run / "rounds" / f"{number:04d}" / "selection.parquet"
        table = whole(read_table(path), path, "id", "rank", "gain")
        # Several slices of a round may hold the same id: once is enough, and the first is kept.
        id_K, first_K = np.unique(table["id"].to_numpy(), return_index=True)
        at_K = places_of(id_K, id_N, path)
        times_N[at_K] += 1
        round_N[at_K] = number
        rank_N[at_K] = table["rank"].to_numpy()[first_K]
        gain_N[at_K] = table["gain"].to_numpy()[first_K]
    return PoolHistory(
        id_N=id_N,
        label_N=labels_of(run, pool["label"].to_pylist()),
        key_N=keys_of(pool),
        times_N=times_N,
        round_N=round_N,
        rank_N=rank_N,
        gain_N=gain_N,
    )


def pool_of(run: Path) -> pa.Table:
    """Return the pool's rows of parts.parquet, in the order of ids.

    Raises:
        RunFolderError: it is damaged.
    """
    path = run / "parts.parquet"
    parts = whole(read_table(path), path, "part", "id", "label", "key")
    pool = parts.filter(np.array(parts["part"].to_pylist()) == "pool")
    return pool.take(np.argsort(pool["id"].to_numpy(), kind="stable"))


def places_of(id_K: np.ndarray, id_N: np.ndarray, path: Path) -> np.ndarray:
    """Return where chosen ids stand among those of the pool. Shape: (K,), (N,) -> int64 (K,).

    Args:
        id_K: of the choice.
        id_N: of the pool, ascending.
        path: where the choice was read.

    Raises:
        RunFolderError: an id that is not in the pool; the row beside it is another one.
    """
    at_K = np.minimum(np.searchsorted(id_N, id_K), max(0, len(id_N) - 1))
    strange = id_K if not len(id_N) else id_K[id_N[at_K] != id_K]
    if len(strange):
        raise RunFolderError(
            f"{shown(path)} chose id {strange[0]:,}, which parts.parquet does not have in the "
            "pool: one of the two is damaged; see raysubset verify."
        )
    return at_K


def keys_of(pool: pa.Table) -> list[str] | None:
    """Return the person's own names of the rows, or None where there are none."""
    return None if pool["key"].null_count == pool.num_rows else pool["key"].to_pylist()
