"""What a call of `raysubset.select` asks, as work: ranges to score and a choice to make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from raysubset.core.budget import floor_of
from raysubset.core.factors import GradientFactors
from raysubset.core.ground_set import LocalGroundSet, Taken
from raysubset.core.keys import derive_key
from raysubset.core.scores import RandomKey
from raysubset.learn.choosing import Choice, Progress
from raysubset.learn.outside.adapted import Adapter, devices_of
from raysubset.learn.outside.head import with_head
from raysubset.learn.outside.rows import OutsideRows
from raysubset.learn.outside.scorer import Arithmetic, Outside
from raysubset.learn.outside.unscored import choose_unscored
from raysubset.learn.scoring import RowRange, ranges_of
from raysubset.strategies.glister import Glister
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A checked call.

    Attributes:
        strategy: the plan.
        budget: K.
        key: the randomness of strategies.
        epochs: the number of the call, as a strategy is told it.
        pool: the train_set.
        validation: the val_set.
        batch_size: rows of a forward pass.
        num_workers: loader processes.
        progress: told of how far it is.
    """

    strategy: Strategy
    budget: int
    key: int
    epochs: range
    pool: OutsideRows
    validation: OutsideRows
    batch_size: int
    num_workers: int
    progress: Progress

    @property
    def reads_model(self) -> bool:
        """Whether anything is scored: what takes all of the pool asks nobody."""
        return "factors" in self.strategy.needs and self.budget < len(self.pool)

    def seen(
        self,
        model: nn.Module,
        adapter: Adapter | None,
        head: str | None,
        seed: int,
        arithmetic: Arithmetic,
    ) -> Outside:
        """Return all that scoring reads, after a first look at the model.

        Raises:
            DataError, ModelError, TrainingDiverged: what would not do, before any work.
        """
        outside = Outside(
            model=model,
            adapter=adapter,
            head=None,
            pool=self.pool,
            validation=self.validation,
            batch_size=self.batch_size,
            seed=seed,
            arithmetic=arithmetic,
        )
        return with_head(outside, head, devices_of(model)[0])

    def work(self) -> tuple[list[RowRange], Choice]:
        """Return the ranges of validation and of what can be chosen, and the choice to make."""
        validation = ranges_of("validation", self.validation.id_N, self.batch_size)
        strategy, candidate_ids = self._candidates()
        choice = Choice(
            strategy=strategy,
            budget=self.budget,
            key=self.key,
            epochs=self.epochs,
            num_validation=len(validation),
            embeddings=getattr(strategy, "gradient", "last_layer") != "bias",
        )
        return [*validation, *ranges_of("pool", candidate_ids, self.batch_size)], choice

    def unscored(self) -> Selection:
        """Return a choice that no model is asked for."""
        chosen = choose_unscored(
            self.strategy,
            self.pool,
            self.validation,
            budget=self.budget,
            key=self.key,
            epochs=self.epochs,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )
        return self.told(chosen, {"scorers": 0.0}, ())

    def told(
        self, chosen: Selection, facts: dict[str, float], ranges: Sequence[RowRange]
    ) -> Selection:
        """Return the selection as one of the whole pool, in its round."""
        scored = float(sum(len(rows.ids) for rows in ranges))
        return replace(
            chosen,
            round=self.epochs.start,
            num_pool=len(self.pool),
            fraction=self.budget / len(self.pool),
            facts={**chosen.facts, **facts, "examples_scored": scored},
        )

    def _candidates(self) -> tuple[Strategy, np.ndarray]:
        """Return GLISTER's own sample before it is scored: the others cost no forward pass.

        The draw is that of `Glister.select`, which knows ids alone: the same ids come out.
        """
        plan, id_N = self.strategy, self.pool.id_N
        if not isinstance(plan, Glister) or plan.candidates == 1:
            return plan, id_N
        size = floor_of(plan.candidates, self.budget)
        if size >= len(id_N):
            return plan, id_N
        key = derive_key(derive_key(self.key, "glister", self.epochs.start), "candidates")
        labels = np.zeros(len(id_N), dtype=np.int64)
        ground_set = LocalGroundSet(GradientFactors.from_labels(labels, 1, id_N))
        best = ground_set.best(RandomKey(key), size, Taken.nothing())
        return replace(plan, candidates=1.0), np.sort(best.factors.ids_N.numpy())
