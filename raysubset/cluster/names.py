"""Names that read like prose: what the dashboard, the logs and the metrics call a run's parts.

Actors get a `__repr__`, which Ray shows in its place and puts before their log lines; a Ray *name*
would have to be unique in its namespace, and two jobs with equal folders would collide.
"""

from __future__ import annotations

import re

from raysubset.learn.scoring import RowRange

LONGEST = 60
BESIDE = ":beside"


def run_id(folder: str) -> str:
    """Return the short name of a run: the last part of its folder or URI, never a secret.

    User info and query of a URI are left out: either may hold a key.
    """
    _, is_uri, place = folder.partition("://")
    if is_uri:
        host, slash, path = re.split(r"[?#]", place)[0].partition("/")
        place = host.rpartition("@")[2] + slash + path
    else:
        place = folder
    return place.rstrip("/").rpartition("/")[2][:LONGEST] or "run"


def train_name(run: str) -> str:
    """Return a run's name as Ray Train may have it: it makes a folder of it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run)


def round_stage(stage: str, round_: int) -> str:
    """Return "score:round-7"."""
    return f"{stage}:round-{round_}"


def score_task(stage: str, rows: RowRange) -> str:
    """Return "score:round-7:rows-4096-8191"; a part that is not the pool is named.

    The numbers are the first and the last id, which are all between them but for dropped rows.
    """
    part = "" if rows.part == "pool" else f"{rows.part}-"
    return f"{stage}:{part}rows-{rows.ids[0]}-{rows.ids[-1]}"


def weights_of(version: str) -> dict[str, str | int]:
    """Return which run's which round scores with weights of this version, as far as it says.

    A run's version is "FOLDER:6", the round that made them, and "FOLDER:6:beside" those at the
    start of its last epoch; others name no round.
    """
    run, _, round_ = version.removesuffix(BESIDE).rpartition(":")
    return {"run": run_id(run), "round": int(round_) + 1} if round_.isdecimal() else {"run": run}
