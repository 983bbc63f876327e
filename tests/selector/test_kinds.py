"""Tables and labels of any kind choose the same rows."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import raysubset as rs
from tests.selector.tables import table


@pytest.mark.parametrize(
    "named",
    [
        lambda y: np.array(["ant", "bee", "cat"])[y],
        lambda y: np.array(["ant", "bee", "cat"], dtype=object)[y],
        lambda y: np.array([-7, 3, 1000])[y],
        lambda y: y.astype(np.float32),
        lambda y: ["abc"[label] for label in y],
        lambda y: pd.Series(["ant", "bee", "cat"]).iloc[y],
        lambda y: pd.Categorical.from_codes(y, ["ant", "bee", "cat"]),
    ],
)
def test_labels_of_any_type_choose_the_same_rows(named: Any):
    X, y = table()
    selector, plain = (rs.SubsetSelector(budget=20).fit(X, label) for label in (named(y), y))
    assert selector.ids_.tolist() == plain.ids_.tolist()
    labels = selector.classes_[selector.selection_.labels]
    assert labels.tolist() == np.asarray(named(y))[selector.ids_].tolist()


def test_truth_is_a_label_too():
    X, y = table(classes=2)
    selector, plain = (rs.SubsetSelector(budget=20).fit(X, label) for label in (y == 1, y))
    assert selector.ids_.tolist() == plain.ids_.tolist()


@pytest.mark.parametrize(
    "given",
    [
        lambda X: X.tolist(),
        np.asfortranarray,
        lambda X: X.astype(">f8"),
        lambda X: X[:, ::-1][:, ::-1],
        pd.DataFrame,
        lambda X: pd.DataFrame(X, columns=[f"feature {i}" for i in range(X.shape[1])]),
    ],
)
def test_tables_of_any_kind_choose_the_same_rows(given: Any):
    X, y = table()
    selector = rs.SubsetSelector(budget=20).fit(given(X), y)
    assert selector.ids_.tolist() == rs.SubsetSelector(budget=20).fit(X, y).ids_.tolist()
    rows, labels = selector.fit_resample(given(X), y)
    assert np.array_equal(np.asarray(rows), X[selector.ids_])
    assert np.array_equal(labels, y[selector.ids_])


def test_names_of_columns_are_kept_and_asked_of_validation_rows():
    X, y = table()
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    selector = rs.SubsetSelector().fit(frame, y)
    assert selector.feature_names_in_.tolist() == [*"abcdef"] and selector.n_features_in_ == 6
    with pytest.raises(ValueError, match="feature names should match"):
        selector.fit(frame, y, frame.rename(columns={"a": "z"}), y)


@pytest.mark.parametrize("alone", [False, True])
def test_a_fitted_estimator_is_asked_by_the_names_that_it_knows(alone: bool):
    X, y = table()
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    model: Any = LogisticRegression(max_iter=1000)
    model = (model if alone else make_pipeline(StandardScaler(), model)).fit(frame, y)
    named = rs.SubsetSelector(budget=9).fit(frame, y, estimator=model)
    unnamed = model.fit(X, y)
    assert (
        named.ids_.tolist()
        == rs.SubsetSelector(budget=9).fit(X, y, None, None, unnamed).ids_.tolist()
    )
    model.fit(frame, y)
    with pytest.raises(ValueError, match="feature names should match"):
        rs.SubsetSelector(budget=9).fit(frame[[*"fedcba"]], y, estimator=model)


@pytest.mark.parametrize("output", ["pandas", "default"])
def test_what_transformers_give_may_be_a_frame(output: Any):
    X, y = table()
    model = make_pipeline(StandardScaler(), LogisticRegression()).set_output(transform=output)
    chosen = rs.SubsetSelector(budget=9, estimator=model).fit(X, y)
    assert chosen.ids_.tolist() == rs.SubsetSelector(budget=9).fit(X, y).ids_.tolist()


def test_what_transformers_give_may_lie_in_memory_in_any_way():
    X, y = table()
    scaled = StandardScaler().fit_transform(X)
    chosen = []
    for turn in (lambda X: X[:, ::-1], lambda X: X[:, ::-1].copy(), lambda X: X.astype(">f8")):
        model = make_pipeline(FunctionTransformer(turn), LogisticRegression())
        selector = rs.SubsetSelector(budget=20, estimator=model)
        chosen.append(sorted(selector.fit(scaled, y).ids_.tolist()))
    assert chosen[0] == chosen[1] and len(chosen[2]) == 20


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
@pytest.mark.parametrize("strategy", [rs.Glister(), rs.Glister(gradient="bias")], ids=repr)
@pytest.mark.parametrize("alone", [False, True])
def test_sparse_rows_choose_as_dense_ones(kind: Any, strategy: Any, alone: bool):
    X, y = table()
    X = np.where(np.abs(X) > 0.7, X, 0)
    model: Any = LogisticRegression(max_iter=1000)
    model = model if alone else make_pipeline(StandardScaler(with_mean=False), model)
    frozen = FrozenEstimator(model.fit(X, y))
    selector = rs.SubsetSelector(strategy, budget=20, estimator=frozen)
    dense = selector.fit(X, y).ids_.tolist()
    assert selector.fit(kind(X), y).ids_.tolist() == dense
    rows, _ = selector.fit_resample(kind(X), y)
    assert np.array_equal(rows.toarray(), X[dense])
    assert len(rs.SubsetSelector(strategy, budget=20).fit(kind(X), y).ids_) == 20


def test_what_pipelines_take_is_theirs_to_check():
    X, y = table()
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    frame["town"] = np.where(X[:, 0] > 0, "Oslo", "Rome")
    frame.loc[3, "a"] = np.nan
    columns = make_column_transformer(
        (OneHotEncoder(), ["town"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), [*"abcdef"]),
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=1000))
    selector = rs.SubsetSelector(budget=20, estimator=model).fit(frame, y)
    pool = np.setdiff1d(np.arange(len(y)), selector.validation_ids_)
    model.fit(frame.iloc[pool], y[pool])
    embedded = columns.transform(frame)
    by_hand = rs.SubsetSelector(budget=20, estimator=FrozenEstimator(model[-1])).fit(embedded, y)
    assert by_hand.ids_.tolist() == selector.ids_.tolist()


@pytest.mark.parametrize("reduced", [False, True])
def test_so_is_text(reduced: bool):
    y = np.arange(90) % 3
    words = [f"{'red green blue'.split()[label]} {row % 7} word" for row, label in enumerate(y)]
    steps: list[Any] = [CountVectorizer(token_pattern=r"\w+")]
    steps += [TruncatedSVD(4, random_state=0)] if reduced else []
    model = make_pipeline(*steps, LogisticRegression(max_iter=1000))
    for strategy in (rs.Glister(), rs.Glister(gradient="bias"), rs.Random()):
        selector = rs.SubsetSelector(strategy, budget=9, estimator=model)
        chosen, labels = selector.fit_resample(words, y)
        assert chosen == [words[i] for i in selector.ids_]
        assert labels.tolist() == y[selector.ids_].tolist()


@dataclass(frozen=True)
class Typed:
    """Chooses as GLISTER, and tells the type of the factors."""

    found: list[torch.dtype] = field(default_factory=list)
    name: str = "typed"
    needs: frozenset[str] = rs.Glister().needs

    def select(self, ground_set: Any, lookahead: Any, budget: int, key: int = 0) -> Any:
        factors = ground_set.whole().factors
        self.found.extend([factors.residual_NC.dtype, factors.embedding_NH.dtype])
        self.found.extend([lookahead.logits_VC.dtype, lookahead.embedding_VH.dtype])
        return rs.Glister().select(ground_set, lookahead, budget, key)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64])
def test_float32_stays_and_other_numbers_become_float64(kind: Any):
    X, y = table()
    X = (8 * X).astype(kind)
    model = FrozenEstimator(LogisticRegression(max_iter=1000).fit(X, y))
    strategy = Typed()
    ids = rs.SubsetSelector(strategy, budget=20, estimator=model).fit(X, y).ids_
    assert set(strategy.found) == {torch.float32 if kind is np.float32 else torch.float64}
    wide = rs.SubsetSelector(budget=20, estimator=model).fit(X.astype(np.float64), y)
    assert wide.ids_.tolist() == ids.tolist()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_head_may_know_more_classes_than_the_rows_have(frozen: bool):
    X, y = table(classes=4)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    few = y > 1
    selector = rs.SubsetSelector(budget=10, estimator=FrozenEstimator(model) if frozen else None)
    selector.fit(X[few], y[few], estimator=None if frozen else model)
    assert selector.classes_.tolist() == [0, 1, 2, 3]
    assert set(selector.selection_.labels.tolist()) == {2, 3}
