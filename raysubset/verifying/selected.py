"""A one-shot selection (`raysubset select`): its table, its file of ids and its record."""

from __future__ import annotations

from typing import Any

import numpy as np

from raysubset.answers import Format, write_ids
from raysubset.errors import RaySubsetError
from raysubset.files import SEAL, json_bytes, read_object, unsealed
from raysubset.records import read_table
from raysubset.scratch import scratch_folder
from raysubset.verifying.contents import compare
from raysubset.verifying.differences import Check, Run

SELECTION, TABLE = "selection.json", "selection.parquet"
_REMEDY = "select again into a new folder; the record names every input with its SHA-256"
_FORMATS: dict[str, Format] = {"ids.txt": "txt", "ids.csv": "csv", "ids.json": "json"}


def check_selection(run: Run) -> list[Check]:
    """Look at everything in the folder of a selection."""
    record = Check(name="record", remedy=_REMEDY)
    told = _record(run, record)
    if told is None:
        return [record]
    files, whole = Check(name="files", remedy=_REMEDY), 0
    named: Any = told.get("files")
    named = named if isinstance(named, dict) else {}
    for name in (TABLE, *(n for n in _FORMATS if n in named)):
        digest = str(named.get(name))
        whole += compare(run, run.folder / name, digest, SELECTION, files)
    files.told = f"{whole} have the SHA-256 recorded"
    for path in sorted(run.folder.rglob("*")):
        name = path.relative_to(run.folder).as_posix()
        if not path.is_dir() and name not in {*named, SELECTION} and not name.startswith("."):
            files.differs(name, f"is not named by {SELECTION}")
    choices = Check(name="choices", remedy=_REMEDY)
    if TABLE not in files.damaged:
        _check_table(run, told, choices)
    gains = Check(name="gains")
    gains.unchecked.append("not recomputed for a one-shot selection; select again and compare")
    return [record, files, choices, gains]


def _record(run: Run, check: Check) -> dict[str, Any] | None:
    """Return the record, if it is what its own seal says."""
    path = run.folder / SELECTION
    told = read_object(path)
    if told is None:
        check.differs(SELECTION, "is no JSON: it was cut or damaged")
        return None
    if SEAL not in told:
        check.unchecked.append(f"{SELECTION}: an older version's, without a seal of its own")
        return told
    try:
        unsealed(told)
        whole = json_bytes(told) == path.read_bytes()
    except (ValueError, OSError, RecursionError):
        whole = False
    if not whole:
        check.differs(SELECTION, "is not what its own SHA-256 says: it was edited or damaged")
        return None
    check.told = "as its own SHA-256 says"
    return told


def _check_table(run: Run, told: dict[str, Any], check: Check) -> None:
    try:
        table = read_table(run.folder / TABLE)
    except RaySubsetError as error:
        check.differs(TABLE, f"cannot be read: {error}")
        return
    ids, gains = table["id"].to_numpy(), table["gain"].to_numpy()
    result: Any = told.get("result")
    budget = result.get("budget") if isinstance(result, dict) else None
    if len(ids) != budget:
        check.differs(TABLE, "holds another number of ids than the record", budget, len(ids))
    if len(np.unique(ids)) != len(ids):
        check.differs(TABLE, "chooses an id twice")
    if not (np.isfinite(gains).all() or np.isnan(gains).all()):
        check.differs(TABLE, "has gains that are not finite")
    if not np.isfinite(table["weight"].to_numpy()).all():
        check.differs(TABLE, "has weights that are not finite")
    _check_ids(run, table, check)
    check.told = f"{len(ids):,} ids, each once, and the same in the file of ids"


def _check_ids(run: Run, table: Any, check: Check) -> None:
    """Write the file of ids once more, elsewhere, and compare."""
    for name, format_ in _FORMATS.items():
        path = run.folder / name
        if not path.is_file():
            continue
        with scratch_folder() as folder:
            again = write_ids(folder / name, table, format_)
            if again.read_bytes() != path.read_bytes():
                check.differs(name, f"holds other ids than {TABLE}")
