"""What a person sees while a run goes on: bars with ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from raysubset.schedule import Phase
from raysubset.strategies.selection import Selection


class Screen:
    """A watch that draws: one bar for the run, one for the stage at hand, one line per round."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        """Draw on this console; a quiet screen has no line per round."""
        self.console, self.quiet = console, quiet
        self.bars: Progress | None = None
        self._run_bar: Any = None
        self._stage_bar: Any = None
        self._stage = ""
        self._name = ""
        self._began = time.monotonic()
        self._first_visits: int | None = None

    @contextmanager
    def showing(self, name: str) -> Generator[Screen]:
        """Draw one run, under its name."""
        self._name, self._began, self._first_visits = name, time.monotonic(), None
        if not self.console.is_terminal:
            yield self
            return
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as self.bars:
            self._run_bar = self.bars.add_task(name, total=None)
            self._stage_bar = self.bars.add_task("starting", total=None)
            yield self
        self.bars = None

    def round_started(self, phase: Phase, rounds: int) -> None:
        """A round begins."""
        if self._first_visits is None:
            # The clock starts here: process start is not what the rest will take.
            self._first_visits, self._began = phase.visits_before, time.monotonic()
        if self.bars is not None:
            self.bars.update(
                self._run_bar,
                description=f"{self._name} round {phase.round} of 0-{rounds - 1}",
                total=phase.total_visits,
                completed=phase.visits_before,
            )

    def progress(self, stage: str, done: int, of: int) -> None:
        """A stage has come this far."""
        if self.bars is None:
            return
        if stage != self._stage:
            self.bars.reset(self._stage_bar)
            self._stage = stage
        self.bars.update(self._stage_bar, description=f"  {stage}", total=of, completed=done)

    def round_done(self, phase: Phase, selection: Selection, metrics: Mapping[str, Any]) -> None:
        """A round ended: one line."""
        self._stage = ""
        if self.bars is not None:
            self.bars.update(self._run_bar, completed=phase.visits_before + phase.visits)
        if not self.quiet:
            self.console.print(self._line(phase, metrics), highlight=False, soft_wrap=True)

    def _line(self, phase: Phase, metrics: Mapping[str, Any]) -> str:
        first, last = phase.epochs.start, phase.epochs.stop - 1
        parts = [
            f"{self._name} round {phase.round}: {phase.budget:,} ids by {phase.strategy}, "
            f"epochs {first}-{last}"
        ]
        if metrics.get("examples_scored"):
            known = metrics.get("examples_remembered")
            parts.append(
                f"scored {metrics['examples_scored']:,.0f} in {metrics['seconds_scoring']:.1f} s"
                + (f" ({known:,.0f} by kept embeddings)" if known else "")
            )
            parts.append(f"greedy {metrics['seconds_greedy']:.1f} s")
        if left_out := metrics.get("ids_left_out"):
            parts.append(f"left out {len(left_out):,} rows (NaN or infinity from the model)")
        if "share_of_optimum" in metrics and metrics["share_of_optimum"] > 0:
            parts.append(f"at least {100 * metrics['share_of_optimum']:.0f} % of the best possible")
        parts.append(f"trained in {metrics['seconds_training']:.1f} s")
        parts.append(f"validation {100 * metrics['validation_accuracy']:.1f} %")
        return " · ".join(parts) + self._eta(phase)

    def _eta(self, phase: Phase) -> str:
        done = phase.visits_before + phase.visits
        left, fresh = phase.total_visits - done, done - (self._first_visits or 0)
        if self.bars is not None or not left or fresh <= 0:
            return ""
        seconds = (time.monotonic() - self._began) / fresh * left
        return f" · ETA {seconds:.0f} s"
