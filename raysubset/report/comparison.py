"""The report of a comparison: the verdict first, then every run beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysubset.engine import Outcome
from raysubset.errors import RunFolderError
from raysubset.report import comparison_plots as plots
from raysubset.report.pages import Chart, charts_of, write_pages
from raysubset.report.record import RunRecord, read_run
from raysubset.report.run_tables import environment_table, parts_table
from raysubset.report.svg import drawing
from raysubset.report.table import heading, rows_of
from raysubset.report.verdict import verdict
from raysubset.report.wording import count, printable
from raysubset.storage.staging import shown

_READINGS = {
    "test": "Lines are 95 % intervals (Wilson) for {test} test examples: where they overlap much, "
    "one comparison cannot tell the strategies apart. The spread over seeds comes on top.",
    "accuracy": "One mark per round. Left is cheaper, up is better. A strategy that chooses by the "
    "validation part is flattered by this curve: the test part decides.",
    "seconds": "Other is handing over weights, factors and ids, and waiting for checkpoints. "
    "Evaluation is not counted.",
}
"""How to read each chart."""


def write_comparison(folder: Path, runs: Sequence[Path]) -> None:
    """Write report.html, report.md and plots/*.svg of finished runs into the compare folder.

    Args:
        folder: where to write; it is made where it is missing.
        runs: run folders of the same data, the strategy first.

    Raises:
        RunFolderError: no run, a run that is not finished, or runs on different data.
    """
    records = [read_run(run) for run in runs]
    outcomes = _outcomes(records)
    first = records[0]
    with drawing():
        charts = _charts(records, outcomes, first.test_examples)
    view: dict[str, Any] = {
        "title": f"{printable(str(first.identity['name']), 60)}: strategies compared",
        "verdict": verdict(outcomes, first.test_examples),
        "heading": heading(first.experiment, first.identity, width=0),
        "table": rows_of(outcomes),
        "charts": charts,
        "parts": parts_table(first),
        "environment": environment_table(first),
        "config": first.experiment.to_yaml(),
        "runs": [(r.experiment.selection.strategy, shown(r.path)) for r in records],
    }
    write_pages(Path(folder), "comparison", view)


def _outcomes(records: Sequence[RunRecord]) -> list[Outcome]:
    if not records:
        raise RunFolderError("there is no run to compare; give at least one run folder.")
    for record in records:
        if record.outcome is None:
            raise RunFolderError(
                f"{shown(record.path)} is not finished; add --resume to finish it."
            )
        if record.identity["data"] != records[0].identity["data"]:
            raise RunFolderError(
                f"{shown(record.path)} is a run on other data than {shown(records[0].path)}; "
                "compare runs on the same parts of the same data."
            )
        if _goal(record) != _goal(records[0]):
            raise RunFolderError(
                f"{shown(record.path)} was run for goal {_goal(record)}, {shown(records[0].path)} "
                f"for goal {_goal(records[0])}: a fraction that every epoch visits and one that is "
                "kept for good do not compare; give runs of one goal."
            )
    return [record.outcome for record in records if record.outcome is not None]


def _goal(record: RunRecord) -> str:
    return record.experiment.selection.goal


def _charts(
    records: Sequence[RunRecord], outcomes: Sequence[Outcome], test_examples: int
) -> list[Chart]:
    drawn = {
        "test": ("Test accuracy", plots.test_chart(outcomes, test_examples)),
        "accuracy": ("Validation accuracy against example visits", plots.curves_chart(records)),
        "seconds": ("Where the time went", plots.cost_chart(outcomes)),
    }
    return charts_of(
        (name, title, _READINGS[name].format(test=count(test_examples)), figure)
        for name, (title, figure) in drawn.items()
    )
