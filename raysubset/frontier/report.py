"""The report of a frontier, made from its folder alone: it can be made again at any time."""

from __future__ import annotations

from raysubset.frontier.answer import answer_of
from raysubset.frontier.finding import search_of, sentence_of
from raysubset.frontier.learning import curve_sentence, learning_curve
from raysubset.frontier.page import write_frontier
from raysubset.frontier.plan import controls_of, goal_of
from raysubset.frontier.plan_text import notes_of
from raysubset.frontier.sentences import num_first, sentences_of
from raysubset.frontier.sweep import Sweep
from raysubset.frontier.table import failures_in
from raysubset.frontier.text import table_of
from raysubset.frontier.tuning_text import chosen_lines
from raysubset.report.pictures import Pictures
from raysubset.report.table import text_table


def report_sweep(sweep: Sweep, pictures: Pictures | None) -> list[str]:
    """Write the report of what is finished; return its table and answer for a terminal."""
    trials, rows = sweep.trials, sweep.rows()
    settings = sweep.settings
    # A search looks more than once, so it has a level of its own: one claim, not two.
    drop = None if settings.find else settings.max_drop
    goal = goal_of(sweep.base)
    answer = answer_of(rows, drop, settings.fractions, goal)
    planned = [] if settings.find else controls_of(sweep.base, settings)
    sentences = sentences_of(answer, settings, planned)
    curve = learning_curve(rows) if goal == "smaller" else None
    if goal == "smaller" and answer.cells:
        sentences.append(curve_sentence(curve))
    if settings.find and settings.max_drop is not None:
        told = sentence_of(search_of(sweep, rows), settings.max_drop)
        sentences.insert(num_first(sentences), told)
    heading = f"{len(rows)} trials finished"
    if not settings.find:
        heading = f"{len(rows)} of {len(trials)} trials finished"
    failures = failures_in(sweep.folder, trials)
    notes = notes_of(sweep, answer)
    write_frontier(
        sweep.folder,
        rows,
        settings,
        answer,
        sentences,
        notes,
        failures,
        sweep.tuned,
        heading=heading,
        pictures=pictures,
        curve=curve,
    )
    lines = [""]
    if not settings.find and len(rows) < len(trials):
        lines += [f"{heading}; what follows is about these. Go on with --resume.", ""]
    if answer.cells:
        lines += [text_table(table_of(answer, sweep.settings.price_per_hour)), ""]
    lines += [*sentences, *(f"note: {note}" for note in notes)]
    lines += chosen_lines(sweep.tuned)
    return lines + [f"failed: {name}: {why}" for name, why in failures.items()]
