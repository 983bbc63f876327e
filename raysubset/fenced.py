"""A watch that ends a run as soon as it is known that another process took its folder over.

Without it, a long round would be trained to its end, only to be refused at its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysubset.engine import Watch
from raysubset.schedule import Phase
from raysubset.storage import staging
from raysubset.strategies.selection import Selection


class Fenced:
    """Looks before it passes on what a run tells; it asks nobody, the owner's heartbeat does."""

    def __init__(self, watch: Watch, folder: Path) -> None:
        """Tell a watch, for as long as a run folder is this process's."""
        self._watch, self._folder = watch, folder

    def progress(self, stage: str, done: int, of: int) -> None:
        """Pass it on; raise `RunFolderError` where the folder is another's."""
        staging.refuse_lost(self._folder)
        self._watch.progress(stage, done, of)

    def round_started(self, phase: Phase, rounds: int) -> None:
        """Pass it on; raise `RunFolderError` where the folder is another's."""
        staging.refuse_lost(self._folder)
        self._watch.round_started(phase, rounds)

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """Pass it on: the round is committed by its own rules."""
        self._watch.round_done(phase, selection, metrics)
