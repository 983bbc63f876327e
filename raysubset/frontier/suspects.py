"""Suspects: ids that stay wrong while they are trained on, so that a person may look at the label.

Letters: U ids of any seed, K ids of one.
"""

# pyarrow.compute makes its functions at import time, so its stubs lack them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysubset.chain import OBSERVATIONS
from raysubset.frontier.plan import FULL
from raysubset.frontier.stability import FloatArray, IntArray
from raysubset.frontier.table import TrialRow
from raysubset.frontier.trial import TRIALS
from raysubset.records import read_observations, read_table

SEE_ALL = (FULL, "full-compressed")
"""Rows that train on the whole pool, the better judge of a label first."""
MOST_SUSPECT = 24


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An id that stays wrong while it is trained on.

    Attributes:
        id: of the pool.
        key: the person's own name for it, or None.
        label: its class as the data says.
        margin: logit of its label minus the largest other, mean over visits and seeds (AUM).
        loss: cross-entropy at its last visit in nats, mean over seeds.
        agree: seeds in which its mean margin is negative.
        seen: seeds that trained on it.
    """

    id: int
    key: str | None
    label: int
    margin: float
    loss: float
    agree: int
    seen: int


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """The ids whose labels are worth a look.

    Attributes:
        row: whose trials were asked.
        seeds: how many of them.
        judged: ids that any of them trained on.
        unanimous_ids: of those, the ids with a negative mean margin in every seed that saw them,
            ascending.
        worst: the lowest sum of mean margins over seeds first.
    """

    row: str
    seeds: int
    judged: int
    unanimous_ids: tuple[int, ...]
    worst: tuple[Suspect, ...]

    @property
    def unanimous(self) -> int:
        """How many ids stay wrong in every seed that trained on them."""
        return len(self.unanimous_ids)


def suspects_of(folder: Path, rows: Sequence[TrialRow]) -> Suspects | None:
    """Return the ids that stay wrong in the trials that train on all; None where none did."""
    own = _judges(rows)
    told = [m for m in (_margins(folder, row.trial) for row in own) if m is not None]
    if not told:
        return None
    together = _together(told)
    order = np.lexsort((together.id_U, together.margin_U))[:MOST_SUSPECT]
    worst = order[together.margin_U[order] < 0]
    named = read_names(folder, [row.trial for row in own], together.id_U[worst].tolist())
    return Suspects(
        row=own[0].row,
        seeds=len(told),
        judged=len(together.id_U),
        unanimous_ids=tuple(together.id_U[together.agree_U == together.seen_U].tolist()),
        worst=tuple(_suspect(together, int(u), named) for u in worst),
    )


def read_names(
    folder: Path, trials: Sequence[str], ids: Sequence[int]
) -> dict[int, tuple[int, str | None]]:
    """Return id -> (label, key) of ids that stand in the pool of any of these trials."""
    import pyarrow as pa
    import pyarrow.compute as pc

    named: dict[int, tuple[int, str | None]] = {}
    for trial in trials:
        left = pa.array([i for i in ids if i not in named], pa.int64())
        if len(left):
            table = read_table(folder / TRIALS / trial / "parts.parquet")
            own = pc.and_(pc.equal(table["part"], "pool"), pc.is_in(table["id"], value_set=left))
            rows = table.filter(own).to_pylist()
            named |= {row["id"]: (row["label"], row["key"]) for row in rows}
    return named


def _judges(rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return one trial a seed that saw the whole pool, all of one row and fraction."""
    for name in SEE_ALL:
        own = [row for row in rows if row.row == name]
        if own:
            return [row for row in own if row.fraction == max(r.fraction for r in own)]
    return []


@dataclass(frozen=True, kw_only=True, eq=False)
class _Margins:
    """What training saw of ids: sums over as many seeds as `seen_U` says."""

    id_U: IntArray
    margin_U: FloatArray
    loss_U: FloatArray
    agree_U: IntArray
    seen_U: IntArray


def _margins(folder: Path, trial: str) -> _Margins | None:
    """Return the mean margins of the ids that a trial visited; None where it kept none."""
    path = folder / TRIALS / trial
    kept = sorted(path.glob(f"rounds/*/{OBSERVATIONS}"))
    if not kept:
        return None
    seen, parts = read_observations(kept[-1]), read_table(path / "parts.parquet")
    id_N = parts["id"].to_numpy()[np.array(parts["part"].to_pylist()) == "pool"]
    at = np.flatnonzero(seen.visits_N.numpy() > 0)
    margin_U = seen.margin_sum_N.numpy()[at] / seen.visits_N.numpy()[at]
    return _Margins(
        id_U=id_N[at].astype(np.int64),
        margin_U=margin_U.astype(np.float64),
        loss_U=seen.last_loss_N.numpy()[at].astype(np.float64),
        agree_U=(margin_U < 0).astype(np.int64),
        seen_U=np.ones(len(at), dtype=np.int64),
    )


def _together(told: Sequence[_Margins]) -> _Margins:
    """Return the sums over seeds."""
    id_U = functools.reduce(np.union1d, [m.id_U for m in told])
    margin_U, loss_U = np.zeros(len(id_U)), np.zeros(len(id_U))
    agree_U, seen_U = np.zeros(len(id_U), np.int64), np.zeros(len(id_U), np.int64)
    for one in told:
        at = np.searchsorted(id_U, one.id_U)
        margin_U[at] += one.margin_U
        loss_U[at] += one.loss_U
        agree_U[at] += one.agree_U
        seen_U[at] += one.seen_U
    return _Margins(id_U=id_U, margin_U=margin_U, loss_U=loss_U, agree_U=agree_U, seen_U=seen_U)


def _suspect(together: _Margins, u: int, named: Mapping[int, tuple[int, str | None]]) -> Suspect:
    id_, seen = int(together.id_U[u]), int(together.seen_U[u])
    label, key = named[id_]
    return Suspect(
        id=id_,
        key=key,
        label=label,
        margin=float(together.margin_U[u] / seen),
        loss=float(together.loss_U[u] / seen),
        agree=int(together.agree_U[u]),
        seen=seen,
    )
