"""What is asked of a strategy, and its answer from two tables of embeddings.

Letters: N rows, C classes, H embedding width, K budget.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from time import perf_counter
from typing import Any, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from raysubset.core.budget import budget_of, check_budget, check_fraction
from raysubset.core.factors import GradientFactors, residual_of
from raysubset.core.ground_set import LocalGroundSet
from raysubset.core.keys import derive_key
from raysubset.core.lookahead import Lookahead
from raysubset.errors import ConfigError, DataError
from raysubset.learn.numerics import full_fp32
from raysubset.learn.problem import torch_threads
from raysubset.learn.rows import tensor_of
from raysubset.learn.sources.rows import shown
from raysubset.selector.estimators import LinearModel, dense
from raysubset.selector.tables import Table, check_share
from raysubset.strategies.glister import Glister
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Need, Strategy


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be chosen.

    Attributes:
        strategy: the plan.
        fraction: of the pool.
        budget: K itself; None for the fraction's.
        share: of the rows that is held out.
        seed: of everything that is drawn.
    """

    strategy: Strategy
    fraction: float
    budget: int | None
    share: float
    seed: int

    @classmethod
    def checked(
        cls, *, strategy: Any, fraction: Any, budget: Any, validation_fraction: Any, seed: Any
    ) -> Asked:
        """Return it, if it can mean something.

        Raises:
            ConfigError: names the option that cannot.
        """
        if isinstance(seed, bool) or not isinstance(seed, Integral):
            raise ConfigError(
                f"seed={seed!r} must be a whole number: every draw is a hash of it, and no global "
                "random state is read."
            )
        return cls(
            strategy=_strategy(strategy),
            fraction=check_fraction(
                fraction.item() if isinstance(fraction, np.generic) else fraction
            ),
            budget=None if budget is None else check_budget(budget, np.iinfo(np.int64).max),
            share=check_share(validation_fraction),
            seed=int(seed),
        )

    @property
    def reads_model(self) -> bool:
        """Whether gradient factors are needed; nothing that is not needed is computed."""
        return "factors" in self.strategy.needs

    @property
    def reads_embeddings(self) -> bool:
        """Whether the factors need embeddings: not along the bias alone."""
        return self.reads_model and getattr(self.strategy, "gradient", "last_layer") != "bias"

    def size(self, num_pool: int) -> int:
        """Return K for a pool of so many rows."""
        if self.budget is None:
            return budget_of(self.fraction, num_pool)
        return check_budget(self.budget, num_pool)

    def chosen(self, pool: Rows, validation: Rows) -> Selection:
        """Return the strategy's choice, with its seconds among the facts."""
        ground_set, lookahead = LocalGroundSet(pool.factors()), validation.lookahead()
        budget, key = self.size(len(pool.ids_N)), derive_key(self.seed, "select")
        start = perf_counter()
        with full_fp32():
            selection = self.strategy.select(ground_set, lookahead, budget, key)
        facts = {**selection.facts, "seconds_greedy": perf_counter() - start}
        return replace(selection, facts=facts)


def _strategy(value: Any) -> Strategy:
    """Return the strategy; GLISTER for None."""
    if value is None:
        return Glister()
    if isinstance(value, type) or not (hasattr(value, "select") and hasattr(value, "needs")):
        raise ConfigError(
            f"strategy={value!r} must be a strategy's value, such as raysubset.Glister(), Random() "
            "or AdaptiveRandom()."
        )
    given = {need for need in get_args(Need) if need != "observations"}
    lacking = sorted(set(value.needs) - given)
    if lacking:
        raise ConfigError(
            f"strategy={value!r} needs {shown(lacking)}, which training collects, and nothing is "
            "trained here; use it in a run."
        )
    return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows as a strategy sees them.

    Attributes:
        ids_N: int64, their row numbers, ascending.
        number_N: int64, their classes.
        num_classes: C.
        logits_NC: the head's output; None where the strategy reads no factors.
        embedding_NH: its input; of width 0 where only the bias gradient is read.
    """

    ids_N: NDArray[np.int64]
    number_N: NDArray[np.int64]
    num_classes: int
    logits_NC: NDArray[np.floating] | None = None
    embedding_NH: NDArray[np.floating] | None = None

    @classmethod
    def of(cls, table: Table, num_classes: int) -> Self:
        """Return rows of which a strategy sees the class alone."""
        return cls(ids_N=table.ids_N, number_N=table.number_N, num_classes=num_classes)

    @classmethod
    def seen_by(cls, model: LinearModel, table: Table, *, embeddings: bool) -> Self:
        """Return rows with what the model gives for them.

        Raises:
            DataError: NaN or infinity (rows named), or sparse embeddings that are too large.
            ModelError: another loss than cross-entropy; see `refuse_another_loss`.
        """
        given = model.embedded(table.rows())
        if embeddings:
            embedding_NH = dense(given, f"{table.name} as the classifier gets it")
            logits_NC = model.logits(embedding_NH)
        else:
            logits_NC = model.logits(given)
            embedding_NH = np.zeros((len(logits_NC), 0), dtype=logits_NC.dtype)
        _refuse_non_finite(logits_NC, table)
        model.refuse_another_loss(given)
        rows = cls.of(table, len(model.bias_C))
        return replace(rows, logits_NC=logits_NC, embedding_NH=embedding_NH)

    def factors(self) -> GradientFactors:
        """Return the gradient factors."""
        if self.logits_NC is None or self.embedding_NH is None:
            return GradientFactors.from_labels(self.number_N, self.num_classes, self.ids_N)
        label_N = tensor_of(self.number_N)
        return GradientFactors(
            ids_N=tensor_of(self.ids_N),
            label_N=label_N,
            residual_NC=residual_of(tensor_of(self.logits_NC), label_N),
            embedding_NH=tensor_of(self.embedding_NH),
        )

    def lookahead(self) -> Lookahead:
        """Return the look-ahead over these rows."""
        if self.logits_NC is None or self.embedding_NH is None:
            return Lookahead.from_labels(self.number_N, self.num_classes)
        return Lookahead(
            embedding_VH=tensor_of(self.embedding_NH),
            label_V=tensor_of(self.number_N),
            logits_VC=tensor_of(self.logits_NC),
        )


def _refuse_non_finite(logits_NC: NDArray[np.floating], table: Table) -> None:
    # NaN or infinity in an embedding reaches every logit: times 0, infinity is NaN
    bad = table.ids_N[~np.isfinite(logits_NC).all(axis=1)].tolist()
    if bad:
        raise DataError(
            f"the estimator gives NaN or infinity for {len(bad):,} of {len(logits_NC):,} rows of "
            f"{table.name}, first {bad[:10]}; fill in or drop these rows, or scale them in a "
            "Pipeline."
        )


@contextmanager
def one_thread() -> Generator[None]:
    """Compute on one thread: sums over several have other last bits, and could change an id."""
    with threadpool_limits(limits=1), torch_threads(1), torch.no_grad():
        yield
