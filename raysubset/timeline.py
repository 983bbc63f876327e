"""The timeline: when each stage of a round ran, as history.jsonl keeps it and a report draws it.

Within one process offsets are monotonic; between processes (a resumed run) only the wall clock
tells how far they are apart, so every round also says when its process opened the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEY = "seconds_timeline"
STAGES = (
    "scoring",
    "handover",
    "greedy",
    "training",
    "evaluation",
    "selection_beside",
    "checkpoint_write",
    "checkpoint_wait",
)
"""In the order of a round; `checkpoint_write` runs beside the next round's first stages."""
BESIDE = ("checkpoint_write", "selection_beside")
"""What runs beside other stages, and is in no sum of what was waited for."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The clock of one process's work on a run.

    Attributes:
        since_s: when it started, in seconds since the epoch.
        zero_s: the same moment on the monotonic clock.
    """

    since_s: float
    zero_s: float

    @classmethod
    def start(cls) -> Clock:
        """Return a clock that starts now."""
        return cls(since_s=time.time(), zero_s=time.perf_counter())

    def at(self, moment_s: float) -> float:
        """Return a moment of `time.perf_counter` as an offset of this clock."""
        return moment_s - self.zero_s


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A stage of a round, in seconds since the run's first stage began.

    Attributes:
        round: its number.
        stage: one of STAGES.
        begin_s: when it began.
        end_s: when it ended.
    """

    round: int
    stage: str
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All rounds of a run.

    Attributes:
        bars: in the order of the history.
        gaps_s: (begin, end) of the times in which no process worked on the run.
    """

    bars: tuple[Bar, ...]
    gaps_s: tuple[tuple[float, float], ...]


def spans_of(
    clock: Clock, select: tuple[float, float], fit: tuple[float, float], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a round's line of history.jsonl keeps under `KEY`.

    Scorers and ranks have clocks of their own and tell durations: inside a selection, scoring is
    drawn from its start and greedy to its end; inside a fit, evaluation to its end and training
    before it. What is left between them is hand-over, as in `seconds_handover`. Between the
    two, the round waits until the one before it is committed.

    Args:
        clock: of this process.
        select: (begin, end) of the selection by `time.perf_counter`.
        fit: (begin, end) of training and evaluation.
        metrics: the seconds by stage of both.
    """
    scoring, greedy, evaluation, training = (
        float(metrics.get(f"seconds_{stage}") or 0.0)
        for stage in ("scoring", "greedy", "evaluation", "training")
    )
    begin, end = (clock.at(moment) for moment in select)
    start, stop = (clock.at(moment) for moment in fit)
    selecting = float(metrics.get("seconds_handover") or 0.0)
    waited = float(metrics.get("seconds_checkpoint_wait") or 0.0)
    around_fit = min(selecting, max(0.0, stop - start - training - evaluation))
    # A round that was resumed tells of seconds that another process spent: drawn is this one's.
    scored, given = begin + scoring, begin + scoring + selecting - around_fit
    spans = [
        ("scoring", begin, min(end, scored)),
        ("handover", min(end, scored), min(end, given)),
        ("greedy", max(begin, end - greedy), end),
        ("checkpoint_wait", start - waited, start),
        ("handover", start, start + around_fit),
        ("training", max(start, stop - evaluation - training), stop - evaluation),
        ("evaluation", stop - evaluation, stop),
    ]
    return {"since": clock.since_s, "spans": [[s, a, b] for s, a, b in spans if b > a]}


def with_selection(
    told: Mapping[str, Any], *, made: tuple[float, float], waited: tuple[float, float]
) -> dict[str, Any]:
    """Return a round's spans with the next round's selection, made beside its last epoch.

    Args:
        told: what `spans_of` returned.
        made: (begin, end) of the selection, as offsets of the same clock.
        waited: (begin, end) of the wait for it, once the round was trained and evaluated.
    """
    spans = [["handover", *waited], ["selection_beside", *made]]
    return {**told, "spans": [*told["spans"], *spans]}


def with_checkpoint(told: Mapping[str, Any], *, write_s: float) -> dict[str, Any]:
    """Return a round's spans with its checkpoint, written from the end of the fit on.

    Args:
        told: what `spans_of` returned.
        write_s: how long writing took, beside the rest.
    """
    spans = [list(span) for span in told["spans"]]
    fit = [span for span in spans if span[0] in ("training", "evaluation")]
    begin = max((span[2] for span in fit or spans), default=0.0)
    written = ["checkpoint_write", begin, begin + write_s]
    return {**told, "spans": [*spans, written]}


def timeline_of(rounds: Iterable[Mapping[str, Any]]) -> Timeline | None:
    """Return the timeline of a history's rounds; None where no round recorded one.

    Rounds without one (of an older version) are left out.
    """
    told = [(int(line["round"]), line[KEY]) for line in rounds if _is_told(line.get(KEY))]
    if not told:
        return None
    since = min(each["since"] for _, each in told)
    # Small numbers first: seconds since the epoch hold no more than a quarter of a microsecond.
    began = [(each["since"] - since) + span[1] for _, each in told for span in each["spans"]]
    first = min(began, default=0.0)
    bars = tuple(
        Bar(round=number, stage=stage, begin_s=shift + begin, end_s=shift + end)
        for number, each in told
        for shift in ((each["since"] - since) - first,)
        for stage, begin, end in each["spans"]
        if stage in STAGES
    )
    starts = sorted({(each["since"] - since) - first for _, each in told})
    return Timeline(bars=bars, gaps_s=tuple(_gaps(bars, starts)))


def _gaps(bars: Iterable[Bar], starts: list[float]) -> list[tuple[float, float]]:
    """Return the time before each later process's start in which nothing ran any more.

    A machine whose clock was set back meanwhile has none: the wall clock is all there is.
    """
    spans = [(bar.begin_s, bar.end_s) for bar in bars]
    gaps: list[tuple[float, float]] = []
    for start in starts[1:]:
        before = max((end for begin, end in spans if begin < start), default=start)
        if before < start:
            gaps.append((before, start))
    return gaps


def _is_told(value: Any) -> bool:
    return isinstance(value, Mapping) and "since" in value and isinstance(value.get("spans"), list)
