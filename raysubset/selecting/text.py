"""What a person reads of a selection: what goes in, what was chosen, what to do next."""

from __future__ import annotations

from raysubset.report.table import Column, Table, text_table
from raysubset.report.wording import count, duration, percent, printable, significant
from raysubset.selecting.folder import ClassCount, Selected, certificate
from raysubset.selecting.ready import Ready

MOST_CLASSES = 20


def heading(ready: Ready) -> str:
    """Return what is chosen from, by what, and how much of it."""
    parts, selection = ready.identity["parts"], ready.experiment.selection
    others = [f"{name} {parts[name]:,}" for name in ("validation", "test") if parts[name]]
    return "\n".join(
        [
            f"{printable(ready.identity['name'], 60)}: pool {ready.identity['pool']:,}, "
            f"{', '.join(others)}, {parts['classes']:,} classes; model "
            f"{printable(ready.identity['model'], 80)}",
            f"{ready.phase.strategy}: {ready.phase.budget:,} ids ({selection.fraction:g} of the "
            f"pool), quotas by {selection.balance}, seed {ready.experiment.seed}"
            + ("; test rows are held out as in a run, and never read" if parts["test"] else ""),
        ]
    )


def outcome(selected: Selected) -> str:
    """Return the table of classes, the sentence of the certificate, and the next steps."""
    shown = sorted(selected.classes, key=lambda c: -c.chosen)[:MOST_CLASSES]
    rest = len(selected.classes) - len(shown)
    notes = (f"... and {rest:,} classes more, in selection.json",) if rest else ()
    table = Table(columns=_columns([*shown, _total(selected)]), notes=notes)
    return "\n".join(["", text_table(table), "", *_sentences(selected)])


def _total(selected: Selected) -> ClassCount:
    least = [c.least for c in selected.classes if c.least is not None]
    most = [c.most for c in selected.classes if c.most is not None]
    return ClassCount(
        name="all",
        pool=selected.num_pool,
        chosen=selected.budget,
        least=min(least, default=None),
        most=max(most, default=None),
    )


def _columns(rows: list[ClassCount]) -> tuple[Column, ...]:
    shares = tuple(percent(c.chosen / c.pool if c.pool else None) for c in rows)
    return (
        Column(name="class", cells=tuple(printable(c.name, 30) for c in rows), words=True),
        Column(name="pool", cells=tuple(count(c.pool) for c in rows)),
        Column(name="chosen", cells=tuple(count(c.chosen) for c in rows)),
        Column(name="share", cells=shares),
        Column(name="from", group="gain", cells=tuple(significant(c.least) for c in rows)),
        Column(name="to", group="gain", cells=tuple(significant(c.most) for c in rows)),
    )


def _sentences(selected: Selected) -> list[str]:
    stages = {name: s for name, s in selected.seconds.items() if s >= 0.005}
    told = ", ".join(f"{name} {duration(s)}" for name, s in stages.items())
    proof = certificate(selected.share_of_optimum)
    scored = f"scored {selected.examples_scored:,} rows; " if selected.examples_scored else ""
    return [
        f"{scored}{proof + '; ' if proof else ''}seconds: {told}",
        f"ids: {selected.ids}",
        f"gains, weights and keys: {selected.selection}; what was asked, with SHA-256 of every "
        f"input: {selected.run_dir}/selection.json",
        "next: is it worth it? Train on these ids beside a random choice of the same size and "
        "quotas (the same command with --strategy random), or let `raysubset compare` do both.",
    ]
