"""scikit-learn's own checks, and what an estimator is expected to do beside others."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import raysubset as rs
from tests.selector.tables import table

# All checks pass: none is left out.
CHECKED = [
    rs.SubsetSelector(),
    rs.SubsetSelector(rs.Random(balance="validation"), budget=1, seed=3),
    rs.SubsetSelector(rs.Full()),
    rs.SubsetSelector(
        rs.Glister(gradient="bias"), fraction=0.5, estimator=LogisticRegression(max_iter=1000)
    ),
    rs.SubsetSelector(
        rs.Glister(picks=rs.Blocks(3)),
        validation_fraction=0.3,
        estimator=make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    ),
]


@parametrize_with_checks(CHECKED)
def test_scikit_learns_checks(estimator: Any, check: Any):
    check(estimator)


def test_it_is_cloned_told_and_set_like_any_estimator():
    model = make_pipeline(StandardScaler(), LogisticRegression(C=2.0))
    selector = rs.SubsetSelector(rs.Glister(step_size=2.0), fraction=0.3, estimator=model, seed=4)
    copy = clone(selector)
    assert copy.get_params(deep=False).keys() == {
        "strategy",
        "fraction",
        "budget",
        "validation_fraction",
        "estimator",
        "seed",
    }
    assert copy.strategy == selector.strategy and copy.fraction == 0.3 and copy.seed == 4
    assert (
        copy.estimator is not model and copy.get_params()["estimator__logisticregression__C"] == 2
    )
    copy.set_params(estimator__logisticregression__C=9.0, fraction=0.1)
    assert (copy.estimator[-1].C, model[-1].C, copy.fraction) == (9.0, 2.0, 0.1)
    X, y = table()
    ids = selector.fit(X, y).ids_
    assert clone(selector).fit(X, y).ids_.tolist() == ids.tolist()
    assert not hasattr(clone(selector), "ids_")


def test_a_fitted_one_survives_pickling():
    X, y = table()
    selector = rs.SubsetSelector(budget=9).fit(X, y)
    back = pickle.loads(pickle.dumps(selector))
    assert back.ids_.tolist() == selector.ids_.tolist()
    assert back.selection_.gains.tobytes() == selector.selection_.gains.tobytes()
    assert back.fit(X, y).ids_.tolist() == selector.ids_.tolist()


def test_it_stands_last_in_a_pipeline_and_sees_what_the_steps_before_give():
    X, y = table()
    pipeline = make_pipeline(MinMaxScaler(), rs.SubsetSelector(budget=15, seed=1)).fit(X, y)
    alone = rs.SubsetSelector(budget=15, seed=1).fit(MinMaxScaler().fit_transform(X), y)
    assert pipeline[-1].ids_.tolist() == alone.ids_.tolist()


def test_rows_of_ones_own_reach_it_there_by_the_steps_name():
    X, y = table()
    own = X[:40], y[:40]
    pipeline = Pipeline([("scale", MinMaxScaler()), ("choose", rs.SubsetSelector(budget=15))])
    scaled = MinMaxScaler().fit(X[40:])
    pipeline.fit(X[40:], y[40:], choose__X_val=scaled.transform(own[0]), choose__y_val=own[1])
    assert len(pipeline[-1].validation_ids_) == 0
    alone = rs.SubsetSelector(budget=15)
    alone.fit(scaled.transform(X[40:]), y[40:], scaled.transform(own[0]), own[1])
    assert pipeline[-1].ids_.tolist() == alone.ids_.tolist()


def test_scikit_learn_refuses_it_before_another_step():
    X, y = table()
    pipeline = make_pipeline(rs.SubsetSelector(), LogisticRegression())
    with pytest.raises(TypeError, match="should be transformers"):
        pipeline.fit(X, y)


def test_chosen_rows_come_back_in_the_order_of_choice():
    X, y = load_digits(return_X_y=True)
    X, names = X[:300], np.array([f"digit {label}" for label in y[:300]])
    chosen, labels = (selector := rs.SubsetSelector(budget=30)).fit_resample(X, names)
    assert np.array_equal(chosen, X[selector.ids_])
    assert labels.tolist() == [names[i] for i in selector.ids_]
    assert selector.mask_.sum() == 30 and selector.mask_[selector.ids_].all()


def test_what_is_no_linear_classifier_is_trained_on_the_chosen_rows():
    X, y = table()
    chosen, labels = rs.SubsetSelector(budget=60).fit_resample(X, y)
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(chosen, labels)
    assert set(forest.classes_) == set(y)


def test_a_frozen_estimator_is_used_as_it_is_and_clones_keep_it():
    X, y = table()
    model = LogisticRegression(C=0.01).fit(X[:100], y[:100])
    before = model.coef_.copy()
    selector = clone(rs.SubsetSelector(budget=9, estimator=FrozenEstimator(model)))
    selector.fit(X, y)
    assert selector.estimator_.estimator is model and np.array_equal(model.coef_, before)
    given = rs.SubsetSelector(budget=9).fit(X, y, estimator=model)
    assert given.estimator_ is model and given.ids_.tolist() == selector.ids_.tolist()


def test_another_estimator_is_cloned_and_fitted_anew():
    X, y = table()
    model = LogisticRegression(C=0.01).fit(X[:30], y[:30])
    before = model.coef_.copy()
    selector = rs.SubsetSelector(budget=9, estimator=model).fit(X, y)
    pool = np.setdiff1d(np.arange(len(y)), selector.validation_ids_)
    again = clone(model).fit(X[pool], y[pool])
    assert np.array_equal(selector.estimator_.coef_, again.coef_)
    assert np.array_equal(model.coef_, before)
    unfitted = rs.SubsetSelector(budget=9).fit(X, y, estimator=clone(model))
    assert unfitted.ids_.tolist() == selector.ids_.tolist()
