"""What a reader of a tracked run sees: its events; and a tracker that keeps a diary."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from raysubset.records import read_history
from raysubset.tracking import follower
from raysubset.tracking.tracker import Ending, Facts, Told

Figures = dict[tuple[str, int], list[float]]


def untroubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test a process that no tracker has troubled yet, and no wait for the disk."""
    monkeypatch.setattr(follower, "_hanging", [])
    monkeypatch.setattr(follower, "_in_trouble", set())
    monkeypatch.setattr(follower, "_complained", set())
    monkeypatch.setattr(os, "fsync", lambda _: None)


def events(run: Path) -> list[Any]:
    """Return every event of a run's files, in the order in which TensorBoard reads them."""
    found: list[Any] = []
    for path in sorted((run / "tensorboard").glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (size,), (crc,) = struct.unpack("<Q", content[:8]), struct.unpack("<I", content[8:12])
            assert crc == masked_crc32c(content[:8])
            data, end = content[12 : 12 + size], 12 + size
            assert struct.unpack("<I", content[end : end + 4]) == (masked_crc32c(data),)
            found.append(event_pb2.Event.FromString(data))
            content = content[end + 4 :]
    return found


def scalars(run: Path) -> Figures:
    """Return {(tag, visits): values}; a figure written twice has two."""
    seen: Figures = {}
    for event in events(run):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                seen.setdefault((value.tag, event.step), []).append(value.simple_value)
    return seen


def texts(run: Path) -> dict[str, str]:
    """Return {tag: text} of a run's files."""
    return {
        value.tag.removesuffix("/text_summary"): value.tensor.string_val[0].decode()
        for event in events(run)
        for value in event.summary.value
        if value.HasField("tensor")
    }


def told_by_history(run: Path) -> Figures:
    """Return what the files must hold before the test part: the slow twin of `figures`."""
    seen: Figures = {}
    for line in read_history(run):
        for name, value in line.items():
            if name in ("kind", "round", "epoch", "epochs", "visits", "strategy") or value is None:
                continue
            if isinstance(value, dict):  # the timeline: no figure
                continue
            for topic in ("validation", "tuning", "seconds"):
                if name.startswith(topic + "_"):
                    tag = f"{topic}/{name[len(topic) + 1 :]}"
                    break
            else:
                tag = ("training/" if line["kind"] == "epoch" else "selection/") + name
            seen.setdefault((tag, line["visits"]), []).append(float32(value))
    return seen


def float32(value: float) -> float:
    """Return the nearest float32: what an event file can hold."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


class Diary:
    """A tracker that writes down what it is told, and fails or hangs where it is asked to."""

    name = "diary"

    def __init__(self, facts: Facts | None = None, has: int = 0) -> None:
        self.facts, self.has = facts, has
        self.began, self.rounds, self.results = 0, list[int](), list[Mapping[str, Any]]()
        self.endings: list[Ending] = []

    def begin(self) -> int:
        self.began += 1
        return self.has

    def round_done(self, told: Told) -> None:
        self.rounds.append(told.number)
        self.has = told.number + 1

    def caught_up(self) -> None:
        pass

    def finished(self, result: Mapping[str, Any], visits: int, time_s: float) -> None:
        self.results.append(result)

    def close(self, ending: Ending) -> None:
        self.endings.append(ending)
