"""What cannot be meant is refused before anything is fitted, by name and with the remedy."""

import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

import raysubset as rs
from raysubset.errors import BudgetError, ConfigError, DataError, ModelError
from tests.selector.tables import table

X, Y = table(rows=120, classes=3)
LOG = LogisticRegression()


class Untouched(LogisticRegression):
    """Must not be fitted."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        raise AssertionError("fitted")


@dataclass(frozen=True)
class Remembering:
    """A strategy that looks at what only training sees."""

    name: str = "remembering"
    needs: frozenset[str] = frozenset({"observations"})

    def select(self, *_: Any) -> Any:
        raise AssertionError("asked")


def changed(y: np.ndarray, kind: Any, row: int, value: Any) -> np.ndarray:
    y = y.astype(kind)
    y[row] = value
    return y


OPTIONS = [
    ({"strategy": "glister"}, ConfigError, r"strategy='glister'.*raysubset.Glister\(\)"),
    ({"strategy": rs.Glister}, ConfigError, r"strategy=<class.*raysubset.Glister\(\)"),
    ({"strategy": Remembering()}, ConfigError, "needs observations.*use it in a run"),
    ({"fraction": 0}, BudgetError, r"fraction=0 must lie in \(0, 1\]"),
    ({"fraction": 10}, BudgetError, "did you mean 0.1"),
    ({"fraction": float("nan")}, BudgetError, "fraction=nan"),
    ({"fraction": "0.1"}, BudgetError, "fraction='0.1' must be a number"),
    ({"fraction": None}, BudgetError, "fraction=None must be a number"),
    ({"budget": 0}, BudgetError, "budget=0 must be at least 1"),
    ({"budget": 0.5}, BudgetError, "budget=0.5 must be a whole number.*use a fraction"),
    ({"budget": 121}, BudgetError, "budget=121 is larger than the pool of 1.*ask for at most"),
    ({"budget": 119}, BudgetError, "budget=119 is larger than the pool of 108"),
    ({"seed": None}, ConfigError, "seed=None must be a whole number"),
    ({"seed": 1.0}, ConfigError, "seed=1.0 must be a whole number"),
    ({"seed": np.random.default_rng(0)}, ConfigError, "seed=Generator"),
    ({"validation_fraction": 0}, ConfigError, "validation_fraction=0 must be a share.*X_val"),
    ({"validation_fraction": 1.0}, ConfigError, "validation_fraction=1.0 must be a share"),
    ({"validation_fraction": "0.1"}, ConfigError, "validation_fraction='0.1'"),
    ({"validation_fraction": True}, ConfigError, "validation_fraction=True"),
    ({"validation_fraction": 0.001}, DataError, "0.001 of 120 rows is no row.*at least 0.0083"),
]


@pytest.mark.parametrize(("options", "kind", "said"), OPTIONS)
def test_options_that_mean_nothing(options: dict[str, Any], kind: type[Exception], said: str):
    refused(rs.SubsetSelector(**{"estimator": Untouched(), **options}), (X, Y), kind, said)


def refused(selector: Any, given: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=f"(?s){said}") as caught:
        selector.fit(*given)
    error = caught.value
    assert isinstance(error, rs.RaySubsetError) and isinstance(error, ValueError)
    assert error.exit_code == 2
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error) and str(back) == str(error)
    assert not hasattr(selector, "ids_")


ESTIMATORS = [
    (RandomForestClassifier(), "RandomForestClassifier gives no.*train whatever you like"),
    (make_pipeline(StandardScaler(), RandomForestClassifier()), "RandomForestClassifier gives"),
    (FrozenEstimator(RandomForestClassifier()), "RandomForestClassifier gives no"),
    (make_pipeline(StandardScaler(), "passthrough"), "'passthrough' gives no"),
    (LinearSVC(), "LinearSVC gives no.*its loss is no cross-entropy; give LogisticRegression"),
    (SVC(kernel="linear"), "SVC gives no.*its loss is no cross-entropy"),
    (RidgeClassifier(), "RidgeClassifier gives no.*its loss is no cross-entropy"),
    (SGDClassifier(), r"SGDClassifier\(loss='hinge'\).*give SGDClassifier\(loss='log_loss'\)"),
    (SGDClassifier(loss="modified_huber"), "modified_huber"),
    (SGDClassifier(loss="log_loss"), "sigmoid for each of 3 classes.*give LogisticRegression"),
    (GridSearchCV(LOG, {"C": [1, 2]}), "GridSearchCV gives no.*best_estimator_"),
    (OneVsRestClassifier(LOG), "OneVsRestClassifier gives no"),
    (LogisticRegression, r"LogisticRegression is a class; give LogisticRegression\(\)"),
    ("logistic", "'logistic' gives no"),
    (FrozenEstimator(LogisticRegression()), "frozen before it was fitted; fit it"),
]


@pytest.mark.parametrize(("estimator", "said"), ESTIMATORS)
@pytest.mark.parametrize("at_fit", [False, True])
def test_estimators_that_give_no_factors(estimator: Any, said: str, at_fit: bool):
    if at_fit:
        refused(rs.SubsetSelector(), (X, Y, None, None, estimator), ModelError, said)
    else:
        refused(rs.SubsetSelector(estimator=estimator), (X, Y), ModelError, said)


def test_even_a_fitted_one():
    forest = RandomForestClassifier(n_estimators=2).fit(X, Y)
    given = X, Y, None, None, forest
    refused(rs.SubsetSelector(), given, ModelError, "RandomForestClassifier gives no")
    search = GridSearchCV(LOG, {"C": [1, 2]}, cv=2).fit(X, Y)
    refused(rs.SubsetSelector(), (X, Y, None, None, search), ModelError, "best_estimator_")
    found = rs.SubsetSelector(budget=5).fit(X, Y, estimator=search.best_estimator_)
    assert found.estimator_ is search.best_estimator_


ROWS = [
    ((X, None), "requires y to be passed.*one label a row"),
    ((X, changed(Y, float, 3, np.nan)), r"y contains NaN.*1 rows, first \[3\]"),
    ((X, changed(Y, object, 7, None)), r"y contains NaN, infinity or nothing.*\[7\]"),
    ((X, pd.Series(changed(Y, object, 2, pd.NA), dtype="Int64")), r"first \[2\]"),
    ((X, changed(Y, object, 9, pd.NA)), r"y contains NaN, infinity or nothing.*first \[9\]"),
    ((X, np.full(120, "a")), r"y holds 1 class \('a'\) in 120 rows"),
    ((X, changed(Y, object, 0, "a")), "types int, str, which have no order"),
    ((X[:0], Y[:0]), "y has no rows"),
    ((X[:4], Y[:4]), "0.1 of 4 rows is no row at all.*X_val and y_val"),
    ((X, Y, X, None), "belong together; give both, or neither"),
    ((X, Y, None, Y), "belong together"),
    ((X, Y, X, changed(Y, int, 5, 8)), r"y_val has classes that y lacks: 8 \(1 rows\).*0, 1, 2"),
    ((X, Y, X, changed(Y, object, 5, None)), r"y_val contains NaN.*\[5\]"),
    ((X, Y, X[:0], Y[:0]), "y_val has no rows"),
]


@pytest.mark.parametrize(("given", "said"), ROWS)
def test_rows_that_cannot_be_chosen_from(given: Any, said: str):
    kind = ConfigError if "belong" in said else DataError
    refused(rs.SubsetSelector(estimator=Untouched()), given, kind, said)


@pytest.mark.filterwarnings("ignore:The number of unique classes")  # scikit-learn tells it too
def test_classes_of_a_single_row_each():
    selector = rs.SubsetSelector(estimator=Untouched())
    refused(selector, (X, np.arange(120)), DataError, "every class of y has one row only")


SCIKIT_LEARNS = [
    ((X[:, 0], Y), "Expected 2D array, got 1D array"),
    ((X[None], Y), "Found array with dim 3"),
    ((X, Y[:-1]), "inconsistent numbers of samples"),
    ((changed(X, float, 4, np.inf), Y), "Input X contains infinity"),
    ((changed(X, object, 4, "a"), Y), "could not convert string to float"),
    ((X, X[:, 0]), "Unknown label type: continuous"),
    ((X, np.eye(3)[Y]), "y should be a 1d array"),
    ((X, Y, X[:, :-1], Y), "X has 5 features, but SubsetSelector is expecting 6"),
    ((X, Y, X, Y[:-1]), "inconsistent numbers of samples"),
]


@pytest.mark.parametrize(("given", "said"), SCIKIT_LEARNS)
@pytest.mark.parametrize("strategy", [rs.Glister(), rs.Random()], ids=repr)
def test_what_scikit_learn_refuses_in_its_own_words(strategy: Any, given: Any, said: str):
    with pytest.raises(ValueError, match=said):
        rs.SubsetSelector(strategy, estimator=Untouched()).fit(*given)


def test_a_fitted_estimator_of_other_classes_or_other_columns():
    model = LogisticRegression().fit(X[Y < 2], Y[Y < 2])
    said = rf"y has classes that the fitted estimator lacks: 2 \({(Y == 2).sum()} rows\)"
    refused(rs.SubsetSelector(), (X, Y, None, None, model), DataError, said)
    named = np.array(["0", "1", "2"])[Y]
    whole = LogisticRegression().fit(X, Y)
    said = r"y has classes that the fitted estimator lacks: 0 \(\d+ rows\).*write labels in one way"
    refused(rs.SubsetSelector(), (X, named, None, None, whole), DataError, said)
    narrow = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:, :4], Y)
    with pytest.raises(ValueError, match="X has 6 features, but StandardScaler is expecting 4"):
        rs.SubsetSelector().fit(X, Y, estimator=narrow)


@pytest.mark.parametrize("row", [0, 118])
def test_rows_for_which_the_model_gives_no_number_are_named(row: int):
    steps = FunctionTransformer(np.log), LogisticRegression()
    positive = np.abs(X) + 1
    model = FrozenEstimator(make_pipeline(*steps).fit(positive, Y))
    bad = positive.copy()
    bad[row] = 0.0
    with np.errstate(divide="ignore"):
        given = bad, Y, positive[:50], Y[:50]
        said = rf"NaN or infinity for 1 of 120 rows of X, first \[{row}\]"
        refused(rs.SubsetSelector(estimator=model), given, DataError, said)
        given = positive[:50], Y[:50], bad, Y
        said = rf"NaN or infinity for 1 of 120 rows of X_val, first \[{row}\]"
        refused(rs.SubsetSelector(estimator=model), given, DataError, said)


def test_sparse_rows_that_no_memory_holds_but_not_where_no_embedding_is_read():
    wide = sparse.random_array((120, 6_000_000), density=1e-7, format="csr", rng=0)
    said = "X is sparse, 120 x 6,000,000, and would be 5.8 GB.*TruncatedSVD.*gradient='bias'"
    refused(rs.SubsetSelector(estimator=Untouched()), (wide, Y), DataError, said)
    model = LogisticRegression()
    model.classes_ = np.array([0, 1, 2])
    model.coef_ = np.zeros((3, 6_000_000), dtype=np.float32)
    model.intercept_, model.n_features_in_ = np.array([0.5, 0.0, -0.5]), 6_000_000
    plan = rs.Glister(gradient="bias")
    assert len(rs.SubsetSelector(plan, budget=9).fit(wide, Y, estimator=model).ids_) == 9
    through = FrozenEstimator(make_pipeline(FunctionTransformer(accept_sparse=True), model))
    said = "X as the classifier gets it is sparse"
    refused(rs.SubsetSelector(estimator=through), (wide, Y), DataError, said)
