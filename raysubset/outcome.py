"""The outcome: what a run gave, one row of a table, out of its ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysubset.experiment import Experiment
from raysubset.ledger import Ledger
from raysubset.records import chosen_paths, read_table
from raysubset.schedule import PROXY, Phase, ceiling


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run gave; one row of a table.

    Attributes:
        strategy: its name.
        fraction: as asked for.
        seed: as asked for.
        budget: ids an epoch visits while the strategy selects.
        num_pool: N after filters.
        epochs: passes over a subset (or the pool); a proxy's are not among them.
        selections: how many rounds scored the pool.
        visits: example visits in training, a proxy's not among them.
        distinct: distinct ids trained on, a proxy's not among them.
        validation_accuracy: after the last round.
        tuning_accuracy: after the last round; None without a tuning part.
        test_accuracy: after the last round; the test part is read here and nowhere else.
        test_macro_f1: mean of the classes' F1 on the test part.
        seconds_scoring: forward passes over pool and validation for selection, and a proxy's
            training.
        seconds_greedy: choosing.
        seconds_training: training steps.
        seconds_other: hand-over and waiting for checkpoints, or for a selection beside training;
            evaluation is in none of these.
        speed_up: time of the same epochs over the full pool, at this run's seconds per visit,
            over this run's scoring + greedy + training + other: what it waited for, so that a
            selection beside training (`selection.overlap`) can lift it above its ceiling.
        ceiling: 1 / (f + (1 + V / N) / (3 R)): the passes over pool (or candidates) and validation
            are counted, where a forward pass is taken for a third of a training step.
    """

    strategy: str
    fraction: float
    seed: int
    budget: int
    num_pool: int
    epochs: int
    selections: int
    visits: int
    distinct: int
    validation_accuracy: float
    tuning_accuracy: float | None
    test_accuracy: float
    test_macro_f1: float
    seconds_scoring: float
    seconds_greedy: float
    seconds_training: float
    seconds_other: float
    speed_up: float
    ceiling: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Outcome:
        """Return the outcome written in a result.json."""
        return cls(**{k: result[k] for k in cls.__dataclass_fields__})


def outcome_of(
    experiment: Experiment,
    phases: tuple[Phase, ...],
    ledger: Ledger,
    test: Mapping[str, float],
    commit_s: float,
) -> Outcome:
    """Return what a run's history tells, with the test part's figures.

    `commit_s` is what the end of the run waited for its last round's commit.
    """
    rounds = [line for line in ledger.history() if line["kind"] == "round"]
    second = {
        stage: sum(line.get(f"seconds_{stage}") or 0.0 for line in rounds)
        for stage in ("scoring", "greedy", "training", "handover", "checkpoint_wait")
    }
    proxy_s = sum(r["seconds_training"] for r in rounds if r["strategy"] == PROXY)
    second["training"] -= proxy_s
    second["scoring"] += proxy_s
    other = second["handover"] + second["checkpoint_wait"] + commit_s
    spent = second["scoring"] + second["greedy"] + second["training"] + other
    own = [phase for phase in phases if phase.strategy != PROXY]
    num_pool, visits = int(ledger.identity["pool"]), sum(phase.visits for phase in own)
    selection, epochs = experiment.selection, experiment.training.epochs
    full_s = _visit_s(rounds, own) * num_pool * epochs
    scored = sum(1 for line in rounds if line.get("examples_scored"))
    share = phases[-1].total_visits / (num_pool * epochs)
    rows = sum(line.get("examples_scored") or 0.0 for line in rounds) / max(1, scored)
    return Outcome(
        strategy=selection.strategy,
        fraction=selection.fraction,
        seed=experiment.seed,
        budget=phases[-1].budget,
        num_pool=num_pool,
        epochs=sum(len(phase.epochs) for phase in own),
        selections=scored,
        visits=visits,
        distinct=distinct_ids(ledger),
        validation_accuracy=rounds[-1]["validation_accuracy"],
        tuning_accuracy=rounds[-1].get("tuning_accuracy"),
        test_accuracy=test["accuracy"],
        test_macro_f1=test["macro_f1"],
        seconds_scoring=second["scoring"],
        seconds_greedy=second["greedy"],
        seconds_training=second["training"],
        seconds_other=other,
        speed_up=full_s / spent if spent else math.nan,
        ceiling=ceiling(share, rows=rows, num_pool=num_pool, apart=_apart(experiment)),
    )


def _visit_s(rounds: Sequence[Mapping[str, Any]], own: Sequence[Phase]) -> float:
    """Return seconds per visit; epochs beside a selection are slower, and full training has none.

    Args:
        rounds: the history's.
        own: the phases, but for a proxy's.
    """
    seconds, visits = 0.0, 0
    for phase in own:
        told = rounds[phase.round]
        beside = told.get("seconds_training_beside")
        alone = len(phase.epochs) - (beside is not None)
        seconds += told["seconds_training"] - (beside or 0.0)
        visits += phase.budget * alone
    return seconds / visits


def _apart(experiment: Experiment) -> int:
    """Return the epochs between two selections; goal smaller selects once."""
    once = experiment.selection.goal == "smaller"
    return experiment.training.epochs if once else experiment.selection.select_every


def distinct_ids(ledger: Ledger) -> int:
    """Return how many distinct ids the run trained on."""
    seen: np.ndarray = np.zeros(0, dtype=np.int64)
    for path in chosen_paths(ledger.path):
        seen = np.union1d(seen, read_table(path)["id"].to_numpy())
    return len(seen)
