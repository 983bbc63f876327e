"""Laws of the selector: budgets, held-out rows, seeds and threads."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

import raysubset as rs
from raysubset.core.budget import budget_of
from raysubset.learn.embedded import EmbeddingFiles, read_parts
from tests.selector.tables import table

STRATEGIES = [
    rs.Glister(),
    rs.Glister(picks=rs.Blocks(3), balance="equal"),
    rs.Random(),
    rs.Random(balance="validation"),
    rs.AdaptiveRandom(balance="pool"),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.29, 1.0])
def test_the_budget_is_exact_and_no_held_out_row_is_chosen(strategy: Any, fraction: float):
    X, y = table(rows=150)
    selector = rs.SubsetSelector(strategy, fraction=fraction).fit(X, y)
    held, ids = selector.validation_ids_, selector.ids_
    assert len(ids) == len(set(ids.tolist())) == budget_of(fraction, len(y) - len(held))
    assert not np.isin(ids, held).any() and 0 <= ids.min() and ids.max() < len(y)
    exact = rs.SubsetSelector(strategy, fraction=0.9, budget=len(ids)).fit(X, y)
    assert exact.ids_.tolist() == ids.tolist()


def test_full_chooses_every_row_that_is_not_held_out():
    X, y = table()
    selector = rs.SubsetSelector(rs.Full(), fraction=0.1).fit(X, y)
    union = np.concatenate([selector.ids_, selector.validation_ids_])
    assert np.sort(union).tolist() == list(range(len(y)))


@pytest.mark.parametrize("share", [0.1, 0.25])
@pytest.mark.parametrize("seed", [0, 7])
def test_the_rows_held_out_are_those_of_the_command(tmp_path: Any, share: float, seed: int):
    X, y = table(rows=200, classes=5, features=8)
    np.savez(tmp_path / "rows.npz", embeddings=X, labels=y)
    files = EmbeddingFiles(embeddings=str(tmp_path / "rows.npz"))
    parts = read_parts(files, None, share=share, on_bad_row="refuse", seed=seed)
    every = [rs.SubsetSelector(s, validation_fraction=share, seed=seed) for s in STRATEGIES]
    held = {tuple(selector.fit(X, y).validation_ids_.tolist()) for selector in every}
    assert held == {tuple(parts.validation.id_N.tolist())}
    assert len(set(y[list(*held)].tolist())) == 5


def test_rows_of_ones_own_leave_every_row_to_choose_from():
    X, y = table(rows=300)
    selector = rs.SubsetSelector(fraction=1.0).fit(X[:200], y[:200], X[200:], y[200:])
    assert sorted(selector.ids_.tolist()) == list(range(200))
    assert len(selector.validation_ids_) == 0
    budget = rs.SubsetSelector(budget=9)
    one, other = (budget.fit(X[:200], y[:200], X[k:], y[k:]).ids_.tolist() for k in (200, 260))
    assert one != other, "they drive the choice"


class Recorded(LogisticRegression):
    """Remembers what it was fitted on, outside of itself: it is cloned."""

    seen: list[np.ndarray] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        self.seen.append(np.array(X))
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("own", [False, True])
def test_no_validation_row_is_ever_fitted_on(own: bool):
    X, y = table()
    Recorded.seen.clear()
    validation = (X[200:], y[200:]) if own else ()
    N = 200 if own else len(y)
    model = make_pipeline(StandardScaler(), Recorded())
    selector = rs.SubsetSelector(estimator=model).fit(X[:N], y[:N], *validation)
    pool = np.setdiff1d(np.arange(N), selector.validation_ids_)
    [seen] = Recorded.seen
    assert np.array_equal(seen, StandardScaler().fit_transform(X[pool]))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_seed_is_a_choice_and_another_seed_another(strategy: Any):
    X, y = table()
    first, again, other = (
        rs.SubsetSelector(strategy, seed=seed).fit(X, y) for seed in (1, np.int64(1), 2)
    )
    assert first.ids_.tolist() == again.ids_.tolist()
    assert first.gains_.tobytes() == again.gains_.tobytes()
    assert first.ids_.tolist() != other.ids_.tolist()
    assert first.validation_ids_.tolist() != other.validation_ids_.tolist()


class Watchful(BaseEstimator, TransformerMixin):
    """Tells how many threads each library of the process may use while it is fitted."""

    threads: list[int] = []  # noqa: RUF012

    def fit(self, X: Any, y: Any = None) -> Any:
        self.threads.extend(pool["num_threads"] for pool in threadpool_info())
        self.threads.append(torch.get_num_threads())
        return self

    def transform(self, X: Any) -> Any:
        return X


def test_fit_and_choice_run_on_one_thread_and_leave_the_process_as_it_was():
    X, y = table(rows=1500, features=30)
    estimator = make_pipeline(Watchful(), StandardScaler(), LogisticRegression())
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with threadpool_limits(limits=count):
                Watchful.threads.clear()
                pools = [pool["num_threads"] for pool in threadpool_info()]
                found.append(rs.SubsetSelector(budget=99, estimator=estimator).fit(X, y))
                assert set(Watchful.threads) == {1} and len(Watchful.threads) > 1
                assert [pool["num_threads"] for pool in threadpool_info()] == pools
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    one, three = found
    assert one.ids_.tolist() == three.ids_.tolist()
    assert one.gains_.tobytes() == three.gains_.tobytes()


def test_no_global_random_state_is_read_or_changed():
    X, y = table(classes=2)
    estimator = make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=None))
    chosen = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        states = repr(np.random.get_state()), random.getstate()  # noqa: NPY002
        torch_state = torch.get_rng_state()
        chosen.append(rs.SubsetSelector(estimator=estimator).fit(X, y))
        assert (repr(np.random.get_state()), random.getstate()) == states  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(chosen[0].estimator_[-1].coef_, chosen[1].estimator_[-1].coef_)
    assert chosen[0].ids_.tolist() == chosen[1].ids_.tolist()
    other = rs.SubsetSelector(estimator=estimator, seed=1).fit(X, y)
    fixed = estimator.set_params(sgdclassifier__random_state=4)
    own = rs.SubsetSelector(estimator=fixed).fit(X, y).estimator_[-1]
    assert own.random_state == 4
    assert other.estimator_[-1].random_state != chosen[0].estimator_[-1].random_state


def test_what_reads_no_model_fits_none():
    X, y = table()
    forest = RandomForestClassifier()
    selector = rs.SubsetSelector(rs.Random(), estimator=forest).fit(X, y)
    assert selector.estimator_ is None and not hasattr(forest, "estimators_")
    assert np.isnan(selector.gains_).all() and (selector.weights_ == 1).all()
