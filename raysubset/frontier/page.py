"""The pages of a frontier: report.html, report.md, plots/*.svg, frontier.json, frontier.parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysubset.files import write_json
from raysubset.frontier import charts, class_charts
from raysubset.frontier.answer import Answer
from raysubset.frontier.curve_chart import curve_chart
from raysubset.frontier.findings import Findings, findings_of, telling_first
from raysubset.frontier.learning import LearningCurve, plain_curve
from raysubset.frontier.page_choices import called, choices_of, gallery_of
from raysubset.frontier.page_tables import (
    decisions_table,
    duels_table,
    plan_table,
    stability_table,
    suspects_table,
)
from raysubset.frontier.plain import plain_answer, plain_findings
from raysubset.frontier.plan import ADAPTIVE, RANDOM
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.sweep import FRONTIER
from raysubset.frontier.table import TrialRow, to_table
from raysubset.frontier.text import table_of
from raysubset.frontier.tuning import Tuned
from raysubset.frontier.tuning_text import plain_tuning, tried_table
from raysubset.records import write_table
from raysubset.report.pages import Chart, charts_of, write_pages
from raysubset.report.pictures import Picture
from raysubset.report.record import RunRecord
from raysubset.report.run_tables import environment_table, parts_table
from raysubset.report.svg import drawing
from raysubset.report.wording import count, counted, printable
from raysubset.storage.staging import shown

_READINGS = {
    "accuracy": "Marks are means over seeds; bands, and the bars of controls, are their 95 % "
    "intervals. Across lie full with its band and, below it, the accuracy that may be lost. What "
    "reaches the edge goes on beyond it. Two bands may overlap though one row wins: the duels "
    "compare seed by seed.",
    "labels": "Error of random subsets against their size. The dotted law has not seen the largest "
    "size: where it misses that mark, do not read the dashed line as a promise.",
    "cost": "Left is cheaper, up is better: a mark is worth its price where no other stands as "
    "high to the left of it. Lines join the fractions of a row, which are written at the first "
    "row. Process start and evaluation are not counted.",
    "seconds": "Scoring and greedy are the price of choosing. Other is handing over weights, "
    "factors and ids, and waiting for checkpoints.",
    "coverage": "A class's share of the chosen ids over its share of the pool, mean over seeds: "
    "1.00x is its due, blue is more, orange-red is less.",
    "classes": "Accuracy of each class minus full's in points, paired by seed: orange-red is lost. "
    "A class with few test examples swings widely.",
}
"""How to read each chart."""


def write_frontier(
    folder: Path,
    rows: Sequence[TrialRow],
    settings: FrontierSettings,
    answer: Answer,
    sentences: Sequence[str],
    notes: Sequence[str],
    failures: Mapping[str, str],
    tuned: Mapping[str, Tuned],
    heading: str,
    pictures: Mapping[int, Picture] | None,
    curve: LearningCurve | None = None,
) -> None:
    """Write the report of a frontier, its table and its answer into its folder.

    Args:
        folder: of the frontier; the trials' run folders lie in it.
        rows: the finished trials.
        settings: what was asked for.
        answer: what the rows say.
        sentences: the answer for a person, the most important first.
        notes: what a reader must know beside the figures.
        failures: trial -> why it failed.
        tuned: cell -> what it tried and chose.
        heading: how much of the frontier is there.
        pictures: id -> uint8 (channels, height, width); None for no pictures.
        curve: with goal smaller, what labels buy.

    Raises:
        RunFolderError: a trial's folder that cannot be read, by name.
    """
    found = findings_of(folder, rows)
    with drawing():
        drawn = _charts(answer, found, curve)
    view = {
        "title": _title(found.record),
        "sentences": list(sentences),
        "heading": heading,
        "notes": list(notes),
        "failures": list(failures.items()),
        "charts": drawn,
        "tried": tried_table(tuned),
        **_tables(answer, found, settings, rows, len(failures)),
        **_suspected(found, pictures or {}),
        "choices": choices_of(folder, rows, answer, found, pictures or {}),
        **_what_was_run(folder, found.record),
    }
    write_table(folder / "frontier.parquet", to_table(rows))
    told = plain_answer(answer, sentences, notes, failures, settings)
    told |= plain_findings(found.stability, found.changes, found.suspects)
    told["learning_curve"] = plain_curve(curve)
    told["tuning"] = plain_tuning(tuned)
    write_json(folder / "frontier.json", told)
    write_pages(folder, "frontier", view)


def _title(record: RunRecord | None) -> str:
    of = f"{printable(str(record.identity['name']), 60)}: " if record else ""
    smaller = record is not None and record.experiment.selection.goal == "smaller"
    return f"{of}what share of the data is {'worth keeping' if smaller else 'enough'}?"


def _charts(answer: Answer, found: Findings, curve: LearningCurve | None) -> list[Chart]:
    classes = found.classes
    asked = [c for c in found.changes if c.row in (ADAPTIVE, RANDOM) or _is_asked(c.row, found)]
    drawn = {
        "accuracy": ("Accuracy against the fraction", charts.accuracy_chart(answer)),
        "labels": ("What labels buy: random subsets", curve_chart(curve)),
        "cost": ("Accuracy against seconds", charts.cost_chart(answer)),
        "seconds": ("Where the time went", charts.stages_chart(answer)),
        "coverage": (
            "Which classes were chosen",
            class_charts.coverage_chart(telling_first(found.stability), classes),
        ),
        "classes": (
            "What it cost each class",
            class_charts.change_chart(telling_first(asked), classes),
        ),
    }
    left_out = class_charts.classes_left_out(len(classes))
    return charts_of(
        (name, title, _READINGS[name] + (left_out if name in ("coverage", "classes") else ""), fig)
        for name, (title, fig) in drawn.items()
    )


def _is_asked(row: str, found: Findings) -> bool:
    return any(s.row == row for s in found.stability)


def _tables(
    answer: Answer,
    found: Findings,
    settings: FrontierSettings,
    rows: Sequence[TrialRow],
    failed: int,
) -> dict[str, Any]:
    return {
        "table": table_of(answer, settings.price_per_hour) if answer.cells else None,
        "duels": duels_table(answer),
        "decisions": decisions_table(answer),
        "stability": stability_table(found.stability),
        "plan": plan_table(settings, rows, failed),
    }


def _suspected(found: Findings, pictures: Mapping[int, Picture]) -> dict[str, Any]:
    suspects = found.suspects
    if suspects is None:
        words = "No trial that trains on the whole pool is finished, so nothing is suspected."
        return {"suspects": None, "suspects_words": words, "suspects_gallery": []}
    captions = {
        s.id: (found.class_name(s.label), f"{called(s.id, s.key)}, {s.agree} of {s.seen} seeds")
        for s in suspects.worst
    }
    words = (
        f"{counted(suspects.unanimous, 'id')} of {count(suspects.judged)} stay wrong in every seed "
        f"that trained on them ({suspects.row}, {counted(suspects.seeds, 'seed')}). A wrong label "
        "looks like this, and so does a hard example: look before you change anything."
    )
    return {
        "suspects": suspects_table(suspects, found.class_name) if suspects.worst else None,
        "suspects_words": words,
        "suspects_gallery": gallery_of(captions, pictures),
    }


def _what_was_run(folder: Path, record: RunRecord | None) -> dict[str, Any]:
    config = folder / FRONTIER
    return {
        "parts": parts_table(record) if record else None,
        "environment": environment_table(record) if record else None,
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
        "path": shown(folder),
    }
