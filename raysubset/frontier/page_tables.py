"""The tables that only the page of a frontier holds: duels, decisions, stability, suspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from raysubset.frontier.answer import Answer, Duel, is_on_same_rows
from raysubset.frontier.settings import MIN_SEEDS, FrontierSettings
from raysubset.frontier.stability import Stability
from raysubset.frontier.suspects import Suspects
from raysubset.frontier.table import TrialRow
from raysubset.frontier.text import in_points, points, words
from raysubset.report.table import Column, Table
from raysubset.report.wording import (
    NOTHING,
    count,
    counted,
    decimal,
    duration,
    percent,
    percent_asked,
    printable,
)


def duels_table(answer: Answer) -> Table | None:
    """Return every strategy against every control, a column a fraction; None without duels."""
    duels = {(d.strategy, d.control, d.fraction): d for d in answer.duels}
    if not duels:
        return None
    pairs = list(dict.fromkeys((d.strategy, d.control) for d in answer.duels))
    pairs.sort(key=lambda pair: answer.rows.index(pair[0]))
    most = max(d.difference.n for d in answer.duels)
    columns = [
        words("strategy", (strategy for strategy, _ in pairs)),
        words("against", (control for _, control in pairs)),
        words("which trains on", (_rows_of(control) for _, control in pairs)),
    ]
    for fraction in sorted({d.fraction for d in answer.duels}):
        own = (duels.get((*pair, fraction)) for pair in pairs)
        columns.append(
            Column(
                name=percent_asked(fraction),
                group="points ahead at",
                cells=tuple(_duel(d, most) for d in own),
            )
        )
    return Table(columns=tuple(columns), notes=_duel_notes(most))


def decisions_table(answer: Answer) -> Table | None:
    """Return every test of every row against the drop; None where nothing was decided."""
    found = {row: within for row, within in answer.within.items() if within is not None}
    if not found or answer.max_drop is None:
        return None
    lines: list[tuple[str, ...]] = []
    for row, within in found.items():
        for fraction, test in within.tests:
            figures = (count(test.n), points(test.mean), points(test.bound), f"{test.p_value:.3f}")
            lines.append((row, percent_asked(fraction), *figures, "yes" if test.passed else "no"))
        if within.untested:
            below = ", ".join(percent_asked(f) for f in within.untested)
            lines.append((row, below, *[NOTHING] * 4, "not tested"))
    row, fraction, pairs, mean, bound, p_value, passed = zip(*lines, strict=True)
    return Table(
        columns=(
            words("strategy", row),
            Column(name="fraction", cells=fraction),
            Column(name="pairs", cells=pairs),
            Column(name="mean", group="to full", cells=mean),
            Column(name="at least", group="to full", cells=bound),
            Column(name="p", cells=p_value),
            words("within the drop", passed),
        ),
        notes=_decision_notes(answer.max_drop),
    )


def stability_table(found: Sequence[Stability]) -> Table | None:
    """Return how much the seeds of each strategy agree; None where no strategy was run."""
    if not found:
        return None
    order = list(dict.fromkeys(s.row for s in found))
    found = sorted(found, key=lambda s: (order.index(s.row), s.fraction))
    return Table(
        columns=(
            words("strategy", (s.row for s in found)),
            Column(name="fraction", cells=tuple(percent_asked(s.fraction) for s in found)),
            Column(name="seeds", cells=tuple(count(s.seeds) for s in found)),
            Column(name="ids chosen", cells=tuple(count(s.chosen) for s in found)),
            Column(name="seeds", group="overlap", cells=tuple(percent(s.overlap) for s in found)),
            Column(name="chance", group="overlap", cells=tuple(percent(s.expected) for s in found)),
            Column(name="shared", group="ids", cells=tuple(count(s.shared) for s in found)),
            Column(name="always", group="ids", cells=tuple(count(len(s.always)) for s in found)),
            Column(name="never", group="ids", cells=tuple(count(len(s.never)) for s in found)),
        ),
        notes=(
            "overlap: ids that two seeds both chose, of those that either chose, on the ids that "
            "both could choose; mean over pairs of seeds. chance: random subsets of these sizes.",
            "shared: ids that stood in the pool of every seed (the parts differ by seed), and of "
            "those: always, chosen by every seed; never, chosen by none.",
        ),
    )


def suspects_table(found: Suspects, named: Callable[[int], str]) -> Table:
    """Return the ids that stay wrong; `named` gives a class its name."""
    worst = found.worst
    columns = [
        Column(name="id", cells=tuple(str(s.id) for s in worst)),
        words("labelled", (printable(named(s.label), 60) for s in worst)),
        Column(name="margin", cells=tuple(decimal(s.margin) for s in worst)),
        Column(name="loss", cells=tuple(decimal(s.loss) for s in worst)),
        Column(name="seeds agree", cells=tuple(f"{s.agree} of {s.seen}" for s in worst)),
    ]
    if any(s.key is not None for s in worst):
        columns.append(words("row", (printable(s.key or NOTHING) for s in worst)))
    return Table(
        columns=tuple(columns),
        notes=(
            "margin: logit of the given label minus the largest other, mean over visits and "
            "seeds. loss: at the last visit, in nats. agree: seeds whose mean margin is below 0.",
        ),
    )


def ids_table(
    ids: Sequence[int],
    named: Mapping[int, tuple[int, str | None]],
    class_name: Callable[[int], str],
) -> Table:
    """Return ids with their classes and, where the data has any, the person's own names."""
    keys = [named[i][1] for i in ids]
    columns = [
        Column(name="id", cells=tuple(str(i) for i in ids)),
        words("class", (printable(class_name(named[i][0]), 60) for i in ids)),
    ]
    if any(key is not None for key in keys):
        columns.append(words("row", (printable(key or NOTHING) for key in keys)))
    return Table(columns=tuple(columns))


def plan_table(settings: FrontierSettings, rows: Sequence[TrialRow], failed: int) -> Table:
    """Return what was asked for, and how much of it is there."""
    names = list(dict.fromkeys(row.row for row in rows))
    controls = [name for name in names if any(r.role == "control" for r in rows if r.row == name)]
    drop = "none: means only" if settings.max_drop is None else in_points(settings.max_drop / 100)
    lines = {
        "strategies": ", ".join(settings.strategies),
        "controls": ", ".join(controls) or "none",
        "fractions": ", ".join(percent_asked(f) for f in sorted(settings.fractions)),
        "seeds asked for": count(settings.seeds),
        "seeds finished": ", ".join(str(s) for s in sorted({row.seed for row in rows})) or "none",
        "drop that is allowed": drop,
        "trials finished": count(len(rows)),
        "how they ran": _modes(rows),
        "process start and data, a trial": _start(rows),
        "trials failed": count(failed),
        "pool of a trial": " or ".join(count(n) for n in sorted({row.num_pool for row in rows})),
        "test examples": " or ".join(count(n) for n in sorted({row.num_test for row in rows})),
    }
    return Table(
        columns=(
            words("what", lines),
            words("value", (value or NOTHING for value in lines.values())),
        )
    )


def _modes(rows: Sequence[TrialRow]) -> str:
    """Return for instance "60 in one process each, 5 with a crew each"."""
    words = {"local": "in one process each", "crew": "with a crew each"}
    told = Counter(row.mode for row in rows)
    return ", ".join(f"{count(n)} {words.get(mode, mode)}" for mode, n in told.items())


def _start(rows: Sequence[TrialRow]) -> str:
    """Return the mean seconds before a trial's first round, which no strategy is charged."""
    if not rows:
        return ""
    mean = sum(row.seconds_start for row in rows) / len(rows)
    return f"{duration(mean)} on average, charged to no strategy"


def _decision_notes(max_drop: float) -> tuple[str, ...]:
    drop = in_points(max_drop)
    return (
        f"A fraction is within the drop where the true loss is shown to be below {drop}: "
        f"one-sided test at 5 %, paired by seed; 'at least' stands above -{100 * max_drop:g}. "
        f"p: chance of pairs as good as these if the true loss were exactly {drop}.",
        "Tested from the largest fraction down to the first that fails; smaller ones are not "
        "tested, so that trying many fractions makes no false claim likelier.",
    )


def _duel(duel: Duel | None, most: int) -> str:
    """Return for instance "-8.0 +- 2.8 loses", with the pairs where others have more."""
    if duel is None:
        return NOTHING
    difference = duel.difference
    said = f"{points(difference.mean)} +- {points(difference.half, signed=False)}"
    said += f" {duel.word}" if duel.word in ("wins", "loses") else ""
    return said if difference.n == most else f"{said} ({counted(difference.n, 'pair')})"


def _duel_notes(most: int) -> tuple[str, ...]:
    notes = (
        "points ahead: test accuracy of the strategy minus the control's, paired by seed "
        f"({counted(most, 'pair')}), +- half of its 95 % interval; wins and loses stand where the "
        "interval excludes 0.",
    )
    too_few = f"Fewer than {MIN_SEEDS} pairs decide nothing: no word is said."
    return notes if most >= MIN_SEEDS else (*notes, too_few)


def _rows_of(control: str) -> str:
    if is_on_same_rows(control):
        return "pool rows"
    return "validation rows" if control == "validation-only" else "pool and validation rows"
