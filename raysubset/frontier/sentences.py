"""The answer in sentences: who wins comes first, then how little is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysubset.frontier.answer import Answer, Duel, is_on_same_rows
from raysubset.frontier.plan import EQUAL_TIME, PLAIN, RANDOM_PLAIN
from raysubset.frontier.settings import MIN_SEEDS, FrontierSettings
from raysubset.report.wording import counted, percent_asked, title_of

_TITLES = {
    PLAIN: "adaptive random without quotas and filters",
    EQUAL_TIME: "adaptive random at equal time",
    RANDOM_PLAIN: "random without quotas and filters",
}


def row_title(row: str) -> str:
    """Return how a sentence calls a row."""
    return _TITLES.get(row) or title_of(row)


def sentences_of(answer: Answer, settings: FrontierSettings) -> list[str]:
    """Return the answer, the most important sentence first.

    Where a control wins, that is the first sentence; where none was run, that is.
    """
    if not answer.cells:
        return [
            "No trial is finished, so there is no answer yet; run the same command with --resume."
        ]
    first = [] if settings.controls else [_NO_CONTROLS]
    strategies = [s for s in answer.rows if any(d.strategy == s for d in answer.duels)]
    told = [_who_wins([d for d in answer.duels if d.strategy == s]) for s in _asked(strategies)]
    lost = [text for text, by_control in told if by_control]
    even = [text for text, by_control in told if not by_control]
    return [*first, *lost, *even, *_enough(answer), *_more(answer), *_missing(answer)]


_NO_CONTROLS = (
    "No controls were run (--no-controls), so nothing here shows that choosing examples was worth "
    "the trouble."
)


def _asked(strategies: Sequence[str]) -> list[str]:
    """Return the strategies worth a sentence: random is the floor, and everyone beats the floor."""
    return [s for s in strategies if s != "random"] or list(strategies)


def _who_wins(duels: Sequence[Duel]) -> tuple[str, bool]:
    """Return who wins between a strategy and its controls, and whether a control does."""
    name = row_title(duels[0].strategy)
    if all(duel.word is None for duel in duels):
        return _too_few(name, duels), False
    lost = _hardest([duel for duel in duels if duel.word == "loses"])
    if lost:
        where = "; ".join(_lost_at(duel) for duel in lost)
        return f"A control wins against {name}: {where}.", True
    at = {f: [d for d in duels if d.fraction == f] for f in _fractions(duels)}
    won = [f for f, own in at.items() if all(d.word == "wins" for d in own)]
    if won:
        where = "; ".join(_won_at(at[f]) for f in won)
        rest = ", ".join(percent_asked(f) for f in at if f not in won)
        also = f" Elsewhere ({rest}) it does not beat them all." if rest else ""
        return f"{name} wins against every control {where}.{also}", False
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
    """Return the smallest fraction of each row that is certified, the smallest of all first."""
    if answer.max_drop is None:
        return []
    drop = f"{_points(answer.max_drop)} points of full"
    decided = {row: within for row, within in answer.within.items() if within is not None}
    if not decided:
        return [
            f"Nothing is decided about {drop}: a decision needs {MIN_SEEDS} seeds of every "
            "fraction and of full."
        ]
    found = {row: w.fraction for row, w in decided.items() if w.fraction is not None}
    none = [row_title(row) for row in decided if row not in found]
    open_ = [row_title(row) for row, within in answer.within.items() if within is None]
    said = [f"No fraction that was run is certified to stay within {drop}."]
    if found:
        said = [_smallest(found, drop)]
        said += [f"Not certified at any fraction: {', '.join(none)}."] if none else []
    trials = "not every fraction has 3 finished pairs with full"
    return said + ([f"Not decided, {trials}: {', '.join(open_)}."] if open_ else [])


def _smallest(found: Mapping[str, float], drop: str) -> str:
    least = min(found.values())
    rows = [row_title(row) for row, fraction in found.items() if fraction == least]
    rest = [f"{row_title(row)} {percent_asked(f)}" for row, f in found.items() if f > least]
    more = f" Others need more: {', '.join(rest)}." if rest else ""
    return (
        f"The smallest fraction within {drop} is {percent_asked(least)}, with {_and(rows)} "
        f"(one-sided test at 5 %, paired by seed).{more}"
    )


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
