"""The tables of one run: its rounds, the ids it chose most often, its parts, its environment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysubset.report.record import RunRecord, stage_seconds
from raysubset.report.table import Column, Table
from raysubset.report.wording import (
    NOTHING,
    at_least,
    count,
    decimal,
    is_number,
    percent,
    printable,
    significant,
)

if TYPE_CHECKING:
    import numpy as np

    from raysubset.report.choices import Choices

MOST_CHOSEN = 20
AGAIN = "scored again"


def rounds_table(record: RunRecord, choices: Choices | None) -> Table:
    """Return one row per round: what was chosen, what came of it, what it cost."""
    rounds = record.rounds
    columns = [
        Column(name="round", cells=tuple(str(r["round"]) for r in rounds)),
        Column(name="strategy", cells=tuple(str(r["strategy"]) for r in rounds), words=True),
        Column(name="epochs", cells=_epoch_spans(rounds)),
        Column(name="visits", cells=tuple(count(r["visits"]) for r in rounds)),
        *_choice_columns(rounds, choices),
        *_accuracy_columns(record),
        *_glister_columns(rounds),
        *_second_columns(rounds),
        *_lost_columns(rounds),
    ]
    return Table(columns=tuple(columns), notes=_rounds_notes(columns))


def most_chosen_table(
    record: RunRecord, choices: Choices, ids: np.ndarray, keys: Mapping[int, str]
) -> Table:
    """Return one row per id at these places of the tally; `keys` are the person's own names."""
    tally = choices.tally
    labels = [int(label) for label in tally.label_U[ids]]
    columns = [
        Column(name="id", cells=tuple(str(int(i)) for i in tally.id_U[ids])),
        Column(
            name="class",
            cells=tuple(printable(record.class_name(label), 80) for label in labels),
            words=True,
        ),
        Column(name="times chosen", cells=tuple(count(int(t)) for t in tally.times_U[ids])),
        Column(name="first in round", cells=tuple(str(int(r)) for r in tally.first_U[ids])),
    ]
    if any(is_number(float(g)) for g in tally.gain_U):
        gains = tuple(significant(float(g)) for g in tally.gain_U[ids])
        columns.append(Column(name="best gain", cells=gains))
    if keys:
        names = tuple(printable(keys.get(int(i), NOTHING)) for i in tally.id_U[ids])
        columns.append(Column(name="row", cells=names, words=True))
    return Table(columns=tuple(columns))


def parts_table(record: RunRecord) -> Table:
    """Return the rows of each part, the labels used of it, and what it was for."""
    parts = record.identity["parts"]
    rows = [("pool", count(record.pool), _pool_labels(record), "chosen from and trained on")]
    uses = {
        "validation": "drives the selection, its quotas included",
        "tuning": "chooses options by a score",
        "test": "decides and reports; read once, at the end",
    }
    for name, use in uses.items():
        if parts.get(name):
            rows.append((name, count(parts[name]), count(parts[name]), use))
    if left_out := _left_out(record):
        rows.append(("left out", count(left_out), "0", "bad rows, each listed in skipped.csv"))
    part, size, labels, use = zip(*rows, strict=True)
    return Table(
        columns=(
            Column(name="part", cells=part, words=True),
            Column(name="rows", cells=size),
            Column(name="labels used", cells=labels),
            Column(name="for", cells=use, words=True),
        )
    )


def _left_out(record: RunRecord) -> int:
    """Return how many bad rows the run left out."""
    skipped: Mapping[str, Any] = record.identity.get("skipped") or {}
    return sum(rows for rows in skipped.values() if isinstance(rows, int))


def environment_table(record: RunRecord) -> Table:
    """Return what the run ran on."""
    there = record.environment
    versions: dict[str, Any] = there.get("versions") or {}
    memory = there.get("memory_bytes")
    lines = {
        "started": there.get("started"),
        "machine": there.get("platform"),
        "CPU cores": there.get("cpu_count"),
        "memory": f"{memory / 2**30:.1f} GiB" if memory else None,
        **_memory_lines(record.rounds),
        "git commit": there.get("git"),
        "Python": there.get("python"),
        **versions,
        "data (SHA-256)": record.identity.get("data"),
        "config (SHA-256)": record.experiment.digest,
    }
    lines = {name: printable(str(value)) for name, value in lines.items() if value}
    return Table(
        columns=(
            Column(name="what", cells=tuple(lines), words=True),
            Column(name="value", cells=tuple(lines.values()), words=True),
        )
    )


def _memory_lines(rounds: list[dict[str, Any]]) -> dict[str, str]:
    """Return the peak memory of each kind of process; a run without Ray says none."""
    peak, own = _most(rounds, "peak_bytes"), _most(rounds, "private_bytes")
    lines: dict[str, str] = {}
    for who, size in peak.items():
        private = f", {own[who] / 2**30:.2f} GiB of it not shared" if who in own else ""
        lines[f"peak memory, {who.replace('_', ' ')}"] = f"{size / 2**30:.2f} GiB{private}"
    return lines


def _most(rounds: list[dict[str, Any]], name: str) -> dict[str, int]:
    """Return the largest figure of each process over the rounds."""
    most: dict[str, int] = {}
    for each in rounds:
        figures: Mapping[str, int] = each.get(name) or {}
        most |= {who: max(size, most.get(who, 0)) for who, size in figures.items()}
    return most


def _epoch_spans(rounds: list[dict[str, Any]]) -> tuple[str, ...]:
    ends = [0, *(int(r["epochs"]) for r in rounds)]
    pairs = itertools.pairwise(ends)
    return tuple(f"{a}-{b - 1}" if b - a > 1 else str(a) for a, b in pairs)


def _rounds_notes(columns: list[Column]) -> tuple[str, ...]:
    """Return what the column names do not say."""
    notes = {
        "new": "new: ids that no earlier round chose. visits: example visits so far.",
        "of best": "of best: how much of the best possible drop of the modelled loss is certain "
        "to be reached; at least this share.",
        "gains": "gains: how many were computed, of those that re-scoring every row at every pick "
        "computes; the picks are the same.",
        "commit": "commit: what a round waited until the one before it was safe on the disk.",
        AGAIN: f"{AGAIN}: row ranges whose scorer was lost or hung; the ids are the same.",
        "checkpoint": "beside: seconds spent beside something else, which waited for none of them.",
    }
    there = {column.name for column in columns}
    return tuple(note for name, note in notes.items() if name in there)


def _choice_columns(rounds: list[dict[str, Any]], choices: Choices | None) -> list[Column]:
    if choices is None:
        return []
    chosen = dict(
        zip(choices.rounds_R.tolist(), choices.chosen_RC.sum(axis=1).tolist(), strict=True)
    )
    new = dict(zip(choices.rounds_R.tolist(), choices.new_R.tolist(), strict=True))
    return [
        Column(name=name, group="ids", cells=tuple(count(known.get(r["round"])) for r in rounds))
        for name, known in (("chosen", chosen), ("new", new))
    ]


def _accuracy_columns(record: RunRecord) -> list[Column]:
    training = {e["round"]: e.get("accuracy") for e in record.epochs}
    rounds = record.rounds
    trained = tuple(percent(training.get(r["round"])) for r in rounds)
    validated = tuple(percent(r.get("validation_accuracy")) for r in rounds)
    return [
        Column(name="training", group="accuracy", cells=trained),
        Column(name="validation", group="accuracy", cells=validated),
    ]


def _glister_columns(rounds: list[dict[str, Any]]) -> list[Column]:
    if not any(is_number(r.get("modelled_loss_after")) for r in rounds):
        return []
    group = "modelled loss"
    return [
        Column(
            name="before",
            group=group,
            cells=tuple(significant(r.get("modelled_loss_before")) for r in rounds),
        ),
        Column(
            name="after",
            group=group,
            cells=tuple(significant(r.get("modelled_loss_after")) for r in rounds),
        ),
        Column(
            name="of best",
            group=group,
            cells=tuple(at_least(r.get("share_of_optimum")) for r in rounds),
        ),
        *_gain_columns(rounds),
    ]


def _gain_columns(rounds: list[dict[str, Any]]) -> list[Column]:
    """Return how many gains were computed, where bounds spared any."""
    shares: list[float | None] = [r.get("gains_computed") for r in rounds]
    if not any(share is not None and share < 1 for share in shares):
        return []
    cells = tuple(percent(share, 2) for share in shares)
    return [Column(name="gains", group="computed", cells=cells)]


def _second_columns(rounds: list[dict[str, Any]]) -> list[Column]:
    seconds = [stage_seconds(r) for r in rounds]
    columns = [
        Column(name=stage, group="seconds", cells=tuple(decimal(s[stage]) for s in seconds))
        for stage in ("scoring", "greedy", "training", "other")
    ]
    asides = (
        ("commit", "of other", "seconds_checkpoint_wait"),
        ("checkpoint", "beside", "seconds_checkpoint_write"),
        ("selection", "beside", "seconds_selection_beside"),
    )
    for name, group, key in asides:
        if any(is_number(r.get(key)) for r in rounds):
            cells = tuple(decimal(r.get(key)) for r in rounds)
            columns.append(Column(name=name, group=group, cells=cells))
    return columns


def _lost_columns(rounds: list[dict[str, Any]]) -> list[Column]:
    """Return how many ranges were scored again, where a scorer was lost."""
    again: list[float] = [r.get("scoring_retries") or 0.0 for r in rounds]
    if not any(again):
        return []
    return [Column(name=AGAIN, cells=tuple(count(int(number)) for number in again))]


def _pool_labels(record: RunRecord) -> str:
    """Return how many pool labels the run looked at: quotas and gradients look at all."""
    selection, outcome = record.experiment.selection, record.outcome
    blind = selection.strategy in ("random", "adaptive-random") and selection.balance == "none"
    return count(outcome.distinct) if blind and outcome is not None else count(record.pool)
