"""`SubsetSelector`: choose rows of a table as scikit-learn fits an estimator.

Letters: N rows of X, V validation rows, K chosen.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, _safe_indexing, get_tags
from sklearn.utils.validation import check_consistent_length, validate_data

from raysubset.errors import ConfigError
from raysubset.selector.choice import Asked, Rows, one_thread
from raysubset.selector.estimators import (
    LinearModel,
    default_estimator,
    fitted,
    is_fitted,
    refuse_one_against_the_rest,
    refuse_other,
    refuse_wide,
    takes_any_table,
)
from raysubset.selector.tables import Table, classes_of, hold_out, labels_of
from raysubset.selector.value_errors import as_value_errors


class SubsetSelector(BaseEstimator):
    """Chooses the rows of X that are worth training on; a linear classifier is the head.

    The gradient of a row is that of the cross-entropy in the head's weights, from factors: the
    residual p - y and the embedding, which is what the classifier is given. The strategy chooses
    by them, behind its own class quotas, as it would for any network.

    Source: Killamsetty et al., "GLISTER", AAAI 2021 (arXiv 2012.10630), Algorithm 2.

    No row that validates can be chosen: where `fit` is given no `X_val`, a share of every class is
    held out by the seed first, whatever the strategy, so that all choose from the same rows.

    The same seed and data give the same ids on a machine, whatever its number of threads: fit and
    choice run on one. For a fit on all of them, give `fit` a fitted estimator.

    scikit-learn's pipelines cannot drop rows, so this is no transformer and can only stand last in
    one. There the steps before it were fitted on all rows of X, the held-out ones too, and do not
    transform `X_val`; put them into `estimator` instead. `fit_resample` is imbalanced-learn's name
    for dropping rows, whose pipelines it may stand in the middle of.

    Args:
        strategy: how to choose: `Glister(...)`, `Random(...)`, `AdaptiveRandom(...)`, `Full()`;
            None for `Glister()`. `Full` does not ask for the budget.
        fraction: K over the number of rows that can be chosen, in (0, 1], rounded down.
        budget: K itself; `fraction` is not asked then.
        validation_fraction: share of the rows that is held out where `fit` gets no `X_val`.
        estimator: a linear classifier with cross-entropy, or a Pipeline that ends with one and
            whose transformers make the embeddings: `LogisticRegression`, `LogisticRegressionCV`,
            `SGDClassifier(loss="log_loss")` of two classes. None for `LogisticRegression` behind a
            `StandardScaler`. It is cloned and fitted on the rows that can be chosen, never on a
            validation row; in a `FrozenEstimator` it is used as it is. Its penalty and
            class weights shape the head and are no part of a row's gradient.
        seed: whole number; every draw is a hash of it. It is no `random_state`: there is no
            generator, nothing of numpy's global state is read, and None is refused. An
            estimator without a `random_state` of its own gets one from it.

    Attributes:
        ids_: int64 (K,), row numbers of X in the order of choice.
        gains_: float32 (K,), what each lowers the validation loss by, to first order and per unit
            step, when it is chosen; NaN for a strategy that scores nothing. Two classes count as
            two rows of weights, which doubles the gains of scikit-learn's single row.
        weights_: float32 (K,), for `sample_weight`; 1 unless a strategy weighs.
        mask_: bool (N,), True for chosen rows.
        validation_ids_: int64 (V,), rows of X that were held out, ascending; empty with `X_val`.
        selection_: the `Selection`, with class numbers (into `classes_`). A `share_of_optimum`
            below 0 among its facts says that the look-ahead overshot: near the optimum of a fit
            the pool's mean gradient is almost 0, and `step_size="auto"` may go to an end of its
            grid; give `Glister(step_size=...)`.
        estimator_: the fitted estimator; None where the strategy reads no model.
        classes_: the labels, in the order of the head's rows.
        n_features_in_: number of features, where X has columns.
        feature_names_in_: their names, where X has names.

    Example:
        >>> import raysubset as rs
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> selector = rs.SubsetSelector(rs.Glister(), fraction=0.1).fit(X, y)
        >>> X_chosen, y_chosen = X[selector.ids_], y[selector.ids_]
        >>> len(y_chosen), len(selector.validation_ids_)
        (161, 179)
    """

    def __init__(
        self,
        strategy: Any = None,
        *,
        fraction: float = 0.1,
        budget: int | None = None,
        validation_fraction: float = 0.1,
        estimator: Any = None,
        seed: int = 0,
    ) -> None:
        self.strategy = strategy
        self.fraction = fraction
        self.budget = budget
        self.validation_fraction = validation_fraction
        self.estimator = estimator
        self.seed = seed

    def fit(
        self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, estimator: Any = None
    ) -> Self:
        """Choose rows of X.

        Args:
            X: (N, F), array, DataFrame or sparse matrix; where the estimator is a Pipeline with
                transformers, whatever these take.
            y: (N,), one class a row: numbers, text, booleans.
            X_val: (V, F), rows that drive the choice; None to hold out a share of X.
            y_val: (V,), their labels, of the classes of y.
            estimator: instead of the one at construction. If it is fitted, it is used as it is:
                then mind that it has not seen the validation rows, whose residuals would be too
                small.

        Raises:
            RaySubsetError, which is a ValueError too: options, rows, labels or an estimator that
                cannot be used; before anything is fitted, wherever it can be seen before.
        """
        with as_value_errors(), one_thread():
            asked = self._asked()
            template, as_it_is = self._template(estimator, asked)
            whole = self._table(X, y, template, reset=True)
            own = self._own_validation(X_val, y_val, template)
            classes = _classes(whole, template, as_it_is, asked)
            pool, validation = _parts(whole, own, classes, asked)
            asked.size(len(pool.ids_N))
            model = _model(template, as_it_is, pool, asked)
            rows = [_rows(table, model, len(classes), asked) for table in (pool, validation)]
            self.selection_ = asked.chosen(*rows)
        self.estimator_, self.classes_ = model, classes
        self.validation_ids_ = np.zeros(0, dtype=np.int64) if own else validation.ids_N
        self._keep(len(whole.label_N))
        return self

    def fit_resample(
        self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, estimator: Any = None
    ) -> tuple[Any, Any]:
        """Choose rows of X and return them with their labels, in the order of choice.

        See `fit`. Returns (X[ids_], y[ids_]), each of the type that was given.
        """
        self.fit(X, y, X_val, y_val, estimator)
        return _safe_indexing(_by_row(X), self.ids_), _safe_indexing(y, self.ids_)

    def __sklearn_tags__(self) -> Tags:
        """Return what scikit-learn may expect: labels, and X as the estimator takes it."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        if takes_any_table(self.estimator):
            tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def _asked(self) -> Asked:
        return Asked.checked(
            strategy=self.strategy,
            fraction=self.fraction,
            budget=self.budget,
            validation_fraction=self.validation_fraction,
            seed=self.seed,
        )

    def _keep(self, num_rows: int) -> None:
        selection = self.selection_
        self.ids_, self.gains_ = selection.ids, selection.gains
        ones = np.ones(len(selection.ids), dtype=np.float32)
        self.weights_ = ones if selection.weights is None else selection.weights
        self.mask_ = selection.mask(num_rows)

    def _template(self, estimator: Any, asked: Asked) -> tuple[Any, bool]:
        """Return the estimator, None for the default one, and whether it is used as it is."""
        given = estimator is not None
        template = estimator if given else self.estimator
        if template is None or not asked.reads_model:
            return template, False
        refuse_other(template)
        return template, isinstance(template, FrozenEstimator) or (given and is_fitted(template))

    def _table(self, X: Any, y: Any, template: Any, *, reset: bool) -> Table:
        """Return checked rows; those that a pipeline's transformers take are theirs to check."""
        names = ("X", "y") if reset else ("X_val", "y_val")
        label_N = labels_of(y, names[1])
        checks: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        if takes_any_table(template):
            checks = {"skip_check_array": True}
        rows = validate_data(self, X, reset=reset, **checks)
        rows = X if hasattr(X, "columns") else rows  # the estimator looks at names too
        check_consistent_length(rows, label_N)
        return Table.whole(_by_row(rows), label_N, names[0])

    def _own_validation(self, X_val: Any, y_val: Any, template: Any) -> Table | None:
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ConfigError("X_val and y_val belong together; give both, or neither.")
        return self._table(X_val, y_val, template, reset=False)


def _by_row(X: Any) -> Any:
    """Return X so that rows can be taken of it: not every sparse format gives them."""
    return X.tocsr() if issparse(X) else X


def _classes(whole: Table, template: Any, as_it_is: bool, asked: Asked) -> NDArray[Any]:
    """Return the labels in the order of the head's rows, once the estimator can have them."""
    classes = classes_of(whole.label_N)
    if not asked.reads_model:
        return classes
    if asked.reads_embeddings and issparse(whole.X) and not takes_any_table(template):
        refuse_wide(whole.X.shape, whole.X.dtype.itemsize, whole.name)
    if as_it_is:
        classes = LinearModel.of(template).classes
    refuse_one_against_the_rest(template, len(classes))
    return classes


def _parts(
    whole: Table, own: Table | None, classes: NDArray[Any], asked: Asked
) -> tuple[Table, Table]:
    """Return the rows that can be chosen, and those that validate."""
    whole = whole.with_classes(classes, "the fitted estimator")
    if own is not None:
        return whole, own.with_classes(classes, "y")
    held = hold_out(whole.number_N, len(classes), asked.share, asked.seed)
    return whole.at(np.setdiff1d(whole.ids_N, held)), whole.at(held)


def _model(template: Any, as_it_is: bool, pool: Table, asked: Asked) -> Any:
    """Return the fitted estimator; None where nothing is read of it."""
    if not asked.reads_model:
        return None
    if as_it_is:
        return template
    template = default_estimator(pool.X) if template is None else template
    return fitted(template, pool.rows(), pool.label_N, asked.seed)


def _rows(table: Table, model: Any, num_classes: int, asked: Asked) -> Rows:
    if model is None:
        return Rows.of(table, num_classes)
    return Rows.seen_by(LinearModel.of(model), table, embeddings=asked.reads_embeddings)
