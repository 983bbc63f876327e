"""Categories that no pool row has: what a person should know of them before a run.

Letters: G categories of a column.
"""

from __future__ import annotations

import numpy as np

from raysubset.learn.columns import features_of
from raysubset.learn.data import Dataset
from raysubset.learn.parts import Parts
from raysubset.learn.sources.rows import shown

_HELD_OUT = ("validation", "tuning", "test")
_NAMED = 3


def untaught_notes(parts: Parts) -> tuple[str, ...]:
    """Return a sentence for each column with categories that held-out rows have and no pool row.

    Their features are 0 in the whole pool, so that no gradient reaches their weights.
    """
    places, notes = features_of(parts.pool.columns or ()), list[str]()
    for column in parts.pool.columns or ():
        if column.kind == "number":
            continue
        place = places[column.name]
        lacking_G = ~parts.pool.content[:, place].any(axis=0)
        for name in _HELD_OUT:
            part: Dataset | None = getattr(parts, name)
            if part is None:
                continue
            met_G = lacking_G & part.content[:, place].any(axis=0)
            if met_G.any():
                rows = int(part.content[:, place][:, met_G].any(axis=1).sum())
                values = [repr(column.categories[g]) for g in np.flatnonzero(met_G)]
                notes.append(
                    f"column {column.name!r}: {rows:,} of {part.num_examples:,} {name} rows hold "
                    f"categories that no pool row has, so nothing teaches them: "
                    f"{shown(values, _NAMED)}"
                )
    return tuple(notes)
