"""A head for embeddings that come without one: multinomial logistic regression on the pool."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from raysubset.core.keys import derive_key
from raysubset.errors import DataError
from raysubset.learn.embedded import LinearHead
from raysubset.learn.linear_model import head_of
from raysubset.learn.sources.rows import shown
from raysubset.learn.sources.strata import allot, draw

if TYPE_CHECKING:
    from raysubset.learn.parts import Parts

MOST_ROWS = 20_000  # about a minute for 1,000 features and classes on a core
MOST_STEPS = 300


def fit_head(parts: Parts, *, seed: int) -> LinearHead:
    """Return the head that scikit-learn fits on at most MOST_ROWS pool rows, and how good it is.

    L2-regularised (C=1) on features of mean 0 and spread 1; the scaling is folded into the weight,
    so the head takes the embeddings as they are. Validation rows are only read to say how good it
    is.

    Raises:
        DataError: a class without a pool row.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    pool = parts.pool
    count_C = pool.class_count_C
    if not count_C.all():
        empty = [pool.class_names[c] for c in np.flatnonzero(count_C == 0)]
        raise DataError(
            f"no pool row of the classes {shown(empty)}: no head can be fitted to them."
        )
    total = min(MOST_ROWS, pool.num_examples)
    size_C = allot(count_C, total, np.minimum(count_C, 1), count_C)
    drawn = draw(pool.id_N, pool.label_N, size_C, derive_key(seed, "head"))
    embedding_NH = pool.content[drawn].astype(np.float64)
    mean_H, std_H = embedding_NH.mean(0), embedding_NH.std(0)
    std_H = np.where(std_H > 0, std_H, 1.0)
    model = LogisticRegression(max_iter=MOST_STEPS)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit((embedding_NH - mean_H) / std_H, pool.label_N[drawn])
    short = any(issubclass(warning.category, ConvergenceWarning) for warning in told)
    weight, bias = head_of(model)
    weight_CH = (weight / std_H).astype(np.float32)
    bias_C = (bias - (weight / std_H) @ mean_H).astype(np.float32)
    validation = parts.validation
    logits_VC = np.asarray(validation.content, dtype=np.float32) @ weight_CH.T + bias_C
    guess_V = logits_VC.argmax(1)
    right = float((guess_V == validation.label_N).mean())
    note = (
        f"head: logistic regression fitted on {int(drawn.sum()):,} of {pool.num_examples:,} pool "
        f"rows, validation accuracy {100 * right:.1f} %"
        + (f"; it stopped at {MOST_STEPS} steps, before it converged" if short else "")
    )
    return LinearHead(weight_CH=weight_CH, bias_C=bias_C, notes=(note,))
