"""The count of a soak: a line per fault as it goes, and a table at the end."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.soaks.one_run import ON, RESUMED, Played, Struck
from jobs.soaks.plans import KINDS

Say = Callable[[str], object]
HEAD = f"{'fault':<20}{'survived':>9}{'by itself':>11}{'resumed':>9}{'median s':>10}{'most s':>8}"


@dataclass(kw_only=True)
class Tally:
    """What happened so far.

    Attributes:
        say: prints a line.
        until_s: of `time.monotonic()`, when the last fault is due.
        faults: that were overcome.
        runs: that ended and were compared.
        restarts: of drivers.
        wrong: (what, how to see it again) for each thing that was not as it should be.
    """

    say: Say
    until_s: float = math.inf
    faults: list[Struck] = field(default_factory=list)
    runs: int = 0
    restarts: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)

    def fault(self, struck: Struck, played: Played) -> None:
        """Tell a fault that was overcome."""
        self.faults.append(struck)
        plan = played.plan
        self.say(
            f"{time.strftime('%H:%M:%S')} run {plan.number} ({plan.sort.name}) {struck.kind}, "
            f"{struck.whom}, in {struck.place}: {struck.how} after {struck.after_s:.1f} s "
            f"{self._count()}"
        )

    def run(self, played: Played, differs: list[str], again: str) -> None:
        """Tell a run that ended, and what differs from the undisturbed one.

        Args:
            played: the run.
            differs: from the undisturbed run; [] for nothing.
            again: the command that plays the same faults once more.
        """
        self.runs += 1
        self.restarts += played.restarts
        found = [*played.complaints, *differs]
        self.wrong += [(f"run {played.plan.number}: {told}", again) for told in found]
        equal = "equal to the undisturbed run" if not found else "WRONG: " + "; ".join(found)
        self.say(
            f"{time.strftime('%H:%M:%S')} run {played.plan.number} ({played.plan.sort.name}): "
            f"{len(played.faults)} faults, {played.restarts} restarts, {equal} {self._count()}"
        )

    def table(self) -> str:
        """Return the faults by kind, and what the runs came to."""
        lines = [HEAD] + [self._row(kind) for kind in KINDS if self._of(kind)]
        lines.append(
            f"{len(self.faults)} faults survived, {self.restarts} restarts with --resume, "
            f"{self.runs} runs compared, {len(self.wrong)} differences"
        )
        for told, again in self.wrong:
            lines += [f"  {told}", f"    again: {again}"]
        return "\n".join(lines)

    def _row(self, kind: str) -> str:
        struck = self._of(kind)
        alone = sum(each.how == ON for each in struck)
        resumed = sum(each.how == RESUMED for each in struck)
        seconds = [each.after_s for each in struck]
        median, most = statistics.median(seconds), max(seconds)
        return f"{kind:<20}{len(struck):>9}{alone:>11}{resumed:>9}{median:>10.1f}{most:>8.1f}"

    def _of(self, kind: str) -> list[Struck]:
        return [each for each in self.faults if each.kind == kind]

    def _count(self) -> str:
        left_s = max(0.0, self.until_s - time.monotonic())
        left = "" if math.isinf(left_s) else f"; {left_s / 60:.1f} min left"
        return f"[{len(self.faults)} faults, {self.runs} runs{left}]"
