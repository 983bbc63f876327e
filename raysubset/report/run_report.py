"""The report of one run: report.html, report.md and plots/, from its ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysubset.report import plots
from raysubset.report.choices import Choices, PoolRows, read_choices, read_pool
from raysubset.report.class_plots import MAX_CLASSES, classes_chart
from raysubset.report.pages import Chart, charts_of, write_pages
from raysubset.report.pictures import Picture, data_uri
from raysubset.report.record import RunRecord, read_run, stage_seconds
from raysubset.report.run_tables import (
    MOST_CHOSEN,
    environment_table,
    most_chosen_table,
    parts_table,
    rounds_table,
)
from raysubset.report.svg import drawing
from raysubset.report.table import heading, rows_of
from raysubset.report.timeline_chart import stages_table, timeline_chart
from raysubset.report.wording import (
    count,
    counted,
    decimal,
    duration,
    percent,
    percent_asked,
    printable,
    title_of,
)
from raysubset.storage.staging import shown

_READINGS = {
    "accuracy": "Training accuracy is measured on the chosen examples while they are trained on: "
    "it cannot be compared between strategies, for one that chooses hard examples has a low one.",
    "seconds": "Other is handing over weights, factors and ids, and waiting for checkpoints. "
    "Evaluation is not counted.",
    "timeline": "A bar is a stage of a round, where it ran; at the right, what all of them took. "
    "Inside a round only scoring's begin and the ends of the others are seen by the driver's "
    "clock: hand-over is what lies between them. A checkpoint is written beside the next round's "
    "scoring, and only waiting for it costs time. A shaded stretch, drawn shorter than it was, is "
    "where the run was stopped.",
    "classes": "Left: how many ids of a class a round trained on. Right: how much of the class was "
    "chosen up to then; where it stands still, the same ids come again.",
    "glister": "Left: the validation loss before the imagined step on the chosen ids, after it by "
    "GLISTER's own model, and after the real training of the round. Right: how much of the drop "
    "that the best subset of this size could give is certain to be reached: at least this share.",
}
"""How to read each chart."""


def write_report(run_dir: Path, pictures: Mapping[int, Picture] | None = None) -> None:
    """Write RUN/report.html, RUN/report.md and RUN/plots/*.svg.

    A run that is not finished, or that lacks a piece, is reported as far as it goes.

    Args:
        run_dir: the run folder.
        pictures: id -> uint8 (channels, height, width), see `pictures_of`; None for no pictures.

    Raises:
        RunFolderError: the folder holds no run, or a file of it is damaged.
    """
    record = read_run(run_dir)
    choices = read_choices(record.path, len(record.classes))
    pool = None if choices is None else _pool_of(record, choices)
    with drawing():
        charts = _charts(record, choices, pool)
    view = _view(record, choices, charts) | _chosen(record, choices, pool, pictures or {})
    write_pages(record.path, "run", view)


def _pool_of(record: RunRecord, choices: Choices) -> PoolRows | None:
    ids = choices.tally.id_U[choices.tally.most_chosen(MOST_CHOSEN)]
    return read_pool(record.path, choices.distinct_RC.shape[1], ids)


def _view(record: RunRecord, choices: Choices | None, charts: list[Chart]) -> dict[str, Any]:
    return {
        "title": _title(record),
        "heading": heading(record.experiment, record.identity, width=0),
        "facts": _facts(record, choices),
        "notes": _notes(record),
        "table": rows_of([record.outcome]) if record.outcome else None,
        "charts": charts,
        "stages": stages_table(record),
        "rounds": rounds_table(record, choices) if record.rounds else None,
        "parts": parts_table(record),
        "environment": environment_table(record),
        "config": record.experiment.to_yaml(),
        "path": shown(record.path),
    }


def _title(record: RunRecord) -> str:
    selection = record.experiment.selection
    name, strategy = printable(str(record.identity["name"]), 60), title_of(selection.strategy)
    share = "" if selection.strategy == "full" else f", {percent_asked(selection.fraction)}"
    return f"{name}: {strategy}{share}"


def _facts(record: RunRecord, choices: Choices | None) -> list[tuple[str, str, str]]:
    """Return (name, figure, what it is of) of what a reader wants first."""
    facts = [_accuracy_fact(record)]
    if choices is not None:
        seen = len(choices.tally)
        of = f"{count(seen)} of {count(record.pool)} ids, {count(record.pool - seen)} never chosen"
        facts.append(("pool visited", percent(seen / record.pool), of))
    outcome = record.outcome
    if outcome is not None:
        whole = record.pool * record.experiment.training.epochs
        of = f"{count(outcome.visits)} example visits of {count(whole)}"
        facts.append(("training done", percent(outcome.visits / whole), of))
        of = f"ceiling about {decimal(outcome.ceiling)}x; against all epochs over the whole pool"
        facts.append(("speed-up", f"{decimal(outcome.speed_up)}x", of))
    total = sum(sum(stage_seconds(r).values()) for r in record.rounds)
    facts.append(("time", duration(total), "selection and training, without evaluation"))
    return facts


def _accuracy_fact(record: RunRecord) -> tuple[str, str, str]:
    if record.outcome is not None:
        of = f"of {count(record.test_examples)} test examples, read once"
        return ("test accuracy", percent(record.outcome.test_accuracy), of)
    last = record.rounds[-1].get("validation_accuracy") if record.rounds else None
    return ("validation accuracy", percent(last), f"after {counted(len(record.rounds), 'round')}")


def _notes(record: RunRecord) -> list[str]:
    notes = [str(note) for note in record.environment.get("notes", ())]
    if record.outcome is None:
        rounds, planned = len(record.rounds), len(record.phases)
        notes.insert(0, f"Not finished: {rounds} of {planned} rounds are done; --resume goes on.")
    worse = [r["round"] for r in record.rounds if (r.get("share_of_optimum") or 0) < 0]
    if worse:
        named = ", ".join(str(r) for r in worse[:10])
        notes.append(
            f"GLISTER's step overshot in {counted(len(worse), 'round')} ({named}): its own model "
            "says that the loss rises; lower selection.glister.step_size."
        )
    notes += _left_out_of_choices(record)
    notes.append(
        "One run is one seed: a figure without a spread. `raysubset frontier` repeats it over "
        "seeds, beside its controls."
    )
    return notes


def _left_out_of_choices(record: RunRecord) -> list[str]:
    """Return the sentence on rows that could not be chosen for what the model gave for them."""
    told = {r["round"]: r["ids_left_out"] for r in record.rounds if r.get("ids_left_out")}
    if not told:
        return []
    ids = sorted({id_ for each in told.values() for id_ in each})
    first = ", ".join(str(id_) for id_ in ids[:10])
    return [
        f"The model gave NaN or infinity for {counted(len(ids), 'row')} (id {first}"
        f"{', ...' if len(ids) > 10 else ''}) in {counted(len(told), 'round')}: left out of the "
        "choice there, and listed in each round's metrics.json."
    ]


def _charts(record: RunRecord, choices: Choices | None, pool: PoolRows | None) -> list[Chart]:
    count_C = None if pool is None else pool.count_C
    left_out = _classes_left_out(choices)
    drawn = {
        "accuracy": ("Accuracy against example visits", plots.accuracy_chart(record)),
        "seconds": ("Where the time went", plots.seconds_chart(record)),
        "timeline": ("When each stage ran", timeline_chart(record)),
        "classes": ("Ids of each class", classes_chart(record, choices, count_C)),
        "glister": ("What GLISTER expected, and what came", plots.glister_chart(record)),
    }
    return charts_of(
        (name, title, _READINGS[name] + (left_out if name == "classes" else ""), figure)
        for name, (title, figure) in drawn.items()
    )


def _classes_left_out(choices: Choices | None) -> str:
    classes = choices.distinct_RC.shape[1] if choices is not None else 0
    if classes <= MAX_CLASSES:
        return ""
    half = MAX_CLASSES // 2
    return (
        f" Of {count(classes)} classes, the {half} of which the least and the {half} of which "
        "the most was chosen."
    )


def _chosen(
    record: RunRecord,
    choices: Choices | None,
    pool: PoolRows | None,
    pictures: Mapping[int, Picture],
) -> dict[str, Any]:
    """Return the ids chosen most often, or a sentence where none stands out."""
    view: dict[str, Any] = {"chosen": None, "chosen_words": "", "gallery": []}
    if choices is None or not len(choices.tally):
        return {**view, "chosen_words": "No selection stands in this run folder."}
    tally, never = choices.tally, record.pool - len(choices.tally)
    most, least = int(tally.times_U.max()), int(tally.times_U.min())
    top = int((tally.times_U == most).sum())
    view["chosen_words"] = (
        f"{counted(len(tally), 'id')} chosen at least once, {count(never)} never. "
        f"Most often: {counted(most, 'time')} "
        f"({counted(top, 'id')})."
    )
    if never == 0 and most == least:
        view["chosen_words"] = f"Every id of the pool was chosen equally often: {count(most)}."
        return view
    at = tally.most_chosen(MOST_CHOSEN)
    keys = {} if pool is None else pool.keys
    view["chosen"] = most_chosen_table(record, choices, at, keys)
    view["gallery"] = _gallery(record, choices, at.tolist(), pictures, keys)
    return view


def _gallery(
    record: RunRecord,
    choices: Choices,
    at: list[int],
    pictures: Mapping[int, Picture],
    keys: Mapping[int, str],
) -> list[tuple[str, str, str]]:
    """Return (address of the image, class, caption) for every id that has a picture."""
    tally, shown = choices.tally, []
    for place in at:
        id_ = int(tally.id_U[place])
        if id_ in pictures:
            name = printable(record.class_name(int(tally.label_U[place])), 30)
            times = counted(int(tally.times_U[place]), "time")
            key = f"{printable(keys[id_], 40)}, " if id_ in keys else ""
            shown.append((data_uri(pictures[id_]), name, f"{key}id {id_}, {times}"))
    return shown
