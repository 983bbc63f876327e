"""Records: the tables and lines of a run folder, written whole and read with their checksums."""

# pyarrow.compute makes its functions at import time, so its stubs lack them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysubset.core.observations import Observations
from raysubset.errors import RunFolderError
from raysubset.files import finite, write_atomically
from raysubset.learn.checkpoint import system_errors
from raysubset.schedule import PROXY, Phase
from raysubset.strategies.selection import Selection

CHOICE = {
    **{"round": "int32", "epoch": "int32", "rank": "int64", "id": "int64", "label": "int64"},
    **{"gain": "float", "weight": "float"},
}
"""The columns of a selection.parquet of a round, with their types; none holds a null."""
NAME = {"key": "string"}
"""One more, where the data has the person's own names of rows."""
_NOTHING_DONE = ("seconds_scoring", "seconds_greedy", "seconds_handover", "examples_scored")


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolKeys:
    """The person's own names of the pool's rows, as parts.parquet has them.

    Attributes:
        id_N: ascending.
        key_N: text, of the same rows.
    """

    id_N: np.ndarray
    key_N: pa.ChunkedArray

    @classmethod
    def of(cls, parts: pa.Table) -> PoolKeys | None:
        """Return the names in a table of parts; None where it has none."""
        import pyarrow.compute as pc

        pool = parts.filter(pc.equal(parts["part"].cast(pa.string()), "pool")).sort_by("id")
        if pool["key"].null_count == pool.num_rows:
            return None
        return cls(id_N=pool["id"].to_numpy(), key_N=pool["key"])

    def named(self, ids: np.ndarray) -> pa.ChunkedArray:
        """Return the names of ids of the pool. Shape: int64 (K,) -> K texts."""
        return self.key_N.take(pa.array(np.searchsorted(self.id_N, ids)))


def read_pool_keys(parts: Path) -> PoolKeys | None:
    """Return the names of a run's pool rows; None where it has none, or no parts.parquet.

    Raises:
        RunFolderError: the file is damaged.
    """
    return PoolKeys.of(read_table(parts)) if parts.is_file() else None


def write_selection(
    path: Path, selection: Selection, phase: Phase, keys: PoolKeys | None = None
) -> None:
    """Write the chosen ids as Parquet with page checksums; one row per id and epoch's slice.

    Args:
        path: the file.
        selection: the choice, of S slices of K ids.
        phase: what it was made for.
        keys: adds a column `key`, where the data has names of rows.
    """
    size, slices = len(selection), selection.epochs
    weights = np.ones(len(selection.ids)) if selection.weights is None else selection.weights
    table = pa.table(
        {
            "round": np.full(len(selection.ids), phase.round, dtype=np.int32),
            "epoch": np.repeat(np.arange(slices, dtype=np.int32) + phase.epochs.start, size),
            "rank": np.tile(np.arange(size, dtype=np.int64), slices),
            "id": selection.ids,
            "label": selection.labels,
            "gain": selection.gains,
            "weight": weights.astype(np.float32),
        }
    )
    write_table(
        path, table if keys is None else table.append_column("key", keys.named(selection.ids))
    )


def read_selection(path: Path, *, num_pool: int, num_classes: int, round_: int) -> Selection:
    """Return a round's choice as another round goes on with it: nothing is scored again.

    Args:
        path: selection.parquet.
        num_pool: N, of what was chosen.
        num_classes: C.
        round_: the round that goes on with it.

    Raises:
        RunFolderError: it cannot be read, or is no table of a choice.
    """
    table = read_table(path)
    slices = len(np.unique(table["epoch"].to_numpy())) if is_choice(table) else 0
    if not slices or table.num_rows % slices:
        raise RunFolderError(
            f"{path} is no choice of a round (columns {', '.join(table.column_names)}; "
            f"{table.num_rows:,} rows); run again in another --run-dir."
        )
    ids = table["id"].to_numpy()
    weights = table["weight"].to_numpy()
    return Selection(
        ids=ids.astype(np.int64),
        gains=table["gain"].to_numpy().astype(np.float32),
        weights=None if np.all(weights == 1) else weights.astype(np.float32),
        labels=table["label"].to_numpy().astype(np.int64),
        num_pool=num_pool,
        num_classes=num_classes,
        fraction=len(ids) / slices / num_pool,
        round=round_,
        epochs=slices,
        facts={name: 0.0 for name in _NOTHING_DONE},
    )


def is_choice(table: pa.Table) -> bool:
    """Return whether a table has the columns of a choice, in their order, and no null."""
    types = {field.name: str(field.type) for field in table.schema}
    whole = not any(table[name].null_count for name in table.column_names if name != "key")
    return whole and types in (CHOICE, CHOICE | NAME)


def chosen_paths(run: Path) -> list[Path]:
    """Return the selections of a run's rounds in order, but for those that trained a proxy.

    A proxy visits the whole pool to be able to choose; its ids are no choice.
    """
    paths = sorted(run.glob("rounds/*/selection.parquet"))
    return [path for path in paths if _strategy_of(path.parent) != PROXY]


def _strategy_of(round_: Path) -> str | None:
    try:
        return json.loads((round_ / "metrics.json").read_text(encoding="utf-8")).get("strategy")
    except (OSError, ValueError, AttributeError):
        return None  # not committed, or damaged: the manifests are the judge of that


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file atomically, with page checksums."""
    write_atomically(path, lambda p: pq.write_table(table, p, write_page_checksum=True))


def read_table(path: Path) -> pa.Table:
    """Return a Parquet file of a run folder; a `RunFolderError` names a damaged one."""
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise RunFolderError(f"{path} cannot be read: {reason}") from None


def pool_of(parts: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, labels) of the pool's rows that may be chosen, by ascending id.

    Args:
        parts: parts.parquet; rows that the filters dropped have a reason there.
    """
    import pyarrow.compute as pc

    own = pc.equal(parts["part"].cast(pa.string()), "pool")
    pool = parts.filter(pc.and_(own, pc.is_null(parts["dropped"])))
    ids, labels = pool["id"].to_numpy(), pool["label"].to_numpy()
    order = np.argsort(ids, kind="stable")
    return ids[order], labels[order]


def write_observations(path: Path, observations: Observations) -> None:
    """Write what training saw as safetensors."""
    from safetensors.torch import save_file

    with system_errors(path):
        write_atomically(path, lambda p: save_file(vars(observations), p))


def read_observations(path: Path) -> Observations:
    """Return what training saw; the caller checked the file's hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return Observations(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RunFolderError(f"{path} cannot be read: {reason}") from None


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's history; a last line cut short by a crash is left out."""
    lines: list[dict[str, Any]] = []
    history = path / "history.jsonl"
    told = history.read_text(encoding="utf-8", errors="replace") if history.is_file() else ""
    for text in told.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("round"), int):
            lines.append(line)
    return lines


def history_lines(number: int, metrics: Mapping[str, Any], epochs: list[dict[str, Any]]) -> str:
    """Return a round's lines of history.jsonl: one per epoch, then the round's own.

    Names are sorted: a resumed run writes them anew from metrics.json, which has no other order.
    """
    lines = [_line("epoch", number, record) for record in epochs]
    return "".join([*lines, _line("round", number, metrics)])


def _line(kind: str, number: int, told: Mapping[str, Any]) -> str:
    first = json.dumps({"kind": kind, "round": number})
    return first[:-1] + ", " + json.dumps(finite(dict(told)), sort_keys=True)[1:] + "\n"
