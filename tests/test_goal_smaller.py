"""Goal smaller: choose once, keep, train from scratch; and what a fraction must not mean there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysubset.answers import explain
from raysubset.cli import call
from raysubset.errors import ConfigError, RunFolderError
from raysubset.experiment import WHOLE_POOL
from raysubset.learn.learner import Learner
from raysubset.learn.local import train_order
from raysubset.ledger import Ledger
from raysubset.local_run import run_local
from raysubset.records import chosen_paths, read_selection, read_table
from raysubset.report.comparison import write_comparison
from raysubset.schedule import KEPT, PROXY, plan
from tests.small_runs import BLOCKS, Left, bits, experiment, play, prepared

SMALLER: dict[str, Any] = BLOCKS | {"selection__goal": "smaller", "selection__proxy_epochs": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Left:
    return play(prepared(**SMALLER), tmp_path_factory.mktemp("smaller") / "run")[1]


def strategies(left: Left) -> list[str]:
    return [line["strategy"] for line in left.history if line["kind"] == "round"]


def test_a_proxy_sees_the_pool_then_one_choice_is_made_and_kept(run: Left):
    assert strategies(run) == [PROXY, PROXY, "glister", KEPT, KEPT]
    pool = prepared(**SMALLER).problem.parts.pool.id_N.tolist()
    assert sorted(run.ids[0]) == sorted(run.ids[1]) == pool
    assert run.ids[2] == run.ids[3] == run.ids[4]
    assert len(set(run.ids[2])) == 36
    assert run.gains[2] == run.gains[4]


def test_training_is_from_scratch_on_the_kept_ids_alone(run: Left):
    """The same ids trained by a learner that never saw a proxy end in the same bits."""
    ready = prepared(**SMALLER)
    learner = Learner(ready.problem, torch.device("cpu"), world=2)
    for phase in ready.phases[2:]:
        path = run.rounds[2] / "selection.parquet"
        kept = read_selection(path, num_pool=144, num_classes=10, round_=phase.round)
        learner.train(train_order(kept, phase), lambda *_: None)
    ours, theirs = learner.weights(), run.weights()
    assert ours.keys() == theirs.keys()
    assert all(bits(ours[name]) == bits(theirs[name]) for name in ours)


def test_the_learning_rate_begins_anew_for_what_is_kept(run: Left, tmp_path: Path):
    random = play(prepared(**SMALLER, selection__strategy="random"), tmp_path / "run")[1]
    rates = [line["lr"] for line in run.history if line["kind"] == "epoch"]
    assert rates[3:] == [line["lr"] for line in random.history if line["kind"] == "epoch"]
    assert rates[2] < max(rates[3:])  # the proxy's own schedule had ended


def test_a_proxy_is_a_cost_of_choosing_and_no_training(run: Left):
    history = Ledger(run.path, experiment(), {}).history()
    rounds = [line for line in history if line["kind"] == "round"]
    training = {name: 0.0 for name in ("proxy", "own")}
    for line in rounds:
        training["proxy" if line["strategy"] == PROXY else "own"] += line["seconds_training"]
    scoring = sum(line["seconds_scoring"] for line in rounds)
    result = json.loads((run.path / "result.json").read_text())
    assert result["seconds_training"] == pytest.approx(training["own"])
    assert result["seconds_scoring"] == pytest.approx(scoring + training["proxy"])
    assert (result["visits"], result["distinct"], result["epochs"]) == (36 * 6, 36, 6)
    assert result["selections"] == 1
    assert result["ceiling"] == pytest.approx(1 / (0.25 + 3 / 6 + (1 + 16 / 144) / (3 * 6)))


def test_an_id_that_only_the_proxy_saw_was_never_chosen(run: Left):
    pool = prepared(**SMALLER).problem.parts.pool.id_N.tolist()
    passed = next(i for i in pool if i not in run.ids[2])
    assert explain(run.path, passed).choices == []
    assert [c.round for c in explain(run.path, run.ids[2][0]).choices] == [2, 3, 4]
    assert len(chosen_paths(run.path)) == 3


def test_every_row_of_a_fraction_visits_as_often(tmp_path: Path):
    visits = {}
    for strategy in ("glister", "random", "random-validation", "validation-only"):
        ready = prepared(**SMALLER, selection__strategy=strategy)
        visits[strategy] = run_local(ready, tmp_path / strategy).visits
    assert set(visits.values()) == {36 * 6}


def test_random_plus_validation_rows_are_those_of_random_and_all_of_validation(tmp_path: Path):
    random = prepared(**SMALLER, selection__strategy="random")
    both = prepared(**SMALLER, selection__strategy="random-validation")
    run_local(random, tmp_path / "run")
    ids = read_table(chosen_paths(tmp_path / "run")[0])["id"].to_numpy()
    parts = random.problem.parts
    wanted = np.union1d(ids, parts.validation.id_N)
    np.testing.assert_array_equal(both.problem.parts.pool.id_N, wanted)
    _, label = both.problem.parts.pool.take(parts.validation.id_N)
    np.testing.assert_array_equal(label, parts.validation.label_N)


def test_the_whole_pool_needs_no_proxy():
    phases = plan(experiment(**SMALLER, selection__fraction=1.0), 144)
    assert [p.strategy for p in phases] == ["glister"] * 3
    assert not any(p.fresh for p in phases)


@pytest.mark.parametrize("strategy", WHOLE_POOL)
def test_what_visits_the_whole_pool_is_refused(strategy: str):
    with pytest.raises(ConfigError, match="visits all of it; use random"):
        experiment(**SMALLER, selection__strategy=strategy)


def test_a_warm_start_is_refused():
    with pytest.raises(ConfigError, match="trains from scratch"):
        experiment(**SMALLER, selection__warm_start=0.5)


def test_a_frontier_refuses_strategies_that_visit_the_whole_pool(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["frontier", "--local", "--goal", "smaller", "--strategies", "glister,adaptive-random"]
    code, _ = call([*words, "--run-dir", str(tmp_path / "f"), "--seeds", "3"])
    told = capsys.readouterr()
    assert code == 2
    assert "random is the control there" in told.err
    assert not (tmp_path / "f").exists()


def test_runs_of_two_goals_are_not_compared(run: Left, tmp_path: Path):
    run_local(prepared(**BLOCKS), tmp_path / "faster")
    with pytest.raises(RunFolderError, match="give runs of one goal"):
        write_comparison(tmp_path / "report", [run.path, tmp_path / "faster"])
