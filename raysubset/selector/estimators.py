"""A linear classifier of scikit-learn as embeddings and a head.

The last step of a pipeline is the head; the steps before it give the embeddings.
Letters: N rows, V validation rows, C classes, H embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted
from torch import from_numpy, softmax

from raysubset.core.keys import derive_key
from raysubset.errors import DataError, ModelError
from raysubset.learn.linear_model import head_of

MOST_STEPS = 1000
DENSE_BYTES = 4_096_000_000
"""Of sparse rows, made dense: as much as a run holds of embeddings in memory."""
_LOOKED_AT = 256
_NEAR = 1e-3
"""How far probabilities may lie apart: rounding in float32 gives 1e-6, another loss 0.1."""
_LINEAR = "LogisticRegression, LogisticRegressionCV or SGDClassifier(loss='log_loss')"
_SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")
_OTHER_LOSS = ("LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron", "SVC", "NuSVC")


def default_estimator(X: Any) -> Pipeline:
    """Return what gives the factors where nothing is named: standardised logistic regression."""
    scaler = StandardScaler(with_mean=not issparse(X))  # a mean would make every zero a number
    return make_pipeline(scaler, LogisticRegression(max_iter=MOST_STEPS))


def steps_of(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transformers before the last step, in order, and the last step itself."""
    transformers: list[Any] = []
    while isinstance(estimator, FrozenEstimator | Pipeline):
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
            continue
        if len(estimator) > 1:
            transformers.append(estimator[:-1])
        estimator = estimator[-1]
    return transformers, estimator


def takes_any_table(estimator: Any) -> bool:
    """Return whether transformers come first, so that X is theirs to check: text, gaps, frames."""
    return estimator is not None and bool(steps_of(estimator)[0])


def is_fitted(estimator: Any) -> bool:
    """Return whether it can be used without a fit."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def refuse_other(estimator: Any) -> None:
    """Refuse what is no linear classifier trained on cross-entropy, by name and with the remedy.

    Raises:
        ModelError: another classifier, another loss, or a frozen one that is not fitted.
    """
    last = steps_of(estimator)[1]
    if isinstance(last, type):
        raise ModelError(f"estimator={last.__name__} is a class; give {last.__name__}().")
    if isinstance(last, SGDClassifier) and last.loss != "log_loss":
        raise ModelError(
            f"estimator: SGDClassifier(loss={last.loss!r}) has no cross-entropy, of which the "
            "factors p - y are the gradient; give SGDClassifier(loss='log_loss')."
        )
    if not isinstance(last, LogisticRegression | SGDClassifier):
        raise ModelError(
            f"estimator: {_named(last)} gives no gradient factors: {_cause(type(last).__name__)}"
        )
    if isinstance(estimator, FrozenEstimator) and not is_fitted(estimator):
        raise ModelError(
            f"estimator: FrozenEstimator({_named(last)}) is frozen before it was fitted; fit it "
            "first, or give it without FrozenEstimator."
        )


def _named(last: Any) -> str:
    return repr(last) if last is None or isinstance(last, str) else type(last).__name__


def _cause(name: str) -> str:
    if name in _SEARCHES:
        return "it is a search; give what it found, its best_estimator_."
    if name in _OTHER_LOSS:
        return f"its loss is no cross-entropy; give {_LINEAR}."
    return (
        f"it is no linear classifier with cross-entropy. Choose by {_LINEAR}, alone or as the last "
        "step of a Pipeline, and train whatever you like on the chosen rows."
    )


def refuse_one_against_the_rest(estimator: Any, num_classes: int) -> None:
    """Refuse a head that is a sigmoid a class: its gradient is not a softmax's.

    Raises:
        ModelError: SGDClassifier with three classes or more.
    """
    last = steps_of(estimator)[1]
    if num_classes > 2 and isinstance(last, SGDClassifier):
        raise _no_softmax(last, f"fits a sigmoid for each of {num_classes} classes")


def _no_softmax(last: Any, what: str) -> ModelError:
    return ModelError(
        f"estimator: {type(last).__name__} {what}, not a softmax, and the factors p - y are those "
        "of a softmax; give LogisticRegression (solver='saga' takes stochastic steps too)."
    )


def refuse_wide(shape: tuple[int, int], item_bytes: int, what: str) -> None:
    """Refuse sparse rows that are too large once they are dense.

    Raises:
        DataError: above DENSE_BYTES; names the size.
    """
    num_bytes = shape[0] * shape[1] * item_bytes
    if num_bytes > DENSE_BYTES:
        raise DataError(
            f"{what} is sparse, {shape[0]:,} x {shape[1]:,}, and would be {num_bytes / 1e9:,.1f} "
            f"GB as dense embeddings (limit {DENSE_BYTES / 1e9:.1f} GB); put a TruncatedSVD before "
            "the classifier in a Pipeline, choose by Glister(gradient='bias'), which reads no "
            "embeddings, or give it dense."
        )


def fitted(template: Any, X: Any, y: Any, seed: int) -> Any:
    """Return a clone that was fitted to these rows; a frozen one as it is.

    Whatever is random in it and has no random_state gets one from the seed: nothing is drawn from
    numpy's global state.
    """
    model: Any = clone(template)
    unset = {
        name: derive_key(seed, "estimator", name) % 2**31
        for name, value in sorted(model.get_params(deep=True).items())
        if value is None and name.split("__")[-1] == "random_state"
    }
    return model.set_params(**unset).fit(X, y) if unset else model.fit(X, y)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearModel:
    """A fitted estimator as embeddings and a head.

    Attributes:
        transformers: what makes embeddings of rows, one after the other.
        classifier: the last step.
        weight_CH: its weight, one row a class.
        bias_C: its bias.
    """

    transformers: list[Any]
    classifier: Any
    weight_CH: NDArray[np.floating]
    bias_C: NDArray[np.floating]

    @classmethod
    def of(cls, estimator: Any) -> LinearModel:
        """Return the parts of a fitted estimator."""
        transformers, last = steps_of(estimator)
        weight_CH, bias_C = head_of(last)
        return cls(transformers=transformers, classifier=last, weight_CH=weight_CH, bias_C=bias_C)

    @property
    def classes(self) -> NDArray[Any]:
        """The labels of the head's rows. Shape: (C,)."""
        return np.asarray(self.classifier.classes_)

    def embedded(self, rows: Any) -> Any:
        """Return what the classifier is given for rows: an array, a frame or a sparse matrix."""
        for transformer in self.transformers:
            rows = transformer.transform(rows)
        return rows

    def logits(self, embedded: Any) -> NDArray[np.floating]:
        """Return the head's output, in the embeddings' type. Shape: (N, C)."""
        numbers = _floating(embedded) if issparse(embedded) else dense(embedded)
        weight_CH = self.weight_CH.astype(numbers.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # such rows are refused by name
            product_NC = safe_sparse_dot(numbers, weight_CH.T, dense_output=True)
        return product_NC + self.bias_C.astype(numbers.dtype)

    def refuse_another_loss(self, embedded: Any) -> None:
        """Refuse a classifier whose own probabilities are not the softmax of its logits.

        Raises:
            ModelError: they differ by more than rounding; tells by how much.
        """
        look = _safe_indexing(embedded, np.arange(min(_LOOKED_AT, embedded.shape[0])))
        own_VC = np.asarray(self.classifier.predict_proba(look))
        logits_VC = self.logits(look).astype(np.float64)
        apart = float(np.abs(own_VC - softmax(from_numpy(logits_VC), dim=1).numpy()).max())
        if not apart <= _NEAR:
            raise _no_softmax(self.classifier, f"gives other probabilities (by up to {apart:.2g})")


def dense(embedded: Any, what: str = "X") -> NDArray[np.floating]:
    """Return embeddings as a dense array, float32 where they are, else float64. Shape: (N, H).

    Raises:
        DataError: sparse rows that are too large; see `refuse_wide`.
    """
    if issparse(embedded):
        embedded = _floating(embedded)
        refuse_wide(embedded.shape, embedded.dtype.itemsize, what)
        embedded = embedded.toarray()
    # one layout, whatever the transformers gave: products of another have other last bits
    return np.ascontiguousarray(_floating(np.asarray(embedded)))


def _floating(array: Any) -> Any:
    """Return float32 as it is, and any other numbers as float64."""
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)
