"""A driver: the process of `raysubset run`, started, looked at, and started again with --resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
NOTHING: Mapping[str, str] = {}
BEGUN = "experiment.yaml"
ANNOUNCED = "run folder: "
"""What a run prints before it owns the signals; an earlier one ends it as it does any program."""


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """How far a run is, by what stands in its folder.

    Attributes:
        rounds: that are committed.
        epochs: of the next one that are kept.
    """

    rounds: int = 0
    epochs: int = 0

    def __str__(self) -> str:
        return f"round {self.rounds} after {self.epochs} epochs"


def place_of(folder: Path) -> Place:
    """Return how far a run is."""
    rounds = len(list(folder.glob("rounds/*/MANIFEST.json")))
    try:
        told = json.loads((folder / f"rounds/{rounds:04d}/partial/MANIFEST.json").read_bytes())
        return Place(rounds=rounds, epochs=told["epochs"])
    except (OSError, ValueError, KeyError):  # there is none, or it was committed meanwhile
        return Place(rounds=rounds)


class Driver:
    """One process after the other, for one run folder."""

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """Start none yet.

        Args:
            words: the options of `raysubset run`, but for the folder.
            folder: of the run; the log lies beside it, and so do the temporary folders.
            environment: of the process, beside this one's own without its Ray.
        """
        self.words, self.folder, self.environment = list(words), folder, dict(environment)
        self.log = folder.with_suffix(".log")
        self.begin = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        """Return the command without --resume."""
        start = [sys.executable, "-m", "raysubset.cli", "run"]
        return [*start, *self.words, "--run-dir", str(self.folder)]

    @property
    def temporary(self) -> Path:
        """Return the folder for temporary files of all its processes."""
        return self.folder.with_suffix(".tmp")

    @property
    def pid(self) -> int:
        """Return the present process's id; 0 before the first."""
        return self.process.pid if self.process else 0

    def start(self, *, resume: bool, more: Mapping[str, str] = NOTHING) -> None:
        """Start the command, in a session of its own: Ctrl-C at a terminal is the soak's.

        A run that ended before its folder was begun has nothing to resume, and begins.

        Args:
            resume: with --resume.
            more: of this process's environment.
        """
        begun = (self.folder / BEGUN).is_file()
        self.temporary.mkdir(exist_ok=True)
        own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        with open(self.log, "ab") as log:
            self.begin = log.tell()
            self.process = subprocess.Popen(
                [*self.command, *["--resume"] * (resume and begun)],
                env=own | self.environment | {"TMPDIR": str(self.temporary), **more},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                start_new_session=True,
            )

    def ended(self) -> int | None:
        """Return the exit code of the present process; None while it runs."""
        return self.process.poll() if self.process else None

    def said(self) -> str:
        """Return what the present process printed."""
        with open(self.log, "rb") as log:
            log.seek(self.begin)
            return log.read().decode(errors="replace")

    def owns_signals(self) -> bool:
        """Return whether the present process is past what every program does at its start."""
        return ANNOUNCED in self.said()

    def last_words(self) -> str:
        """Return the error that the present process printed, or its last line."""
        lines = [line.strip() for line in self.said().splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or ["nothing"])[-1][:300]
