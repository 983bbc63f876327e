"""What the run folders of a frontier tell beside its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from raysubset.frontier.stability import ClassChange, Stability, class_changes, stability_of
from raysubset.frontier.suspects import Suspects, suspects_of
from raysubset.frontier.table import TrialRow
from raysubset.frontier.trial import TRIALS
from raysubset.report.record import RunRecord, read_run

_Found = TypeVar("_Found", Stability, ClassChange)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the run folders tell beside the answer.

    Attributes:
        record: a typical trial, for names, parts and environment; None before one is finished.
        stability: what seeds agree on, per strategy and fraction.
        changes: accuracy by class against full.
        suspects: ids that stay wrong; None where no trial saw the whole pool.
    """

    record: RunRecord | None
    stability: list[Stability]
    changes: list[ClassChange]
    suspects: Suspects | None

    @property
    def classes(self) -> list[str]:
        """The class names, as the data spells them: not to be trusted."""
        return self.record.classes if self.record else []

    def class_name(self, label: int) -> str:
        """Return the name of a class, or its number where it has none."""
        return self.record.class_name(label) if self.record else str(label)


def findings_of(folder: Path, rows: Sequence[TrialRow]) -> Findings:
    """Return what the finished trials tell.

    Raises:
        RunFolderError: a trial's folder that cannot be read, by name.
    """
    typical = next((row for row in rows if row.role == "strategy"), rows[0] if rows else None)
    record = read_run(folder / TRIALS / typical.trial) if typical else None
    return Findings(
        record=record,
        stability=stability_of(folder, rows, len(record.classes) if record else 0),
        changes=class_changes(rows),
        suspects=suspects_of(folder, rows),
    )


def telling_first(found: Sequence[_Found]) -> list[_Found]:
    """Return what random chose last: it says what chance does."""
    return sorted(found, key=lambda one: one.row == "random")
