"""In the loop from outside: fresh ids for people who train by themselves.

Nothing of theirs is rewritten, and nothing of it is changed: the model is scored where it lies, in
evaluation mode, and put back. Shape letters: N pool, K picked, C classes, H embedding width.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch

from raysubset.core.budget import budget_of, check_budget, check_fraction
from raysubset.core.keys import derive_key
from raysubset.errors import ConfigError, RoomError
from raysubset.learn.choosing import Progress
from raysubset.learn.outside.adapted import Adapter, unwrapped
from raysubset.learn.outside.asked import Asked
from raysubset.learn.outside.here import score_and_choose_here
from raysubset.learn.outside.rows import both_rows
from raysubset.learn.outside.scorer import Arithmetic, Outside
from raysubset.learn.outside.untouched import callers_modes_off
from raysubset.strategies.glister import Glister
from raysubset.strategies.selection import Selection
from raysubset.strategies.strategy import Strategy

Ray = Literal["auto", "never", "always"]
_GLISTER = Glister()
_LONGEST_S = 1e6


def select(
    model: Any,
    train_set: Any,
    val_set: Any,
    fraction: float = 0.1,
    strategy: Strategy = _GLISTER,
    *,
    seed: int = 0,
    round: int = 0,
    budget: int | None = None,
    head: str | None = None,
    adapter: Adapter | None = None,
    labels: Any = None,
    val_labels: Any = None,
    label_key: str | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    num_workers: int = 0,
    batch_size: int = 256,
    autocast: torch.dtype | None = None,
    threads: int = 1,
    ray: Ray = "auto",
    scorers: int | Literal["auto"] = "auto",
    timeout_s: float = 600.0,
    progress: Progress | None = None,
) -> Selection:
    """Return which examples to train on next, by what the model has learned so far.

        model.fit_a_few_epochs()
        chosen = rs.select(model, train_set, val_set, fraction=0.1, seed=0, round=r)
        loader = DataLoader(Subset(train_set, chosen.ids.tolist()), batch_size=128, shuffle=True)

    One forward pass over validation and training set in batches; of each example its gradient
    factors are kept (C + H numbers, fp32), never the gradient. The model may be on any device, in
    any mode, and wrapped in DistributedDataParallel, DataParallel or torch.compile; mode, buffers,
    gradients, hooks and all global random state are afterwards what they were. Source: Killamsetty
    et al., "GLISTER", AAAI 2021 (arXiv 2012.10630), Algorithm 2, for the default strategy.

    With a Ray connected in this process (`ray.init` was called) model and datasets are sent to
    scoring actors once for the call; else one process works. Ids and gains are the same to the
    bit on the same kind of device: they depend on `batch_size` and `threads`, in the last bits that
    float sums leave open, and on neither the number of actors nor `num_workers`.

    Args:
        model: any `torch.nn.Module` whose output a final `nn.Linear` makes. One output per example
            is taken as the logit of class 1 of two (sigmoid cross-entropy).
        train_set: what is chosen from; its positions are the ids. A map-style dataset, whose items
            are (x, y), (x1, x2, y), dicts or dataclasses with a label; a pair (X, y) of arrays or
            tensors, N rows each; or a raysubset `Dataset`, whose own ids are then the ids.
        val_set: what the choice is to be good for, of any of these kinds. It needs clean labels.
        fraction: K / N, in (0, 1].
        strategy: `rs.Glister(...)`, `rs.AdaptiveRandom()`, ... A strategy that needs no factors
            never runs the model.
        seed: of all that is drawn, in datasets and models too.
        round: number of this call, from 0. What is drawn differs from one to the next.
        budget: K itself, instead of `fraction`.
        head: name of the final `nn.Linear`, where it is ambiguous.
        adapter: output of the model -> logits (B, C). Default: the output itself, its `logits`, or
            its only tensor.
        labels: int (N,), the labels of train_set where its items carry none; these count.
        val_labels: the same for val_set.
        label_key: where items with names have their label. Default: whichever one is there of
            labels, label, targets, target, y.
        collate_fn: as for a DataLoader, for both sets; it returns (x, y) or something with names.
        num_workers: loader processes, as for a DataLoader. Actors read by themselves.
        batch_size: rows of a forward pass.
        autocast: torch.bfloat16 or torch.float16 for the backbone; the head's product and p - y
            are fp32 in any case. Default: the model's own type.
        threads: torch threads of the forward pass on a CPU, here and in each actor.
        ray: "auto" uses the connected Ray where it has room, "never" this process, "always" or an
            error.
        scorers: how many actors; auto: one on every GPU, 2 on CPUs.
        timeout_s: how long places, an actor's start or one of its answers may take.
        progress: told (stage, done, of).

    Returns:
        The `Selection`: ids (K,) int64 in order of choice, gains (K,), weights, labels; ids of
        `AdaptiveRandom` are the round-th slice of its permutations.

    Raises:
        BudgetError, ConfigError: a fraction, budget or option that cannot mean anything.
        DataError: no rows, rows that cannot be read or sent, labels that are no classes.
        ModelError: no head or several, or a forward that fails on the first batch (shape named).
        TrainingDiverged: NaN or infinity (ids named).
        RoomError, CrewLost: no room on Ray in time; its actors died or fell silent.
    """
    _check(strategy, seed, round, num_workers, batch_size, autocast, threads, ray)
    patience = _patience(scorers, timeout_s)
    if budget is None:
        check_fraction(fraction)
    drawn = derive_key(seed, "outside", round)
    how: dict[str, Any] = {"collate": collate_fn, "label_key": label_key, "seed": drawn}
    pool, validation = both_rows(train_set, val_set, labels, val_labels, **how)
    size = len(pool)
    asked = Asked(
        strategy=strategy,
        budget=budget_of(fraction, size) if budget is None else check_budget(budget, size),
        key=derive_key(seed, "select"),
        epochs=range(round, round + 1),
        pool=pool,
        validation=validation,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress or _nobody,
    )
    arithmetic = Arithmetic.here(autocast, threads)
    with callers_modes_off():
        if not asked.reads_model:
            return asked.unscored()
        outside = asked.seen(unwrapped(model), adapter, head, drawn, arithmetic)
        return _by(outside, asked, ray, patience)


def _by(outside: Outside, asked: Asked, wanted: Ray, patience: tuple[Any, float]) -> Selection:
    """Return the choice by the Ray that is connected, or by this process. None is connected to."""
    ranges, choice = asked.work()
    if wanted != "never" and _connected():
        from raysubset.cluster import outside as on_ray

        settings = on_ray.settings(*patience, outside.model)
        room = on_ray.room_here(outside, asked=settings, wanted=wanted)
        if room is not None:
            scored = on_ray.score_and_choose_on_ray(
                outside, room, settings, ranges, choice, asked.progress
            )
            return asked.told(*scored, ranges)
    elif wanted == "always":
        raise RoomError(
            'ray="always", and this process is connected to no Ray; call ray.init() first, or '
            'give ray="auto".'
        )
    scored = score_and_choose_here(
        outside, ranges, choice, num_workers=asked.num_workers, progress=asked.progress
    )
    return asked.told(*scored, ranges)


def _connected() -> bool:
    """Return whether a Ray is connected; who never imported ray waits for no import of it."""
    if "ray" not in sys.modules:
        return False
    from raysubset.cluster.outside import connected

    return connected()


def _patience(scorers: Any, timeout_s: Any) -> tuple[Any, float]:
    """Return how many scorers, and how long to wait for them."""
    if scorers != "auto" and not (_is_whole(scorers) and scorers >= 1):
        raise ConfigError(f"scorers={scorers!r} must be a whole number, 1 or more, or 'auto'.")
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < _LONGEST_S:
        raise ConfigError(
            f"timeout_s={timeout_s!r} must be seconds above 0, {_LONGEST_S:g} at most."
        )
    return scorers, float(timeout_s)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check(
    strategy: Any,
    seed: Any,
    round_: Any,
    num_workers: Any,
    batch_size: Any,
    autocast: Any,
    threads: Any,
    ray: Any,
) -> None:
    if not (hasattr(strategy, "select") and hasattr(strategy, "needs")):
        raise ConfigError(
            f"strategy={strategy!r} must be a strategy, such as rs.Glister() or "
            "rs.AdaptiveRandom()."
        )
    beyond = set(strategy.needs) - {"factors", "lookahead", "embeddings"}
    if beyond:
        raise ConfigError(
            f"strategy {strategy.name} needs {', '.join(sorted(beyond))}, which only a run of "
            "raysubset collects; use rs.Glister() or rs.AdaptiveRandom()."
        )
    least = {"seed": 0, "round": 0, "num_workers": 0, "batch_size": 1, "threads": 1}
    given = zip(least, (seed, round_, num_workers, batch_size, threads), strict=True)
    for name, value in given:
        if not _is_whole(value) or value < least[name]:
            raise ConfigError(f"{name}={value!r} must be a whole number, {least[name]} or more.")
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise ConfigError(f"autocast={autocast!r} must be torch.bfloat16, torch.float16 or None.")
    if ray not in get_args(Ray):
        raise ConfigError(f"ray={ray!r} must be one of {', '.join(get_args(Ray))}.")


def _nobody(stage: str, done: int, of: int) -> None:
    """Look away."""
