"""One row of weights for two classes: what a sigmoid has to do with a softmax.

Letters: N rows, V validation rows, H embedding width.
"""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, SGDClassifier

import raysubset as rs
from raysubset.learn.linear_model import head_of
from raysubset.selector.estimators import LinearModel
from tests.selector.tables import table

FITTED = [
    LogisticRegression(),
    LogisticRegression(fit_intercept=False),
    LogisticRegression(solver="liblinear", intercept_scaling=1),
    SGDClassifier(loss="log_loss", random_state=0),
]


@pytest.mark.parametrize("model", FITTED, ids=repr)
@pytest.mark.parametrize("sparsified", [False, True])
def test_two_rows_give_scikit_learns_probabilities(model, sparsified):
    X, y = table(classes=2)
    model.fit(X, y)
    expected = model.predict_proba(X)
    model = model.sparsify() if sparsified else model
    weight_CH, bias_C = head_of(model)
    assert weight_CH.shape == (2, X.shape[1]) and bias_C.shape == (2,)
    logits = torch.from_numpy(X @ weight_CH.T + bias_C)
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), expected, atol=1e-12)


def test_factors_are_the_gradient_of_the_two_row_head_and_twice_that_of_the_one_row():
    X, y = table(classes=2, rows=30)
    model = LogisticRegression().fit(X, y)
    weight_CH, bias_C = head_of(model)
    factors = rs.GradientFactors.from_embeddings(X, y, weight_CH, bias_C)
    a_NH = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    for row in range(len(X)):
        own = np.outer(factors.residual_NC[row], a_NH[row])
        two, one = (_autograd(model, X[row], y[row], rows) for rows in (2, 1))
        np.testing.assert_allclose(own, two, atol=1e-12)
        np.testing.assert_allclose(own, np.concatenate([-one, one]), atol=1e-12)


def _autograd(model: LogisticRegression, h_H: np.ndarray, label: int, rows: int) -> np.ndarray:
    """The gradient of one row's loss in weight and bias, by autograd. Shape: (rows, H+1)."""
    weight = np.concatenate([model.coef_, model.intercept_[:, None]], axis=1)
    weight = weight if rows == 1 else np.concatenate([np.zeros_like(weight), weight])
    head = torch.tensor(weight, requires_grad=True)
    logits = head @ torch.tensor(np.append(h_H, 1.0))
    target = torch.tensor(float(label)) if rows == 1 else torch.tensor(label)
    functional = torch.nn.functional
    loss = (
        functional.binary_cross_entropy_with_logits(logits[0], target)
        if rows == 1
        else functional.cross_entropy(logits[None], target[None])
    )
    loss.backward()
    assert head.grad is not None
    return head.grad.numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_two_rows_choose_as_one_row_does_at_twice_the_step(seed):
    X, y = table(classes=2, rows=120, seed=seed)
    step = 0.8
    plan = rs.Glister(step="sum", step_size=step, balance="none")
    selector = rs.SubsetSelector(plan, budget=12, estimator=LogisticRegression()).fit(X, y)
    ids, gains = _one_row_greedy(selector, X, y, 2 * step)
    assert selector.ids_.tolist() == ids
    np.testing.assert_allclose(selector.gains_, 2 * np.array(gains), rtol=1e-5)


def _one_row_greedy(selector, X, y, step):
    """GLISTER on the single row of a sigmoid: gradients (p - y) [h; 1]."""
    model, held = selector.estimator_, selector.validation_ids_
    a = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    w = np.append(model.coef_[0], model.intercept_[0])
    residual = 1 / (1 + np.exp(-a @ w)) - y
    ids, gains, open_ids = [], [], sorted(set(range(len(y))) - set(held.tolist()))
    for _ in range(12):
        p = 1 / (1 + np.exp(-a[held] @ w))
        direction = ((p - y[held])[:, None] * a[held]).mean(0)
        gain = {i: float(residual[i] * (a[i] @ direction)) for i in open_ids}
        best = max(open_ids, key=lambda i: gain[i])
        ids.append(best)
        gains.append(gain[best])
        open_ids.remove(best)
        w = w - step * residual[best] * a[best]
    return ids, gains


def test_a_model_whose_probabilities_are_no_softmax_is_told_from_one_whose_are():
    X, y = table(classes=4)
    LinearModel.of(LogisticRegression().fit(X, y)).refuse_another_loss(X)
    rest = SGDClassifier(loss="log_loss", random_state=0).fit(X, y)
    with pytest.raises(rs.RaySubsetError, match="gives other probabilities"):
        LinearModel.of(rest).refuse_another_loss(X)
