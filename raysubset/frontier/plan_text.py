"""What is said before a frontier runs, and what a reader must know beside its figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysubset.evidence.power import plan_sentence
from raysubset.frontier.answer import Answer
from raysubset.frontier.finding import looks_for
from raysubset.frontier.plan import (
    EQUAL_TIME,
    PLAIN_CONTROL,
    SAME_ROWS_CONTROLS,
    Goal,
    controls_of,
    goal_of,
    num_equal_time,
)
from raysubset.frontier.sentences import row_title
from raysubset.frontier.settings import MIN_SEEDS, FrontierSettings
from raysubset.frontier.sweep import Sweep
from raysubset.frontier.tuning_text import fallback_notes, tuning_lines, tuning_note
from raysubset.learn.settings import DataSettings
from raysubset.report.wording import count, counted, percent_asked
from raysubset.storage.staging import shown

if TYPE_CHECKING:
    from raysubset.preparation import Prepared

_GOALS: dict[Goal, str] = {
    "faster": "every epoch visits the fraction, the whole pool stays (saves compute)",
    "smaller": "keep the fraction, delete the rest, train from scratch (saves storage and labels)",
}
TYPICAL_SPREAD = 0.0035
"""Standard deviation of paired differences on CIFAR-10-like tasks: 0.35 points."""


def plan_lines(sweep: Sweep, first: Prepared, left: int, how: str) -> list[str]:
    """Return what is going to run, on what, and what it will be able to tell."""
    from raysubset.report.table import heading

    settings = sweep.settings
    planned = len(sweep.planned) + num_equal_time(sweep.base, settings)
    identity = first.given[0].parts.describe()
    controls = [row_title(row) for row in _controls(sweep)]
    lines = [
        f"frontier folder: {shown(sweep.folder)}",
        heading(first.experiment, first.identity),
        f"goal {goal_of(sweep.base)}: {_GOALS[goal_of(sweep.base)]}",
        f"fractions {', '.join(percent_asked(f) for f in sorted(settings.fractions))}; "
        f"strategies {', '.join(settings.strategies)}; {_seeds(sweep)}; "
        f"{_extent(settings, planned, left)}, {how}",
        f"controls: {', '.join(controls) or 'none (--no-controls)'}; reference: full",
        f"labels: {count(identity['pool'])} in the pool, {count(identity['validation'])} in "
        f"validation, {count(identity['tuning'])} in tuning, {count(identity['test'])} in test",
    ]
    lines += tuning_lines(sweep, int(identity["tuning"]))
    if settings.max_drop:
        lines.append(_detectable(settings))
    return lines + [f"note: {note}" for note in first.notes]


def _seeds(sweep: Sweep) -> str:
    first, last = sweep.base.seed, sweep.base.seed + sweep.settings.seeds - 1
    return f"seed {first}" if first == last else f"seeds {first}-{last}"


def _controls(sweep: Sweep) -> list[str]:
    """Return the rows of the controls; a search keeps to the one that counts."""
    settings = sweep.settings
    if settings.find:
        control = SAME_ROWS_CONTROLS[goal_of(sweep.base)][0]
        return [control] if settings.controls and settings.strategies[0] != control else []
    timed = num_equal_time(sweep.base, settings) > 0
    return controls_of(sweep.base, settings) + ([EQUAL_TIME] if timed else [])


def _extent(settings: FrontierSettings, planned: int, left: int) -> str:
    """Return how much is going to run."""
    if not settings.find:
        return f"{counted(planned, 'trial')}, {count(left)} left to run"
    most = f", at most {counted(settings.max_runs, 'run')}" if settings.max_runs else ""
    return f"a search that runs what its next look needs{most}"


def notes_of(sweep: Sweep, answer: Answer) -> list[str]:
    """Return what a reader must know beside the figures."""
    rows, notes = answer.rows, list[str]()
    if not answer.cells:
        return notes
    if any(cell.num_validation for cell in answer.cells):
        notes.append(
            "validation labels count as data used: a row that lists them chose or trained with them"
        )
    notes += _trusted(sweep.base.data)
    goal = goal_of(sweep.base)
    notes.append(_meaning(goal, sweep))
    if (plain := PLAIN_CONTROL[goal]) in rows:
        notes.append(f"{plain}: without class quotas and filters; the others stand behind them")
    if EQUAL_TIME in rows:
        notes.append(
            f"{EQUAL_TIME}: as many epochs more as the dearest strategy's selection would pay for, "
            "never more visits than full"
        )
    tuned = sweep.tuned
    notes += [tuning_note(sweep.base, sweep.settings, tuned), *fallback_notes(tuned)]
    notes.append(
        f"intervals are 95 % over seeds on these {count(answer.num_test)} test examples; each "
        "stands alone: of 20 comparisons about one excludes zero by chance"
    )
    if answer.num_seeds < MIN_SEEDS:
        notes.append(f"fewer than {MIN_SEEDS} seeds: means only, nothing is decided")
    return notes


def _meaning(goal: Goal, sweep: Sweep) -> str:
    """Return what a fraction means in this table."""
    if goal == "faster":
        return "fraction: of the pool, visited in every epoch; the whole pool stays available"
    said = (
        "fraction: of the pool, kept for good while the rest is deleted; every row trains from "
        f"scratch, {counted(sweep.base.training.epochs, 'epoch')} over what it keeps"
    )
    if "glister" not in sweep.settings.strategies:
        return said
    proxy = counted(sweep.base.selection.proxy_epochs, "epoch")
    return (
        f"{said}. GLISTER chooses once, by a proxy trained for {proxy} on the whole pool; the "
        "proxy's seconds count as selecting, its visits do not"
    )


def _trusted(data: DataSettings) -> list[str]:
    """Return the note that rows beside the pool have better labels than the pool, if they have."""
    if data.validation_label_column is None:
        return []
    return [
        f"rows held out of the train rows carry trusted labels ({data.validation_label_column}), "
        f"the pool keeps {data.label_column or 'label'}; what reads the labels of such validation "
        "rows has better labels than the pool, which count as data used"
    ]


def _detectable(settings: FrontierSettings) -> str:
    assert settings.max_drop is not None
    drop, seeds, level = settings.max_drop / 100, settings.seeds, 0.05
    if settings.find:
        looks = looks_for(len(settings.fractions), seeds)
        seeds, level = looks.planned[-1], looks.level_each
    return plan_sentence(seeds, TYPICAL_SPREAD, drop, drop / 2, level)
