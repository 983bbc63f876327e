"""The answer in sentences: who wins comes first, then how little is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysubset.frontier.answer import Answer, Duel, is_on_same_rows
from raysubset.frontier.plan import EQUAL_TIME, PLAIN, RANDOM_PLAIN
from raysubset.frontier.settings import MIN_SEEDS, FrontierSettings
from raysubset.frontier.text import in_points
from raysubset.report.wording import counted, percent_asked, title_of

_TITLES = {
    PLAIN: "adaptive random without quotas and filters",
    EQUAL_TIME: "adaptive random at equal time",
    RANDOM_PLAIN: "random without quotas and filters",
}


def row_title(row: str) -> str:
    """Return how a sentence calls a row."""
    return _TITLES.get(row) or title_of(row)


def sentences_of(
    answer: Answer, settings: FrontierSettings, planned: Sequence[str] = ()
) -> list[str]:
    """Return the answer, the most important sentence first.

    Where a control wins, that is the first sentence; where none was run, that is.

    Args:
        answer: what the finished trials say.
        settings: what was asked for.
        planned: the controls that were to run; nobody wins against one that has no result.
    """
    if not answer.cells:
        return [
            "No trial is finished, so there is no answer yet; run the same command with --resume."
        ]
    first = [] if settings.controls else [_NO_CONTROLS]
    strategies = [s for s in answer.rows if any(d.strategy == s for d in answer.duels)]
    told = [
        _who_wins([d for d in answer.duels if d.strategy == s], planned) for s in _asked(strategies)
    ]
    lost = [text for text, by_control in told if by_control]
    even = [text for text, by_control in told if not by_control]
    absent = _absent(answer, settings)
    return [*first, *lost, *even, *absent, *_enough(answer), *_more(answer), *_missing(answer)]


def num_first(sentences: Sequence[str]) -> int:
    """Return how many sentences must come before all others: that a control wins, or none ran."""
    firsts = [s for s in sentences if s == _NO_CONTROLS or s.startswith(_LOST)]
    return len(firsts)


_NO_CONTROLS = (
    "No controls were run (--no-controls), so nothing here shows that choosing examples was worth "
    "the trouble."
)


_LOST = "A control wins against"


def _asked(strategies: Sequence[str]) -> list[str]:
    """Return the strategies worth a sentence: random is the floor, and everyone beats the floor."""
    return [s for s in strategies if s != "random"] or list(strategies)


def _who_wins(duels: Sequence[Duel], planned: Sequence[str]) -> tuple[str, bool]:
    """Return who wins between a strategy and its controls, and whether a control does."""
    name = row_title(duels[0].strategy)
    if all(duel.word is None for duel in duels):
        return _too_few(name, duels), False
    known = [duel for duel in duels if duel.word is not None]  # fewer pairs say nothing
    missing = [c for c in planned if c != duels[0].strategy]
    missing = [c for c in missing if c not in {d.control for d in known}]
    silent = f" No result for {_and([row_title(c) for c in missing])}." if missing else ""
    everyone = "every control that has a result" if missing else "every control"
    text, by_control = _judged(name, known, everyone)
    return text + silent, by_control


def _judged(name: str, duels: Sequence[Duel], everyone: str) -> tuple[str, bool]:
    """Return who wins by duels that each have pairs enough, `everyone` being all controls."""
    lost = _hardest([duel for duel in duels if duel.word == "loses"])
    if lost:
        where = "; ".join(_lost_at(duel) for duel in lost)
        rest = [f for f in _fractions(duels) if f not in {duel.fraction for duel in lost}]
        won = [f for f in rest if all(d.word == "wins" for d in duels if d.fraction == f)]
        also = f" It wins against {everyone} at {', '.join(map(percent_asked, won))}."
        return f"{_LOST} {name}: {where}." + (also if won else ""), True
    at = {f: [d for d in duels if d.fraction == f] for f in _fractions(duels)}
    won = [f for f, own in at.items() if all(d.word == "wins" for d in own)]
    if won:
        where = "; ".join(_won_at(at[f]) for f in won)
        rest = ", ".join(percent_asked(f) for f in at if f not in won)
        also = f" Elsewhere ({rest}) it does not beat them all." if rest else ""
        return f"{name} wins against {everyone} {where}.{also}", False
    where = "; ".join(_even_at(duel) for duel in _hardest(duels))
    return f"No difference seen between {name} and its strongest control: {where}.", False


def _too_few(name: str, duels: Sequence[Duel]) -> str:
    pairs = max(duel.difference.n for duel in duels)
    hardest = min(duels, key=lambda d: d.difference.mean)
    return (
        f"{name} has {_pairs(pairs)} of runs with its controls, too few to say who wins "
        f"({MIN_SEEDS} are needed); against {row_title(hardest.control)} at "
        f"{percent_asked(hardest.fraction)} it stands at "
        f"{_points(hardest.difference.mean, signed=True)} points."
    )


def _hardest(duels: Sequence[Duel]) -> list[Duel]:
    """Return, per fraction, the duel that the strategy does worst in."""
    return [
        min((d for d in duels if d.fraction == f), key=lambda d: d.difference.mean)
        for f in _fractions(duels)
    ]


def _fractions(duels: Sequence[Duel]) -> list[float]:
    return sorted({duel.fraction for duel in duels})


def _lost_at(duel: Duel) -> str:
    by = f"{_points(-duel.difference.mean)} +- {_points(duel.difference.half)} points"
    extra = "" if is_on_same_rows(duel.control) else ", which trains on validation labels"
    return f"{row_title(duel.control)} by {by} at {percent_asked(duel.fraction)}{extra}"


def _won_at(duels: Sequence[Duel]) -> str:
    duel = min(duels, key=lambda d: d.difference.mean)
    return (
        f"at {percent_asked(duel.fraction)}, by {_points(duel.difference.mean)} +- "
        f"{_points(duel.difference.half)} points over {row_title(duel.control)}"
    )


def _even_at(duel: Duel) -> str:
    return (
        f"{_points(duel.difference.mean, signed=True)} +- {_points(duel.difference.half)} points "
        f"against {row_title(duel.control)} at {percent_asked(duel.fraction)}"
    )


def _enough(answer: Answer) -> list[str]:
    """Return the smallest fraction of each row that is certified: what was asked about first.

    Each row has a test of its own at 5 %, so the smallest over many rows is no claim at 5 %.
    """
    if answer.max_drop is None:
        return []
    drop = f"{in_points(answer.max_drop)} of full"
    decided = {row: within for row, within in answer.within.items() if within is not None}
    if not decided:
        return [
            f"Nothing is decided about {drop}: a decision needs {MIN_SEEDS} seeds of every "
            "fraction and of full."
        ]
    roles = {cell.row: cell.role for cell in answer.cells}
    asked = {r: w.fraction for r, w in decided.items() if roles[r] == "strategy"}
    controls = {r: w.fraction for r, w in decided.items() if roles[r] != "strategy"}
    open_ = [row_title(row) for row, within in answer.within.items() if within is None]
    trials = "not every fraction has 3 finished pairs with full"
    return [
        *([_smallest(asked, drop)] if asked else []),
        *([f"Controls, each by a test of its own: {_listed(controls)}."] if controls else []),
        *([f"Not decided, {trials}: {', '.join(open_)}."] if open_ else []),
    ]


def _smallest(asked: Mapping[str, float | None], drop: str) -> str:
    """Return the smallest certified fraction of every row that was asked about."""
    test = "one-sided test at 5 % for each row, paired by seed"
    if not any(asked.values()):
        names = _and([row_title(row) for row in asked])
        return f"No fraction that was run is certified to keep {names} within {drop} ({test})."
    return f"The smallest fraction within {drop}: {_listed(asked)} ({test})."


def _listed(fractions: Mapping[str, float | None]) -> str:
    """Return for instance "GLISTER 10 %, random none"."""
    said = {row: percent_asked(f) if f is not None else "none" for row, f in fractions.items()}
    return ", ".join(f"{row_title(row)} {fraction}" for row, fraction in said.items())


def _absent(answer: Answer, settings: FrontierSettings) -> list[str]:
    """Return that a strategy which was asked about has no finished trial."""
    absent = [row_title(s) for s in settings.strategies if s not in answer.rows]
    return [f"No trial of {_and(absent)} is finished."] if absent else []


def _more(answer: Answer) -> list[str]:
    """Return how many more seeds would decide where the sequence of tests stopped."""
    told: list[str] = []
    for row, within in answer.within.items():
        stopped = within.tests[-1] if within is not None else None
        if stopped is None or stopped[1].passed or (row, stopped[0]) not in answer.more:
            continue
        seeds = counted(answer.more[row, stopped[0]], "more seed")
        told.append(f"{seeds} for {row_title(row)} at {percent_asked(stopped[0])}")
    if not told:
        return []
    return [
        f"By the spread seen, a decision would take about {'; '.join(told)}; begin anew with that "
        "many, because testing again and again with more raises the 5 % (--find plans for it)."
    ]


def _missing(answer: Answer) -> list[str]:
    return [] if answer.full else ["No full run is finished, so no difference to full is known."]


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _pairs(count: int) -> str:
    return "1 pair" if count == 1 else f"{count} pairs"


def _points(share: float, *, signed: bool = False) -> str:
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
