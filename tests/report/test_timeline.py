"""The timeline shows the seconds that were recorded, where they were spent."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from raysubset.records import read_history
from raysubset.report.record import read_run
from raysubset.report.run_report import write_report
from raysubset.report.timeline_chart import axis_of, stages_table, timeline_chart
from raysubset.timeline import BESIDE, KEY, STAGES, Timeline, timeline_of
from tests.report.conftest import Runs


def rounds_of(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_history(run) if line["kind"] == "round"]


def told(run: Path) -> Timeline:
    timeline = timeline_of(rounds_of(run))
    assert timeline is not None
    return timeline


def rewrite(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change every line of a run's history."""
    lines = [json.dumps(change(line)) + "\n" for line in read_history(run)]
    (run / "history.jsonl").write_text("".join(lines))


def resumed_after(gap_s: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a change that makes another process of the rounds from 2 on."""

    def change(line: dict[str, Any]) -> dict[str, Any]:
        if line["kind"] == "epoch" or line["round"] < 2:
            return line
        return {**line, KEY: {**line[KEY], "since": line[KEY]["since"] + gap_s}}

    return change


def test_the_bars_of_a_stage_sum_to_its_recorded_seconds(runs: Runs):
    for folder in runs.folders.values():
        bars, rounds = told(folder).bars, rounds_of(folder)
        for stage in STAGES:
            recorded = sum(line.get(f"seconds_{stage}") or 0.0 for line in rounds)
            drawn = sum(bar.seconds for bar in bars if bar.stage == stage)
            # Offsets of seconds hold 1e-12; a sum of a few dozen of them is far within 1e-9.
            assert drawn == pytest.approx(recorded, abs=1e-9), stage


def test_no_bar_ends_before_it_begins_and_stages_that_exclude_each_other_never_meet(runs: Runs):
    for folder in runs.folders.values():
        bars = [bar for bar in told(folder).bars if bar.stage not in BESIDE]
        assert all(bar.end_s >= bar.begin_s >= 0 for bar in told(folder).bars)
        for stage in STAGES:
            own = sorted(b.begin_s for b in bars if b.stage == stage)
            assert own == [b.begin_s for b in bars if b.stage == stage]
        # A round's checkpoint is waited for in the next round, between two of its stages.
        ordered = sorted(bars, key=lambda bar: (bar.begin_s, bar.end_s))
        for bar, later in pairwise(ordered):
            assert later.begin_s >= bar.end_s - 1e-9, (bar, later)


def test_a_resumed_runs_gap_is_as_long_as_it_was_and_takes_no_bar(glister_run: Path):
    before = told(glister_run)
    rewrite(glister_run, resumed_after(3600.0))
    after = told(glister_run)
    assert not before.gaps_s
    [(begin, end)] = after.gaps_s
    assert 3600 - 60 < end - begin <= 3600
    assert not [b for b in after.bars if b.begin_s < end and b.end_s > begin]
    assert [b.seconds for b in after.bars] == pytest.approx([b.seconds for b in before.bars])


def test_on_paper_time_only_moves_on_and_work_keeps_its_length(glister_run: Path):
    rewrite(glister_run, resumed_after(3600.0))
    timeline = told(glister_run)
    axis = axis_of(timeline)
    for bar in timeline.bars:
        drawn = axis.drawn(bar.end_s) - axis.drawn(bar.begin_s)
        assert drawn == pytest.approx(bar.seconds, abs=1e-9)
    edges = sorted(edge for bar in timeline.bars for edge in (bar.begin_s, bar.end_s))
    drawn = [axis.drawn(edge) for edge in edges]
    assert drawn == sorted(drawn)
    [(begin, end)] = timeline.gaps_s
    assert 0 < axis.drawn(end) - axis.drawn(begin) < 1  # of an hour
    assert not [tick for tick in axis.ticks(1.0) if begin < tick < end]


def test_the_report_shows_the_stages_and_says_that_the_run_was_stopped(glister_run: Path):
    rewrite(glister_run, resumed_after(3600.0))
    write_report(glister_run)
    page, text = (glister_run / "report.html").read_text(), (glister_run / "report.md").read_text()
    drawn = (glister_run / "plots" / "timeline.svg").read_text()
    for row in ("scoring", "hand-over", "greedy", "training", "evaluation"):
        assert row in drawn
        assert row in page
        assert f"| {row} |" in text
    assert "stopped for " in drawn
    assert "stopped and resumed" in text


def test_an_older_run_without_a_timeline_is_reported_without_one(glister_run: Path):
    rewrite(glister_run, lambda line: {k: v for k, v in line.items() if k != KEY})
    write_report(glister_run)
    record = read_run(glister_run)
    assert timeline_chart(record) is None
    assert stages_table(record) is None
    assert "When each stage ran" not in (glister_run / "report.html").read_text()
    assert not (glister_run / "plots" / "timeline.svg").exists()


def test_a_run_of_which_only_later_rounds_know_their_times_shows_those(glister_run: Path):
    rewrite(
        glister_run,
        lambda line: {k: v for k, v in line.items() if k != KEY or line["round"] > 0},
    )
    assert {bar.round for bar in told(glister_run).bars} == {1, 2}
    write_report(glister_run)
