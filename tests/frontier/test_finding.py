"""`--find` claims falsely in at most 5 % of cases, runs nothing twice, and goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from raysubset.frontier.finding import (
    Search,
    looks_for,
    run_search,
    search,
    search_of,
    sentence_of,
    trials_for,
)
from raysubset.frontier.plan import Trial
from raysubset.frontier.settings import FrontierSettings
from raysubset.frontier.sweep import Sweep
from tests.frontier.sweeps import Ended, begin, given, here, sweep

GRID = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
DROP, SPREAD = 0.01, 0.004


def played(loss_by_fraction: Sequence[float], draw: np.random.Generator) -> tuple[Search, int]:
    """Search to the end over simulated truth; return what was found, and the runs it took."""
    looks = looks_for(len(GRID), 8)
    seen: dict[float, list[float]] = {}
    while True:
        found = search("glister", seen, GRID, DROP, looks)
        if found.ask is None:
            return found, sum(map(len, seen.values()))
        fraction, seeds = found.ask
        loss = loss_by_fraction[GRID.index(fraction)]
        more = seeds - len(seen.get(fraction, []))
        assert more > 0, "what is asked for is not there yet"
        seen.setdefault(fraction, []).extend(-loss + SPREAD * draw.normal(size=more))


@pytest.mark.parametrize(
    "losses",
    [
        (DROP,) * 7,  # every fraction exactly at the edge: each claim is false
        (0.03, 0.03, 0.03, DROP, DROP, DROP, DROP),
        (0.05, 0.04, 0.03, 0.02, 0.012, 0.011, DROP),
    ],
)
def test_a_claim_is_false_in_at_most_one_of_twenty_cases(losses: tuple[float, ...]):
    draw, cases = np.random.default_rng(0), 400
    false = 0
    for _ in range(cases):
        found, _ = played(losses, draw)
        false += found.fraction is not None and losses[GRID.index(found.fraction)] >= DROP
    # three standard errors of a rate of 5 % over so many cases
    assert false / cases <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / cases)


def test_a_clear_truth_is_found_with_few_runs():
    losses = (0.06, 0.05, 0.04, 0.0, 0.0, 0.0, 0.0)
    draw = np.random.default_rng(1)
    ends = [played(losses, draw) for _ in range(50)]
    assert np.mean([found.fraction == 0.3 for found, _ in ends]) > 0.9
    # a whole frontier of this grid at 8 seeds has 56 runs of the strategy
    assert np.mean([runs for _, runs in ends]) < 56 / 2


def test_every_probe_narrows_the_search_and_none_comes_twice():
    draw = np.random.default_rng(2)
    for _ in range(100):
        losses = np.sort(draw.uniform(0, 0.03, len(GRID)))[::-1]
        found, _ = played(list(losses), draw)
        probed = [probe.fraction for probe in found.probes]
        assert len(set(probed)) == len(probed) <= 3  # ceil(log2(7 + 1))
        certified = [p.fraction for p in found.probes if p.standing == "within"]
        assert found.fraction == (min(certified) if certified else None)


def test_it_starts_in_the_middle_with_the_first_planned_look():
    found = search("glister", {}, GRID, DROP, looks_for(len(GRID), 8))
    assert found.ask == (0.3, 3)
    assert found.fraction is None


def test_what_a_look_needs_is_the_strategy_its_control_and_full_on_the_same_seeds(tmp_path: Path):
    own = finding(tmp_path / "f")
    trials = trials_for(own, (0.5, 3))
    wanted = {("full", 1.0), ("glister", 0.5), ("adaptive-random", 0.5)}
    assert {(t.row, t.fraction) for t in trials} == wanted
    assert {t.seed for t in trials} == {0, 1, 2}
    assert len(trials) == 9


def finding(folder: Path, **settings: object) -> Sweep:
    values = {"find": True, "seeds": 5, "max_drop": 5.0, "fractions": "0.1,0.3,0.5"}
    return sweep(folder, settings=values | settings)


def test_a_search_runs_what_it_asks_for_and_a_finished_one_runs_nothing(tmp_path: Path):
    own = finding(tmp_path / "f")
    begin(own, resume=False)
    ended: Ended = []
    found = run_search(own, here(own, ended))
    assert found.ask is None
    assert len({name for name, _ in ended}) == len(ended) == len(own.rows())
    probed = {probe.fraction for probe in found.probes}
    assert {row.fraction for row in own.rows()} == probed | {1.0}
    count = len(ended)
    assert run_search(own, here(own, ended)) == found
    assert len(ended) == count


def test_a_search_out_of_runs_goes_on_to_the_same_end_with_more(tmp_path: Path):
    whole, short = finding(tmp_path / "whole"), finding(tmp_path / "short", max_runs=10)
    begin(whole, resume=False)
    wanted = run_search(whole, here(whole))
    begin(short, resume=False)
    found = run_search(short, here(short))
    assert found.ask is not None and len(short.rows()) <= 10
    assert "--max-runs" in sentence_of(found, 5.0)
    more = finding(tmp_path / "short")
    begin(more, resume=True)
    assert run_search(more, here(more)) == wanted
    assert given(more.rows()) == given(whole.rows())


def test_a_failed_trial_leaves_the_search_open(tmp_path: Path):
    own = finding(tmp_path / "f")
    begin(own, resume=False)
    run_all = here(own)

    def but_one(trials: Sequence[Trial]) -> None:
        run_all([t for t in trials if (t.row, t.seed) != ("glister", 1)])

    found = run_search(own, but_one)
    assert found.ask is not None
    assert [probe.seeds for probe in found.probes] == [0]
    assert search_of(own, own.rows()) == found
    assert run_search(own, run_all).ask is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"find": True, "max_drop": None}, "give --max-drop"),
        ({"max_runs": 9}, "add --find"),
        ({"find": True, "max_runs": 0}, "greater than or equal to 1"),
        ({"find": True, "seeds": 2}, "at least 3"),
    ],
)
def test_a_search_for_nothing_is_refused(options: dict[str, object], said: str):
    with pytest.raises(ValidationError, match=said):
        FrontierSettings.model_validate(options)
