"""A fitted linear classifier of scikit-learn as a head with one row of weights a class.

Letters: C classes, H embedding width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def head_of(classifier: Any) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return weight and bias of a classifier that has `coef_` and `intercept_`. (C, H), (C,).

    Of two classes scikit-learn keeps one row: p(1) = sigmoid(z), z = w h + b. A sigmoid is the
    softmax of any two logits that are z apart; here -z/2 and z/2, which is exact in binary. With
    the sigmoid's residual s = p(1) - y, the softmax's is p - onehot(y) = (-s, s), so the two-row
    gradient is (-g, g) with g = s [h; 1], the one-row gradient. Hence every inner product of two
    gradients, and so every gain, is twice the one-row one, and a step of a two-row head moves z
    twice as far: the ids are those of the one-row head at twice the step.
    """
    weight = classifier.coef_
    weight = weight.toarray() if hasattr(weight, "toarray") else np.asarray(weight)  # sparsify()
    bias = np.broadcast_to(np.asarray(classifier.intercept_), (len(weight),))  # 0.0 without one
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
