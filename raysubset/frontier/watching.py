"""What a person sees while a frontier runs: a line per trial, with the time that is left."""

from __future__ import annotations

import json
import time

from rich.console import Console

from raysubset.frontier.overrides import brief
from raysubset.frontier.plan import Trial
from raysubset.frontier.sentences import row_title
from raysubset.frontier.sweep import Sweep
from raysubset.frontier.trial import trial_folder
from raysubset.frontier.tuning import stop_told
from raysubset.report.wording import duration, percent, percent_asked


class Teller:
    """Prints a line for each trial that ended."""

    def __init__(self, sweep: Sweep, console: Console, total: int | None) -> None:
        """Begin to count.

        Args:
            sweep: the frontier.
            console: where to print.
            total: trials that are left; None where nobody knows, in a search.
        """
        self.sweep, self.console = sweep, console
        self.total, self.done = total, 0
        self.began = time.monotonic()

    def told(self, trial: Trial, failure: str | None) -> None:
        """A trial ended; `failure` says why it has no result."""
        self.done += 1
        what = f"{row_title(trial.row)} {percent_asked(trial.fraction)} seed {trial.seed}"
        what += "".join(f", {field}={brief(v)}" for field, v in trial.overrides.items())
        gave = f"failed: {failure}" if failure else self._gave(trial)
        line = f"{self._place()} {what}: {gave}{self._eta()}"
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _gave(self, trial: Trial) -> str:
        stopped = stop_told(self.sweep.folder, trial)
        if stopped:
            return stopped
        path = trial_folder(self.sweep.folder, trial) / "result.json"
        result = json.loads(path.read_text(encoding="utf-8"))
        names = ("scoring", "greedy", "training", "other")
        seconds = sum(result[f"seconds_{name}"] or 0.0 for name in names)
        # A candidate is judged by the tuning part; its test accuracy is nobody's business yet.
        candidate = trial.overrides and trial.seed == self.sweep.base.seed
        part = "tuning" if candidate else "test"
        return f"{part} {percent(result[f'{part}_accuracy'])} in {duration(seconds)}"

    def _place(self) -> str:
        return str(self.done) if self.total is None else f"{self.done}/{max(self.total, self.done)}"

    def _eta(self) -> str:
        left = (self.total or 0) - self.done
        if left <= 0:
            return ""
        return f" · ETA {duration((time.monotonic() - self.began) / self.done * left)}"
