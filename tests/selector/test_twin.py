"""What the selector chooses is what the strategy chooses from explicit factors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import raysubset as rs
from raysubset.core.lookahead import STEP_GRID
from raysubset.core.quotas import class_quotas
from raysubset.learn.embedded import EmbeddingFiles
from raysubset.selecting.here import select_here
from tests.oracles import Plan, Problem, greedy
from tests.selecting.points import of_files
from tests.selector.tables import by_hand, real, table

ESTIMATORS = {
    "default": None,
    "alone": LogisticRegression(max_iter=1000),
    "without bias": LogisticRegression(fit_intercept=False, max_iter=1000),
    "saga": LogisticRegression(solver="saga", max_iter=4000),
    "l1": LogisticRegression(solver="saga", l1_ratio=1, max_iter=4000),
    "polynomial": make_pipeline(
        StandardScaler(), PolynomialFeatures(2), LogisticRegression(max_iter=1000)
    ),
    "narrow": make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
    "nested": make_pipeline(StandardScaler(), make_pipeline(PCA(4), LogisticRegression())),
}
STRATEGIES = [
    rs.Glister(),
    rs.Glister(step_size=2.0, balance="none"),
    rs.Glister(gradient="bias", balance="equal"),
    rs.Glister(normalize=True, picks=rs.Blocks(4), balance="pool"),
    rs.Glister(picks=rs.Stochastic(0.2)),
    rs.Glister(candidates=2.0, regularizer=rs.RandomFill(0.3)),
    rs.Glister(regularizer=rs.FacilityLocation(0.1)),
]


def same(selector: Any, expected: rs.Selection) -> None:
    assert selector.ids_.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(selector.gains_, expected.gains, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("classes", [2, 4])
def test_any_linear_classifier_gives_the_factors(name: str, classes: int):
    X, y = table(classes=classes)
    selector = rs.SubsetSelector(rs.Glister(), budget=20, estimator=ESTIMATORS[name]).fit(X, y)
    same(selector, by_hand(selector, X, y, 20))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("classes", [2, 3])
def test_any_strategy_chooses_as_from_explicit_factors(strategy: Any, classes: int):
    X, y = table(classes=classes, seed=2)
    selector = rs.SubsetSelector(strategy, fraction=0.1, seed=5).fit(X, y)
    same(selector, by_hand(selector, X, y, int(0.1 * (len(y) - len(selector.validation_ids_)))))


def test_a_stochastic_fit_of_two_classes_gives_them_too():
    X, y = table(classes=2)
    model = SGDClassifier(loss="log_loss", max_iter=50, tol=None)
    selector = rs.SubsetSelector(rs.Glister(), budget=20, estimator=model).fit(X, y)
    same(selector, by_hand(selector, X, y, 20))


def test_so_does_a_cross_validated_one():
    X, y = table()
    model = LogisticRegressionCV(
        Cs=2, cv=2, l1_ratios=(0,), use_legacy_attributes=False, scoring="neg_log_loss"
    )
    selector = rs.SubsetSelector(
        rs.Glister(), budget=20, estimator=make_pipeline(StandardScaler(), model)
    ).fit(X, y)
    same(selector, by_hand(selector, X, y, 20))


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_greedy_by_its_definition(classes: int):
    X, y = table(rows=70, classes=classes, seed=4)
    plan = rs.Glister(step="sum", step_size=0.5)
    selector = rs.SubsetSelector(plan, budget=9, estimator=LogisticRegression()).fit(X, y)
    held, model = selector.validation_ids_, selector.estimator_
    pool = np.setdiff1d(np.arange(70), held)
    zeros = np.zeros_like(model.coef_[:1]), np.zeros(1)
    twos = classes == 2  # the other form of a sigmoid: zeros, then the row
    problem = Problem(
        embedding_NH=X[pool],
        label_N=y[pool],
        ids_N=pool,
        embedding_VH=X[held],
        label_V=y[held],
        weight_CH=np.concatenate([zeros[0], model.coef_]) if twos else model.coef_,
        bias_C=np.concatenate([zeros[1], model.intercept_]) if twos else model.intercept_,
    )
    counts = [np.bincount(y[rows], minlength=classes).tolist() for rows in (pool, held)]
    quota = class_quotas("validation", 9, *counts)
    ids, gains = greedy(problem, Plan(sizes=[1] * 9, step=0.5, quota_C=quota))
    assert selector.ids_.tolist() == ids
    np.testing.assert_allclose(selector.gains_, gains, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_command_chooses_the_same_ids_from_the_same_head(tmp_path: Path, seed: int):
    X, y = table(rows=400, features=8, classes=3)
    X = X.astype(np.float32)
    model = LogisticRegression().fit(X, y)
    np.savez(tmp_path / "rows.npz", embeddings=X, labels=y)
    np.savez(tmp_path / "head.npz", weight=model.coef_, bias=model.intercept_)
    files = EmbeddingFiles(embeddings=str(tmp_path / "rows.npz"), head=str(tmp_path / "head.npz"))
    ready = of_files(files, selection__fraction=0.1, seed=seed, data__validation=0.2)
    selector = rs.SubsetSelector(
        validation_fraction=0.2, estimator=FrozenEstimator(model), seed=seed
    ).fit(X, y)
    assert selector.ids_.tolist() == select_here(ready).ids.tolist()
    assert selector.validation_ids_.tolist() == ready.problem.parts.validation.id_N.tolist()


@pytest.mark.parametrize("name", ["adult", "letter", "dna"])
def test_on_real_tables_it_chooses_as_from_explicit_factors(
    shared_data: Path, name: str, record_property: Any
):
    """Accuracies beside random are recorded, not claimed."""
    X, y = real(shared_data, name, rows=2400)
    chosen = {}
    for strategy in (rs.Glister(), rs.Random(balance="validation")):
        selector = rs.SubsetSelector(strategy, fraction=0.1).fit(X, y)
        chosen[strategy.name] = selector.ids_
        if strategy.name == "glister":
            same(selector, by_hand(selector, X.astype(np.float64), y, len(selector.ids_)))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        held = selector.validation_ids_
        score = model.fit(X[selector.ids_], y[selector.ids_]).score(X[held], y[held])
        record_property(f"{name}: {strategy.name}, accuracy on validation rows", score)
    assert len(chosen["glister"]) == len(chosen["random"])


def test_the_grid_of_automatic_steps_holds_the_half_of_each_step():
    # why two rows a class choose as one row does: at step_size="auto" too, but at the grid's ends
    assert all(step / 2 in STEP_GRID for step in STEP_GRID[1:])
