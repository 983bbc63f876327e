"""Tracked: a run with everyone who follows it, from its first round to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysubset.errors import Stopped
from raysubset.tracking.event_files import EventFiles
from raysubset.tracking.follower import Follower
from raysubset.tracking.memory import Memory
from raysubset.tracking.mlflow_run import MlflowRun
from raysubset.tracking.settings import TrackingSettings
from raysubset.tracking.tracker import Ending, Facts, Tracker
from raysubset.tracking.wandb_run import WandbRun

LAST_WORD_S = {"finished": 10.0, "failed": 3.0, "stopped": 3.0}
"""How long a run waits at its end for trackers that do not answer."""


@contextmanager
def tracked(
    folder: Path, settings: TrackingSettings, params: Mapping[str, Any]
) -> Generator[Callable[[], None]]:
    """Give what is to be called after each committed round; it returns at once and never raises.

    Args:
        folder: the run folder, its ledger open.
        settings: who is told, besides the event files.
        params: the config, flat.
    """
    followers = [Follower(each, folder) for each in trackers_of(folder, settings, params)]

    def committed() -> None:
        for follower in followers:
            follower.wake()

    ending: Ending = "failed"
    try:
        yield committed
        ending = "finished"
    except (Stopped, KeyboardInterrupt):
        ending = "stopped"
        raise
    finally:
        deadline = time.monotonic() + LAST_WORD_S[ending]
        for follower in followers:
            follower.end(ending)
        for follower in followers:
            follower.join(max(0.0, deadline - time.monotonic()))


def trackers_of(
    folder: Path, settings: TrackingSettings, params: Mapping[str, Any]
) -> list[Tracker]:
    """Return who is told of this run; not again who has been told of it to its end."""
    facts, memory = Facts.of(folder, params), Memory(folder)
    trackers: list[Tracker] = [EventFiles(facts)]
    whole = (folder / "result.json").is_file()
    if (uri := settings.mlflow) is not None:
        where = {"uri": uri, "experiment": settings.mlflow_experiment}
        if not (whole and memory.of("mlflow", **where).get("finished")):
            trackers.append(MlflowRun(uri, settings.mlflow_experiment, facts, memory))
    if (project := settings.wandb) is not None:
        if not (whole and memory.of("wandb", project=project).get("finished")):
            trackers.append(WandbRun(project, facts, memory))
    return trackers
