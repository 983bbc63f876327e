"""The problem: all that a process needs to train or to score, as one plain value.

It is made once by the driver. Other processes get it without its rows, which travel in blocks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from raysubset.errors import ConfigError, DataError
from raysubset.learn.augment import Augment, augment_for
from raysubset.learn.frozen import freeze, hold_still
from raysubset.learn.head import Head, find_head
from raysubset.learn.logits import answer_with_logits
from raysubset.learn.models import build_model
from raysubset.learn.normalize import Normalize, fit_normalize
from raysubset.learn.numerics import explained, settled
from raysubset.learn.parts import Parts, split_parts
from raysubset.learn.recipe import make_optimizer
from raysubset.learn.rehearsal import rehearse
from raysubset.learn.settings import DataSettings, ModelSettings, TrainingSettings
from raysubset.learn.sources import Sources, load_sources
from raysubset.learn.transform import Transform


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Data, model and recipe.

    Attributes:
        parts: pool, validation, tuning and test, disjoint.
        model: which model and head.
        training: the recipe.
        scoring_batch: examples per scoring call.
        threads: torch threads of every process that touches this problem.
        seed: the run's seed.
        normalize: fitted on the pool.
        import_from: the folder in which a `module:factory` may lie.
        skip_bad_rows: whether pool rows for which the model gives NaN or infinity are left out of
            a choice, instead of ending the run.
    """

    parts: Parts
    model: ModelSettings
    training: TrainingSettings
    scoring_batch: int
    threads: int
    seed: int
    normalize: Normalize
    import_from: str
    skip_bad_rows: bool = False

    @property
    def in_shape(self) -> tuple[int, ...]:
        """The shape of one example: (channels, height, width) or (features,)."""
        return tuple(self.parts.pool.content.shape[1:])

    @property
    def num_classes(self) -> int:
        """C."""
        return self.parts.pool.num_classes

    @property
    def transform(self) -> Transform | None:
        """What the model takes for the columns of a table; None for anything else."""
        pool = self.parts.pool
        if pool.columns is None:
            return None
        rows = pool.num_examples
        return Transform(columns=pool.columns, normalize=self.normalize, pool_rows=rows)

    @property
    def augment(self) -> Augment | None:
        """The augmentation of training, or None."""
        pool = self.parts.pool
        return augment_for(self.training.augment, kind=pool.kind, in_shape=self.in_shape)

    def lean(self) -> Problem:
        """Return the problem without its rows, but two of the pool to look at: what travels."""
        pool = self.parts.pool.at(np.arange(2))
        none = {name: getattr(self.parts, name) for name in ("validation", "tuning", "test")}
        empty = {k: v and v.at(np.arange(0)) for k, v in none.items()}
        return replace(self, parts=Parts(pool=pool, **empty))

    def build(self) -> tuple[nn.Module, Head]:
        """Return the model at its initial weights, and its head.

        Raises:
            ModelError: no such model, no final Linear, or another number of classes.
        """
        if self.import_from not in sys.path:
            # Ray Train changes the workers' folder; the user's module lies in the driver's.
            sys.path.insert(0, self.import_from)
        model = build_model(
            self.model.name,
            in_shape=self.in_shape,
            num_classes=self.num_classes,
            seed=self.seed,
        )
        classes, named = self.num_classes, self.model
        answer_with_logits(model, num_classes=classes, adapter=named.adapter)
        head = find_head(model, self.sample(), named.head, num_classes=classes)
        if named.frozen:
            freeze(model, head)
        return model, head

    def to_train(self, model: nn.Module, head: Head, forward: nn.Module | None = None) -> None:
        """Put the model into training mode, but what is frozen; `forward` is what wraps it."""
        (model if forward is None else forward).train()
        if self.model.frozen:
            hold_still(model, head)

    def sample(self) -> torch.Tensor:
        """Return two normalised examples of the pool, for a look at what a model does."""
        return self.normalize(torch.from_numpy(self.parts.pool.content[:2].copy()))

    def optimizer(self, model: nn.Module) -> torch.optim.SGD:
        """Return the recipe's optimizer; build it after the model is on its device.

        Raises:
            ModelError: every parameter is frozen.
        """
        recipe = self.training
        return make_optimizer(
            model,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )

    def check(self) -> nn.Module:
        """Return the model if all that training will need can be made, before any work.

        Raises:
            ConfigError, ModelError: what cannot, and the remedy.
        """
        augment_for(self.training.augment, kind=self.parts.pool.kind, in_shape=self.in_shape)
        with settled(self.training), explained(self.training):
            model, head = self.build()
            self.optimizer(model)
            rehearse(
                model,
                self.sample(),
                num_classes=self.num_classes,
                to_train=lambda twin: self.to_train(twin, head),
            )
        return model


def make_problem(
    *,
    data: DataSettings,
    model: ModelSettings,
    training: TrainingSettings,
    scoring_batch: int,
    threads: int,
    seed: int,
    sources: Sources | Callable[[], Sources] | None = None,
    import_from: str | None = None,
    like: Transform | None = None,
) -> Problem:
    """Load the data, split its parts and check that the model fits them, before any work.

    Args:
        data: what is learned from.
        model: which model and head.
        training: the recipe.
        scoring_batch: examples per scoring call.
        threads: torch threads of every process.
        seed: the run's seed.
        sources: the data, where it is loaded already, or what loads it (as `like`, too).
        import_from: the folder in which a `module:factory` may lie; None for the working one.
        like: of the run whose columns a table must have; None where its own decide.

    Raises:
        ConfigError, DataError, ModelError: whatever is wrong, by name and with the remedy.
    """
    if training.nesterov and training.momentum == 0:
        raise ConfigError(
            "training.nesterov=true needs training.momentum above 0; set nesterov to false."
        )
    if sources is None:
        fitted = like and like.columns
        sources = load_sources(**data.of_sources(), seed=seed, fitted=fitted)
    parts = split_parts(
        sources() if callable(sources) else sources,
        validation=data.validation,
        tuning=data.tuning,
        test=data.test,
        seed=seed,
        test_seed=data.test_seed,
    )
    if parts.pool.num_examples < 2:
        raise DataError(f"the pool holds {parts.pool.num_examples} rows; give at least 2.")
    fitted = fit_normalize(parts.pool.content)
    return Problem(
        parts=parts,
        model=model,
        training=training,
        scoring_batch=scoring_batch,
        threads=threads,
        seed=seed,
        normalize=fitted if model.inputs == "normalised" else fitted.none(),
        import_from=import_from or os.getcwd(),
        skip_bad_rows=data.on_bad_row == "skip",
    )


@contextmanager
def torch_threads(count: int) -> Generator[None]:
    """Run with this many torch threads: sums change bits with the count, so it is an option."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
