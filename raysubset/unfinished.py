"""The round in progress: what was chosen for it stands on disk before it trains on it.

A run that ends in the middle of a round goes on with exactly this choice, and from the last of its
epochs that `learn.partial` kept. All of it lies in rounds/0007/partial and is gone once the round
is committed. With `selection.overlap` the choice is made before the round before is committed, so
it stands in that round's folder, rounds/0006/ahead, and its manifest names it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raysubset.errors import RunFolderError
from raysubset.faultpoints import reach
from raysubset.files import sealed, unsealed, write_json
from raysubset.learn.checkpoint import file_hash
from raysubset.learn.partial import BEGUN, Open
from raysubset.records import read_selection, write_selection
from raysubset.schedule import Phase
from raysubset.storage import staging
from raysubset.strategies.selection import Selection

logger = logging.getLogger(__name__)
ROUND, SELECTION = BEGUN
PARTIAL, AHEAD = "partial", "ahead"
"""What a round was begun with; in the round before, what it is to be begun with."""


def begin_round(
    folder: Path, selection: Selection, phase: Phase, link: Mapping[str, Any], every_s: float
) -> Open:
    """Write what a round is begun with; what is kept of the same beginning stays.

    Args:
        folder: rounds/0007/partial.
        selection: the choice.
        phase: the plan.
        link: what ties the round to its run: round, parent, data.
        every_s: see `Open`.
    """
    if read_begun(folder, link) is None:
        write_choice(folder, selection, phase, link)
    return Open(folder=str(folder), key=file_hash(folder / ROUND), every_s=every_s)


def write_choice(folder: Path, selection: Selection, phase: Phase, link: Mapping[str, Any]) -> None:
    """Write a choice that a phase is to be begun with; whatever stood in the folder goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_selection(folder / SELECTION, selection, phase)
    reach("choice.half")
    told = {
        **link,
        "selection": file_hash(folder / SELECTION),
        "num_pool": selection.num_pool,
        "num_classes": selection.num_classes,
        "fraction": selection.fraction,
        "weighted": selection.weights is not None,
        # Pairs, because the order of names is part of what the history shows.
        "facts": [[name, value] for name, value in selection.facts.items()],
        "left_out": selection.left_out.tolist(),
    }
    write_json(folder / ROUND, sealed(told))


def read_begun(folder: Path, link: Mapping[str, Any]) -> Selection | None:
    """Return the choice of a round that was begun; None where there is none, or not of this run."""
    if not (folder / ROUND).is_file():
        return None
    try:
        told = unsealed(json.loads((folder / ROUND).read_bytes()))
        if any(told[key] != link[key] for key in link):
            logger.warning("%s was begun after another round; it is chosen for again", folder)
            return None
        if file_hash(folder / SELECTION) != told["selection"]:
            raise ValueError(f"{SELECTION} is not what was recorded")
        return _selection(folder, told)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RunFolderError) as error:
        logger.warning("%s is of no use (%s); the round is chosen for again", folder, error)
        return None


def _selection(folder: Path, told: Mapping[str, Any]) -> Selection:
    selection = read_selection(
        folder / SELECTION,
        num_pool=told["num_pool"],
        num_classes=told["num_classes"],
        round_=told["round"],
    )
    # A fact that was no number (JSON has none such) comes back as one that is none.
    facts = {name: float("nan") if v is None else v for name, v in told["facts"]}
    left_out = np.array(told["left_out"], dtype=np.int64)
    selection = replace(selection, fraction=told["fraction"], facts=facts, left_out=left_out)
    if told["weighted"] and selection.weights is None:
        weights = selection.gains.copy()
        weights[:] = 1
        return replace(selection, weights=weights)
    return selection if told["weighted"] else replace(selection, weights=None)


def forget_round(folder: Path, *, but_partial: bool) -> None:
    """Drop what was not committed of a round, or all of it but what it can go on with."""
    staging.drop(folder, but=PARTIAL if but_partial else "")
    if not but_partial or not (folder / PARTIAL).is_dir():
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        if path.name == PARTIAL:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
