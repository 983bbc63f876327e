"""Controls that train on the validation rows: what validation labels are worth as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysubset.cluster.comparing import plan_comparison
from raysubset.errors import ConfigError
from raysubset.learn.parts import Parts, trained_on_validation
from raysubset.local_run import run_local
from raysubset.preparation import for_strategy
from raysubset.records import read_table
from tests.small_runs import prepared

BOTH, ALONE = "full-validation-compressed", "validation-only"


def trained_ids(folder: Path) -> np.ndarray:
    tables = [read_table(p) for p in sorted(folder.glob("rounds/*/selection.parquet"))]
    return np.unique(np.concatenate([table["id"].to_numpy() for table in tables]))


@pytest.mark.parametrize("strategy", [BOTH, ALONE])
def test_they_visit_as_often_as_the_strategy_and_only_their_rows(strategy: str, tmp_path: Path):
    glister = prepared()
    own = prepared(selection__strategy=strategy)
    parts = glister.problem.parts
    outcome = run_local(own, tmp_path / "run")
    assert outcome.visits == glister.phases[-1].total_visits
    assert outcome.num_pool == parts.pool.num_examples
    wanted = parts.validation.id_N
    if strategy == BOTH:
        wanted = np.union1d(parts.pool.id_N, wanted)
    assert set(trained_ids(tmp_path / "run")) <= set(wanted.tolist())
    if outcome.visits >= len(wanted):
        np.testing.assert_array_equal(trained_ids(tmp_path / "run"), wanted)
    np.testing.assert_array_equal(own.problem.parts.test.id_N, parts.test.id_N)
    assert own.problem.normalize is not None
    assert (own.problem.normalize.mean == glister.problem.normalize.mean).all()


def test_filters_drop_pool_rows_of_the_union_and_no_validation_row():
    parts = prepared().problem.parts
    keep_N = np.arange(parts.pool.num_examples) % 3 > 0
    union = trained_on_validation(parts, keep_N, alone=False).pool
    wanted = np.union1d(parts.pool.id_N[keep_N], parts.validation.id_N)
    np.testing.assert_array_equal(union.id_N, wanted)
    content, label = union.take(parts.validation.id_N)
    np.testing.assert_array_equal(content, parts.validation.content)
    np.testing.assert_array_equal(label, parts.validation.label_N)


def test_rows_of_a_validation_file_get_ids_of_their_own():
    parts = prepared().problem.parts
    pool = parts.pool
    own_file = Parts(pool=pool, validation=pool.at(np.arange(10)), test=parts.test)
    union = trained_on_validation(own_file, np.ones(pool.num_examples, bool), alone=False).pool
    assert union.num_examples == pool.num_examples + 10
    content, label = union.take(pool.id_N)
    np.testing.assert_array_equal(content, pool.content)
    np.testing.assert_array_equal(label, pool.label_N)
    rest = np.setdiff1d(union.id_N, pool.id_N)
    np.testing.assert_array_equal(union.take(rest)[0], pool.content[:10])


def test_another_strategy_after_such_a_control_has_the_pool_again():
    back = for_strategy(prepared(selection__strategy=ALONE), "random")
    assert back.identity == prepared(selection__strategy="random").identity


def test_a_comparison_with_a_strategy_on_other_rows_is_refused():
    with pytest.raises(ConfigError, match="trains on other rows"):
        plan_comparison(prepared(selection__strategy=ALONE))
