"""The stage timeline of a run: a row per stage, a bar per round where it ran."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from raysubset.report.palette import LIGHT
from raysubset.report.record import RunRecord
from raysubset.report.svg import new_figure
from raysubset.report.table import Column, Table
from raysubset.report.wording import count, duration, percent
from raysubset.timeline import BESIDE, STAGES, Timeline, timeline_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = {
    "scoring": ("scoring", "orange"),
    "handover": ("hand-over", "grey"),
    "greedy": ("greedy", "vermillion"),
    "training": ("training", "blue"),
    "evaluation": ("evaluation", "green"),
    "selection_beside": ("the next selection, beside", "orange"),
    "checkpoint_write": ("checkpoint, beside the rest", "purple"),
    "checkpoint_wait": ("waiting for a checkpoint", "grey"),
}
"""Stage -> (what its row is called, colour)."""
_GAP_SHARE = 0.06  # a longer gap is drawn this wide: an hour's pause must not hide the rounds
_LABELS = 12
_TICKS = 7
_UNITS = ((1.0, "s", 180.0), (60.0, "min", 3 * 3600.0), (3600.0, "h", float("inf")))
_NICE = (1.0, 2.0, 5.0, 10.0)
_BAR = 0.62


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Time on paper: true seconds, but for gaps that are drawn shorter than they were.

    Attributes:
        cuts: (true begin, true end, drawn width) of each gap, in order.
        end_s: the true end.
    """

    cuts: tuple[tuple[float, float, float], ...]
    end_s: float

    def drawn(self, at_s: float) -> float:
        """Return where a moment lies on paper."""
        hidden = 0.0
        for begin, end, width in self.cuts:
            if at_s <= begin:
                break
            inside = min(at_s, end) - begin
            hidden += inside * (1 - width / (end - begin))
        return at_s - hidden

    def ticks(self, step_s: float) -> list[float]:
        """Return the true multiples of a step that lie in no gap."""
        found: list[float] = []
        edges = [0.0, *(edge for begin, end, _ in self.cuts for edge in (begin, end)), self.end_s]
        for begin, end in list(pairwise(edges))[::2]:
            first = -(-begin // step_s)
            found += [k * step_s for k in range(int(first), int(end // step_s) + 1)]
        return found


def axis_of(timeline: Timeline) -> Axis:
    """Return the time axis of a run; gaps wider than a share of its work are shortened."""
    end_s = max((bar.end_s for bar in timeline.bars), default=0.0)
    work_s = end_s - sum(end - begin for begin, end in timeline.gaps_s)
    widest = _GAP_SHARE * work_s
    cuts = tuple((a, b, min(b - a, widest)) for a, b in timeline.gaps_s)
    return Axis(cuts=cuts, end_s=end_s)


def timeline_chart(record: RunRecord) -> Figure | None:
    """Draw when each stage ran; None where no round recorded it."""
    timeline = timeline_of(record.rounds)
    if timeline is None or not timeline.bars:
        return None
    axis, totals = axis_of(timeline), _totals(timeline)
    shown = [stage for stage in STAGES if totals[stage] > 0]
    figure = new_figure(height=1.0 + 0.27 * len(shown))
    axes = figure.add_subplot()
    for row, stage in enumerate(shown):
        bars = [bar for bar in timeline.bars if bar.stage == stage]
        spans = [(axis.drawn(b.begin_s), axis.drawn(b.end_s) - axis.drawn(b.begin_s)) for b in bars]
        colour = LIGHT[ROWS[stage][1]]
        # The line keeps a bar visible that is thinner than a pixel.
        axes.broken_barh(
            spans, (row - _BAR / 2, _BAR), facecolors=colour, edgecolors=colour, linewidth=0.4
        )
    _draw_gaps(axes, axis, len(shown))
    _label_rows(axes, shown, totals)
    _label_time(axes, axis)
    _label_rounds(axes, axis, timeline)
    return figure


def stages_table(record: RunRecord) -> Table | None:
    """Return the seconds of each stage: all, their share, the longest round; None without any."""
    timeline = timeline_of(record.rounds)
    if timeline is None:
        return None
    totals = _totals(timeline)
    shown = [stage for stage in STAGES if totals[stage] > 0]
    whole = sum(seconds for stage, seconds in totals.items() if stage not in BESIDE)
    longest = {stage: _longest(timeline, stage) for stage in shown}
    shares = tuple(percent(totals[s] / whole, 0) if s not in BESIDE else "beside" for s in shown)
    return Table(
        columns=(
            Column(name="stage", cells=tuple(ROWS[s][0] for s in shown), words=True),
            Column(name="time", cells=tuple(duration(totals[s]) for s in shown)),
            Column(name="share", cells=shares),
            Column(name="longest", cells=tuple(duration(longest[s][1]) for s in shown)),
            Column(name="in round", cells=tuple(count(longest[s][0]) for s in shown)),
        ),
        notes=tuple(_gap_note(timeline)),
    )


def _gap_note(timeline: Timeline) -> list[str]:
    stopped = [duration(end - begin) for begin, end in timeline.gaps_s]
    return [f"The run was stopped and resumed; nothing ran for {', '.join(stopped)}."] * bool(
        stopped
    )


def _totals(timeline: Timeline) -> dict[str, float]:
    return {s: sum(b.seconds for b in timeline.bars if b.stage == s) for s in STAGES}


def _longest(timeline: Timeline, stage: str) -> tuple[int, float]:
    per_round: dict[int, float] = {}
    for bar in timeline.bars:
        if bar.stage == stage:
            per_round[bar.round] = per_round.get(bar.round, 0.0) + bar.seconds
    return max(per_round.items(), key=lambda item: item[1])


def _draw_gaps(axes: Axes, axis: Axis, rows: int) -> None:
    for begin, end, _ in axis.cuts:
        left, right = axis.drawn(begin), axis.drawn(end)
        axes.axvspan(left, right, color=LIGHT["line"], linewidth=0, zorder=0)
        axes.text(
            (left + right) / 2,
            (rows - 1) / 2,
            f"stopped for {duration(end - begin)}",
            rotation=90,
            ha="center",
            va="center",
            fontsize=7.5,
            color=LIGHT["muted"],
        )


def _label_rows(axes: Axes, shown: list[str], totals: dict[str, float]) -> None:
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), [ROWS[stage][0] for stage in shown])
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(shown)), [duration(totals[stage]) for stage in shown])
    for side in (axes, right):
        side.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    axes.spines["left"].set_visible(False)


def _label_time(axes: Axes, axis: Axis) -> None:
    paper = axis.drawn(axis.end_s)
    unit, name = next((unit, name) for unit, name, up_to in _UNITS if axis.end_s <= up_to)
    step = _step(paper / unit) * unit
    ticks = axis.ticks(step)
    axes.set_xlim(0, paper * 1.002)
    axes.set_xticks([axis.drawn(tick) for tick in ticks], [f"{tick / unit:g}" for tick in ticks])
    axes.set_xlabel(f"{name} since the first round began")
    axes.tick_params(axis="x", length=2.5)


def _label_rounds(axes: Axes, axis: Axis, timeline: Timeline) -> None:
    """Mark where rounds begin: at most a dozen by number, quiet lines through the rows."""
    starts: dict[int, float] = {}
    for bar in timeline.bars:
        starts[bar.round] = min(bar.begin_s, starts.get(bar.round, bar.begin_s))
    every = max(1, int(_step(len(starts), _LABELS)))
    told = [number for number in sorted(starts) if number % every == 0]
    at = [axis.drawn(starts[number]) for number in told]
    top = axes.secondary_xaxis("top")
    top.set_xticks(at, [str(number) for number in told])
    top.set_xlabel("round")
    top.tick_params(axis="x", length=2.5)
    top.spines["top"].set_visible(False)
    axes.vlines(at, -0.5, axes.get_ylim()[0], color=LIGHT["line"], linewidth=0.7, zorder=0)


def _step(span: float, most: int = _TICKS) -> float:
    """Return a step of 1, 2 or 5 times a power of ten that fits at most so often into a span."""
    step = 10.0**-6
    while True:
        for nice in _NICE:
            if span / (step * nice) <= most:
                return step * nice
        step *= 10
