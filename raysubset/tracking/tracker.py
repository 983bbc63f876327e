"""A tracker: who is told of a run's rounds, and what there is to tell."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Ending = Literal["finished", "failed", "stopped"]
_PLACE = ("round", "epoch", "epochs", "visits", "fraction", "seed")
_TOPICS = ("validation", "tuning", "seconds")
_TOLD_BY_ROUND = ("validation_accuracy", "tuning_accuracy")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a tracked run is called and was asked for.

    Attributes:
        folder: the run folder.
        group: the frontier or comparison that it belongs to; None for a run alone.
        params: the config, flat: {"selection.fraction": 0.1}; without where it reports.
    """

    folder: Path
    group: str | None
    params: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, params: Mapping[str, Any]) -> Facts:
        """Return a run's facts; its place tells what it belongs to."""
        group = None
        if folder.parent.name == "trials":
            group = folder.parent.parent.name
        elif folder.name == params["selection.strategy"]:
            group = folder.parent.name  # of a comparison
        return cls(folder=folder, group=group, params=params)

    @property
    def name(self) -> str:
        """The run's name in a list of many."""
        return self.folder.name if self.group is None else f"{self.group}/{self.folder.name}"

    @property
    def tags(self) -> dict[str, str]:
        """What runs are searched and grouped by."""
        tags = {
            "folder": self.folder.name,
            "strategy": str(self.params["selection.strategy"]),
            "seed": str(self.params["seed"]),
        }
        return tags if self.group is None else {**tags, "group": self.group}


@dataclass(frozen=True, kw_only=True)
class Told:
    """A committed round.

    Attributes:
        number: of the round.
        points: (example visits so far, {"validation/accuracy": value}), in order of visits.
        time_s: when it was committed, in seconds since the epoch.
    """

    number: int
    points: Sequence[tuple[int, Mapping[str, float]]]
    time_s: float


class Tracker(Protocol):
    """Where a run's figures are shown; any of these may raise anything, or take for ever."""

    name: str

    def begin(self) -> int:
        """Attach, anew after a failure; return how many rounds it has already."""
        ...

    def round_done(self, told: Told) -> None:
        """A round was committed."""
        ...

    def caught_up(self) -> None:
        """It has been told of every round that there is."""
        ...

    def finished(self, result: Mapping[str, Any], visits: int, time_s: float) -> None:
        """The run gave this (result.json), after so many visits, at this time."""
        ...

    def close(self, ending: Ending) -> None:
        """The process lets go of the run."""
        ...


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a line of history.jsonl: {"validation/loss": 0.3, "seconds/greedy": 1}.

    A part or a stage is the topic of what it begins; the rest of a round is of the selection, and
    an epoch is of the training.
    """
    rest = "training" if line["kind"] == "epoch" else "selection"
    return _by_topic(line, _TOPICS, rest)


def outcome(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a result.json: "test/accuracy", "outcome/speed_up" and so on."""
    new = {key: value for key, value in result.items() if key not in _TOLD_BY_ROUND}
    return _by_topic(new, ("test",), "outcome")


def _by_topic(values: Mapping[str, Any], topics: Sequence[str], rest: str) -> dict[str, float]:
    named: dict[str, float] = {}
    for key, value in values.items():
        if key in _PLACE or isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        topic, _, what = key.partition("_")
        named[f"{topic}/{what}" if topic in topics and what else f"{rest}/{key}"] = float(value)
    return named


def rounds_after(folder: Path, offset: int) -> Generator[tuple[int, Told]]:
    """Yield the rounds of history.jsonl from a byte on, each with the byte where it ends.

    Lines after the last whole round are left for the next time.
    """
    path = folder / "history.jsonl"
    if not path.is_file():
        return
    points: list[tuple[int, Mapping[str, float]]] = []
    with open(path, "rb") as file:
        file.seek(offset)
        for text in file:
            offset += len(text)
            if not text.endswith(b"\n"):
                return
            line = json.loads(text)
            points.append((int(line["visits"]), figures(line)))
            if line["kind"] == "round":
                number = int(line["round"])
                time_s = time_of(folder / "rounds" / f"{number:04d}" / "MANIFEST.json")
                yield offset, Told(number=number, points=points, time_s=time_s)
                points = []


def time_of(path: Path) -> float:
    """Return when a file was written: the same at every telling, so that told twice is one."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
