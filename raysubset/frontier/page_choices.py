"""What every seed chose and what none did, for the page of a frontier: words, pictures, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raysubset.frontier.answer import Answer
from raysubset.frontier.findings import Findings, telling_first
from raysubset.frontier.page_tables import ids_table
from raysubset.frontier.sentences import row_title
from raysubset.frontier.stability import Stability
from raysubset.frontier.suspects import read_names
from raysubset.frontier.table import TrialRow
from raysubset.report.pictures import Picture, data_uri
from raysubset.report.wording import count, percent, percent_asked, printable

SHOWN_IDS = 24


def choices_of(
    folder: Path,
    rows: Sequence[TrialRow],
    answer: Answer,
    found: Findings,
    pictures: Mapping[int, Picture],
) -> list[dict[str, Any]]:
    """Return what every seed chose and what none did, of the cell that tells most."""
    cell = _telling_cell(answer, found.stability)
    if cell is None:
        return []
    trials = [r.trial for r in rows if (r.row, r.fraction) == (cell.row, cell.fraction)]
    at = f"{row_title(cell.row)} at {percent_asked(cell.fraction)}"
    told: list[dict[str, Any]] = []
    suspected = set(found.suspects.unanimous_ids) if found.suspects else set[int]()
    for title, ids in (("Chosen by every seed", cell.always), ("Chosen by no seed", cell.never)):
        shown = _spread(ids)
        named = read_names(folder, trials, shown)
        words = f"{at}: {count(len(ids))} of the {count(cell.shared)} ids that stood in every pool"
        words += f"; {len(shown)} of them, evenly over the ids" if len(ids) > SHOWN_IDS else ""
        words += _suspected_among(ids, found)
        captions = {
            i: (found.class_name(label), called(i, key) + ", suspected" * (i in suspected))
            for i, (label, key) in ((i, named[i]) for i in shown)
        }
        told.append(
            {
                "title": title,
                "words": words,
                "gallery": gallery_of(captions, pictures),
                "table": ids_table(shown, named, found.class_name) if shown else None,
            }
        )
    return told


def _suspected_among(ids: np.ndarray, found: Findings) -> str:
    """Return how many of these ids stay wrong in every seed: wrong labels, or hard examples."""
    if found.suspects is None:
        return "."
    among = int(np.isin(ids, found.suspects.unanimous_ids).sum())
    share = found.suspects.unanimous / max(1, found.suspects.judged)
    return (
        f". {count(among)} of the {count(len(ids))} are suspected label errors "
        f"({percent(among / max(1, len(ids)))}; {percent(share)} of all that were judged)."
    )


def _telling_cell(answer: Answer, found: Sequence[Stability]) -> Stability | None:
    """Return the first strategy's cell at its smallest sufficient fraction, else at the middle."""
    ordered = [s for s in telling_first(found) if s.seeds > 1]
    own = sorted((s for s in ordered if s.row == ordered[0].row), key=lambda s: s.fraction)
    if not own:
        return None
    within = answer.within.get(own[0].row)
    enough = [s for s in own if within is not None and s.fraction == within.fraction]
    return enough[0] if enough else own[(len(own) - 1) // 2]


def _spread(ids: np.ndarray) -> list[int]:
    at = np.linspace(0, len(ids) - 1, min(len(ids), SHOWN_IDS)).round().astype(int)
    return ids[at].tolist()


def called(id_: int, key: str | None) -> str:
    """Return how a caption calls a row: by the person's own name too, where there is one."""
    return f"id {id_}" if key is None else f"{printable(key, 40)}, id {id_}"


def gallery_of(
    captions: Mapping[int, tuple[str, str]], pictures: Mapping[int, Picture]
) -> list[tuple[str, str, str]]:
    """Return (address of the image, class, caption) for every id that has a picture."""
    return [
        (data_uri(pictures[id_]), printable(name, 30), caption)
        for id_, (name, caption) in captions.items()
        if id_ in pictures
    ]
