from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysubset.core.factors import GradientFactors
from raysubset.core.filters import Evidence, ExactDuplicates, Verdict
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.lookahead import Lookahead
from raysubset.errors import BudgetError, ConfigError
from raysubset.learn.choosing import Choice, Chooser, choose, filter_pool
from raysubset.learn.learner import Learner
from raysubset.learn.scoring import RowRange, Scorer
from raysubset.schedule import Phase
from raysubset.strategies.full import Full
from raysubset.strategies.glister import Glister
from raysubset.strategies.picks import Block
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy
from raysubset.strategies.uniform import AdaptiveRandom, Random
from tests.learn.ranks import CPU, never, order_of
from tests.small_runs import problem

BALANCES = ("validation", "pool", "equal", "none")


@cache
def trained() -> Learner:
    learner = Learner(problem(), CPU, world=2)
    learner.train(order_of(learner.problem), never)
    return learner


@cache
def scorer() -> Scorer:
    own = Scorer(problem(), CPU)
    own.load(trained().weights())
    return own


class Scoring:
    """Scores and chooses in this process, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[RowRange], Choice]] = []

    def __call__(self, ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
        self.asked.append((ranges, choice))
        outputs = [scorer().score(rows, embeddings=choice.embeddings) for rows in ranges]
        return choose(choice, outputs), 0.0

    def ids(self, part: str) -> list[int]:
        """The ids of a part that the last call scored."""
        return [i for r in self.asked[-1][0] if r.part == part for i in r.ids.tolist()]


def refuse(ranges: Sequence[RowRange], choice: Choice) -> tuple[Selection, float]:
    raise AssertionError("nothing was to be scored")


def strategies(balance: Any = "validation") -> dict[str, Strategy]:
    return {
        "glister": Glister(balance=balance),
        "random": Random(balance=balance),
        "adaptive-random": AdaptiveRandom(balance=balance),
        "full": Full(),
    }


def keep(keep_N: np.ndarray | None = None) -> Verdict:
    mask = np.ones(problem().parts.pool.num_examples, dtype=bool) if keep_N is None else keep_N
    return Verdict(keep_N=torch.from_numpy(mask), reasons={})


def chooser(verdict: Verdict | None = None, **how: Any) -> Chooser:
    balance = how.pop("balance", "validation")
    options: dict[str, Any] = {"candidates": 1.0, "batch_size": 32, "seed": 0} | how
    return Chooser(problem().parts, strategies(balance), verdict or keep(), **options)


def phase(strategy: str, budget: int, round_: int = 1, epochs: range = range(2, 4)) -> Phase:
    return Phase(
        round=round_,
        strategy=strategy,
        budget=budget,
        epochs=epochs,
        visits_before=0,
        total_visits=1000,
    )


def classes(selection: Selection, epoch: int = 0) -> list[int]:
    labels = selection.labels.reshape(selection.epochs, -1)[epoch]
    return np.bincount(labels, minlength=10).tolist()


@pytest.mark.parametrize("strategy", ["glister", "random", "adaptive-random"])
@given(st.data(), st.sampled_from(BALANCES))
def test_the_budget_is_met_exactly_with_distinct_ids_that_the_filters_kept(
    strategy: str, data: st.DataObject, balance: str
):
    seed, share = data.draw(st.integers(0, 99)), data.draw(st.floats(0.2, 1.0))
    keep_N = np.random.default_rng(seed).random(144) < share
    kept = problem().parts.pool.id_N[keep_N]
    budget = data.draw(st.integers(1, len(kept)))
    chosen = chooser(keep(keep_N), balance=balance).select(phase(strategy, budget), Scoring())
    assert len(chosen) == budget
    for ids in chosen.ids.reshape(chosen.epochs, -1):
        assert len(set(ids.tolist())) == budget
    assert set(chosen.ids.tolist()) <= set(kept.tolist())
    np.testing.assert_array_equal(chosen.labels, problem().parts.pool.take(chosen.ids)[1])
    assert chosen.num_pool == len(kept)
    assert chosen.fraction == budget / len(kept)


@pytest.mark.parametrize("strategy", ["glister", "random", "adaptive-random"])
def test_a_budget_above_what_the_filters_kept_is_refused(strategy: str):
    keep_N = np.arange(144) < 100
    with pytest.raises(BudgetError, match="larger than the pool of 100"):
        chooser(keep(keep_N)).select(phase(strategy, 101), Scoring())


def test_dropped_ids_cost_no_forward_pass():
    keep_N = np.arange(144) % 3 > 0
    scoring = Scoring()
    chooser(keep(keep_N)).select(phase("glister", 20), scoring)
    assert scoring.ids("pool") == problem().parts.pool.id_N[keep_N].tolist()
    assert scoring.ids("validation") == problem().parts.validation.id_N.tolist()


@pytest.mark.parametrize("strategy", ["random", "adaptive-random", "full"])
@pytest.mark.parametrize("candidates", [1.0, 2.0])
def test_what_needs_no_factors_costs_no_forward_pass(strategy: str, candidates: float):
    budget = 144 if strategy == "full" else 20
    chosen = chooser(candidates=candidates).select(phase(strategy, budget), refuse)
    assert np.isnan(chosen.gains).all()
    assert (chosen.facts["examples_scored"], chosen.facts["seconds_scoring"]) == (0, 0)


@pytest.mark.parametrize("strategy", ["glister", "random", "adaptive-random", "full"])
@pytest.mark.parametrize("kept", [144, 90])
def test_the_whole_pool_costs_no_forward_pass(strategy: str, kept: int):
    keep_N = np.arange(144) < kept
    chosen = chooser(keep(keep_N)).select(phase(strategy, kept), refuse)
    for ids in chosen.ids.reshape(chosen.epochs, -1):
        assert sorted(ids.tolist()) == problem().parts.pool.id_N[keep_N].tolist()


@pytest.mark.parametrize("candidates", [1.5, 3.0])
def test_candidates_are_a_fresh_sample_every_round_and_only_they_are_scored(candidates: float):
    scoring, samples = Scoring(), list[tuple[int, ...]]()
    for round_ in range(1, 4):
        chosen = chooser(candidates=candidates).select(phase("glister", 20, round_), scoring)
        sample = scoring.ids("pool")
        assert len(sample) == len(set(sample)) == candidates * 20
        assert sample == sorted(sample)
        assert set(chosen.ids.tolist()) <= set(sample) <= set(problem().parts.pool.id_N.tolist())
        assert chosen.facts["examples_scored"] == len(sample) + 16
        assert chosen.num_pool == 144 and chosen.fraction == 20 / 144
        samples.append(tuple(sample))
    assert len(set(samples)) == 3
    again = Scoring()
    chooser(candidates=candidates).select(phase("glister", 20, 2), again)
    assert tuple(again.ids("pool")) == samples[1]
    other = Scoring()
    chooser(candidates=candidates, seed=1).select(phase("glister", 20, 2), other)
    assert tuple(other.ids("pool")) != samples[1]


def test_the_number_of_candidates_is_floored_by_decimal():
    """1.14 * 50 is 56.999... in binary; the person who typed it means 57."""
    scoring = Scoring()
    chooser(candidates=1.14).select(phase("glister", 50), scoring)
    assert len(scoring.ids("pool")) == 57


def test_candidates_beyond_the_pool_are_the_pool():
    scoring = Scoring()
    few, all_ = chooser(candidates=9.0), chooser()
    a = few.select(phase("glister", 20), scoring)
    assert scoring.ids("pool") == problem().parts.pool.id_N.tolist()
    np.testing.assert_array_equal(a.ids, all_.select(phase("glister", 20), scoring).ids)


@pytest.mark.parametrize("balance", ["validation", "pool", "equal"])
@pytest.mark.parametrize("budget", [7, 23, 60, 130])
def test_every_strategy_stands_behind_the_same_quotas(balance: str, budget: int):
    the_chooser = chooser(balance=balance)
    counts = [classes(the_chooser.select(phase("glister", budget), Scoring()))]
    for name in ("random", "adaptive-random"):
        chosen = the_chooser.select(phase(name, budget), refuse)
        counts += [classes(chosen, epoch) for epoch in range(chosen.epochs)]
    assert counts.count(counts[0]) == len(counts) == 4
    assert sum(counts[0]) == budget


def test_without_quotas_strategies_are_free():
    the_chooser = chooser(balance="none")
    counts = [
        classes(the_chooser.select(phase(name, 30), Scoring())) for name in ("glister", "random")
    ]
    assert counts[0] != counts[1]


def test_random_keeps_its_subset_and_the_others_do_not():
    def of_round(name: str, round_: int) -> list[int]:
        epochs = range(2 * round_, 2 * round_ + 2)
        return chooser().select(phase(name, 20, round_, epochs), Scoring()).ids.tolist()

    assert of_round("random", 1) == of_round("random", 4)
    assert of_round("adaptive-random", 1) != of_round("adaptive-random", 4)
    first, second = np.array(of_round("adaptive-random", 1)).reshape(2, -1)
    assert not set(first.tolist()) & set(second.tolist())


def test_glister_chooses_what_the_strategy_chooses_from_all_factors_at_once():
    pool, validation = problem().parts.pool, problem().parts.validation
    sides = [
        (
            torch.cat([torch.from_numpy(scorer().score(r).embeddings) for r in ranges]),
            torch.from_numpy(part.label_N.copy()),
        )
        for ranges, part in ((ranges_for("pool"), pool), (ranges_for("validation"), validation))
    ]
    head = trained().model.get_submodule(trained().head.name)
    assert isinstance(head, torch.nn.Linear)
    weight, bias = head.weight.detach(), head.bias.detach()
    factors = GradientFactors.from_embeddings(*sides[0], weight, bias, pool.id_N)
    look = Lookahead.from_embeddings(*sides[1], weight, bias)
    wanted = Glister(balance="validation").select(LocalGroundSet(factors), look, 25)
    chosen = chooser().select(phase("glister", 25), Scoring())
    assert chosen.ids.tolist() == wanted.ids.tolist()
    np.testing.assert_allclose(chosen.gains, wanted.gains, rtol=1e-4, atol=1e-7)


def ranges_for(part: Any) -> list[RowRange]:
    from raysubset.learn.local import part_ranges

    return part_ranges(problem(), part)


def test_the_bias_gradient_needs_no_embeddings_and_chooses_the_same():
    both = [Scoring(), Scoring()]
    own = chooser()
    own.strategies["glister"] = Glister(gradient="bias")
    chosen = own.select(phase("glister", 25), both[0])
    assert not both[0].asked[0][1].embeddings

    with_embeddings = replace(both[0].asked[0][1], embeddings=True)
    other, _ = both[1](both[0].asked[0][0], with_embeddings)
    np.testing.assert_array_equal(chosen.ids, other.ids)
    np.testing.assert_array_equal(chosen.gains, other.gains)


def test_another_seed_is_another_choice_and_the_same_seed_the_same():
    own = Glister(picks=Block(5), regularizer=None)
    ids = []
    for seed in (0, 0, 1):
        the_chooser = chooser(seed=seed)
        the_chooser.strategies["glister"] = own
        drawn = the_chooser.select(phase("adaptive-random", 20), refuse).ids.tolist()
        ids.append((the_chooser.select(phase("glister", 20), Scoring()).ids.tolist(), drawn))
    assert ids[0] == ids[1]
    assert ids[0][1] != ids[2][1]
    assert ids[0][0] == ids[2][0], "exact greedy has nothing to draw"


def test_the_facts_tell_the_seconds_and_what_was_scored():
    start = perf_counter()
    chosen = chooser().select(phase("glister", 25, round_=6), Scoring())
    wall = perf_counter() - start
    facts = chosen.facts
    stages = [facts[f"seconds_{stage}"] for stage in ("scoring", "greedy", "handover")]
    assert all(seconds >= 0 for seconds in stages) and facts["seconds_greedy"] > 0
    assert sum(stages) <= wall
    assert facts["examples_scored"] == 144 + 16
    assert 0 < facts["share_of_optimum"] <= 1
    assert facts["modelled_loss_after"] < facts["modelled_loss_before"]
    assert chosen.round == 6 and np.isfinite(chosen.gains).all()


def test_the_filters_verdict_has_a_reason_for_every_dropped_id():
    pool = problem().parts.pool
    twice = replace(
        pool,
        content=pool.content[[0, 1, 0, 2, 1]],
        label_N=pool.label_N[[0, 1, 0, 2, 1]],
        id_N=np.array([3, 5, 8, 9, 11]),
    )
    verdict = filter_pool(twice, [ExactDuplicates()])
    assert verdict.keep_N.tolist() == [True, True, False, True, False]
    assert set(verdict.reasons) == {8, 11}
    assert "id 3" in verdict.reasons[8] and "duplicates" in verdict.reasons[8]
    assert filter_pool(twice, []).keep_N.all() and not filter_pool(twice, []).reasons


def test_filters_that_keep_nothing_are_refused():
    class Nothing:
        name = "nothing"

        def keep(self, evidence: Evidence) -> Verdict:
            none = torch.zeros(len(evidence.ids_N), dtype=torch.bool)
            return Verdict(keep_N=none, reasons={})

    with pytest.raises(ConfigError, match=r"keep no example; choose fewer --selection\.filters"):
        filter_pool(problem().parts.pool, [Nothing()])
