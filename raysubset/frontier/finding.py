"""`--find`: a bisection towards the smallest fraction within the drop, with runs as evidence.

Pure: the search is a function of the differences to full that are there; whoever stops, resumes or
loses a process finds it where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysubset.evidence.looks import Looks, Standing, bisection_tests, look
from raysubset.frontier.plan import FULL, SAME_ROWS_CONTROLS, Trial, goal_of, seeds_of, trials_of
from raysubset.frontier.sweep import RunTrials, Sweep, left_of
from raysubset.frontier.table import TrialRow

PLANNED = (3, 5, 8)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Where a fraction stands.

    Attributes:
        fraction: of the pool.
        seeds: pairs with full that were looked at.
        standing: what they say.
    """

    fraction: float
    seeds: int
    standing: Standing


@dataclass(frozen=True, kw_only=True)
class Search:
    """How far a bisection is.

    Attributes:
        strategy: whose fraction is looked for.
        fraction: the smallest that is certified so far.
        probes: the fractions in the order in which they were probed.
        ask: (fraction, seeds) that would take it further; None when it is done.
        level: of each single test.
    """

    strategy: str
    fraction: float | None
    probes: tuple[Probe, ...]
    ask: tuple[float, int] | None
    level: float


def looks_for(num_fractions: int, most_seeds: int) -> Looks:
    """Return the planned looks, with a level that covers every test a bisection may make."""
    planned = tuple(n for n in PLANNED if n <= most_seeds)
    return Looks(planned=planned, num_fractions=bisection_tests(num_fractions))


def search(
    strategy: str,
    difference_by_fraction: Mapping[float, Sequence[float]],
    fractions: Sequence[float],
    max_drop: float,
    looks: Looks,
    resolution: float = 0.0,
) -> Search:
    """Return where the bisection stands.

    Args:
        strategy: whose fraction is looked for.
        difference_by_fraction: accuracy minus full's in the order of seeds, where there is any.
        fractions: the grid.
        max_drop: as a share.
        looks: the planned numbers of seeds and the level.
        resolution: 1 / test examples.
    """
    grid = sorted(fractions)
    low, high = 0, len(grid)
    probes: list[Probe] = []
    ask: tuple[float, int] | None = None
    while low < high and ask is None:
        middle = (low + high) // 2
        differences = difference_by_fraction.get(grid[middle], ())
        probe = _probe(grid[middle], differences, max_drop, looks, resolution)
        probes.append(probe)
        if probe.standing == "within":
            high = middle
        elif probe.standing == "more":
            following = looks.next_look(probe.seeds)
            assert following is not None, "a look that asks for more has one to come"
            ask = grid[middle], following
        else:
            low = middle + 1
    certified = [p.fraction for p in probes if p.standing == "within"]
    return Search(
        strategy=strategy,
        fraction=min(certified, default=None),
        probes=tuple(probes),
        ask=ask,
        level=looks.level_each,
    )


def _probe(
    fraction: float,
    differences: Sequence[float],
    max_drop: float,
    looks: Looks,
    resolution: float,
) -> Probe:
    """Look at each planned number of seeds that is there, until one decides."""
    seeds, standing = 0, "more"
    for n in looks.planned:
        if n > len(differences) or standing != "more":
            break
        seeds, standing = n, look(differences[:n], max_drop, looks, resolution)
    return Probe(fraction=fraction, seeds=seeds, standing=standing)


def search_of(sweep: Sweep, rows: Sequence[TrialRow]) -> Search:
    """Return where the search of a sweep stands, by its finished trials."""
    settings = sweep.settings
    assert settings.max_drop is not None, "a search without a drop was refused"
    strategy = settings.strategies[0]
    accuracy = {(r.row, r.fraction, r.seed): r.test_accuracy for r in rows}
    differences: dict[float, list[float]] = {}
    for fraction in settings.fractions:
        # The first seeds without a gap: a look is at a planned number, whichever trials failed.
        for seed in seeds_of(sweep.base, settings):
            pair = accuracy.get((strategy, fraction, seed)), accuracy.get((FULL, 1.0, seed))
            if pair[0] is None or pair[1] is None:
                break
            differences.setdefault(fraction, []).append(pair[0] - pair[1])
    return search(
        strategy,
        differences,
        settings.fractions,
        settings.max_drop / 100,
        looks_for(len(settings.fractions), settings.seeds),
        resolution=1 / max(1, min((r.num_test for r in rows), default=1)),
    )


def trials_for(sweep: Sweep, asked: tuple[float, int]) -> list[Trial]:
    """Return the trials of a fraction and so many seeds: the strategy, its control, and full."""
    fraction, seeds = asked
    control = SAME_ROWS_CONTROLS[goal_of(sweep.base)][0]
    rows = {sweep.settings.strategies[0], *([control] if sweep.settings.controls else [])}
    chosen = seeds_of(sweep.base, sweep.settings)[:seeds]
    return [
        trial
        for trial in trials_of(sweep.base, sweep.settings)
        if trial.seed in chosen
        and (trial.row == FULL or (trial.row in rows and trial.fraction == fraction))
    ]


def run_search(sweep: Sweep, run_trials: RunTrials) -> Search:
    """Run what the search asks for until it is decided, or the budget of runs is spent."""
    while True:
        rows = sweep.rows()
        found = search_of(sweep, rows)
        if found.ask is None:
            return found
        left = left_of(sweep, trials_for(sweep, found.ask))
        most = sweep.settings.max_runs
        if most is not None and len(rows) + len(left) > most:
            return found
        run_trials(left)
        if left_of(sweep, left):
            return found  # failed trials are listed, and --resume tries them again


def sentence_of(found: Search, max_drop: float) -> str:
    """Return what a search found, and whether it is done."""
    from raysubset.frontier.sentences import row_title
    from raysubset.frontier.text import in_points
    from raysubset.report.wording import percent_asked

    name, drop = row_title(found.strategy), f"{in_points(max_drop / 100)} of full"
    looked = "; ".join(
        f"{percent_asked(p.fraction)} {p.standing} ({p.seeds} seeds)" for p in found.probes
    )
    if found.fraction is None:
        yet = "" if found.ask is None else " yet"
        said = f"No fraction is certified{yet} to keep {name} within {drop}"
    else:
        said = f"{percent_asked(found.fraction)} is certified to keep {name} within {drop}"
    if found.ask is None:
        end = "; the search is decided" if found.fraction is None else ", and no smaller one is"
    else:
        fraction, seeds = found.ask
        end = (
            f"; the search is open at {percent_asked(fraction)}, which takes {seeds} seeds: go on "
            "with --resume, and more --max-runs where that ended it"
        )
    return f"{said}{end}. Looked at: {looked} (each test at level {found.level:.2g}, 5 % in all)."
