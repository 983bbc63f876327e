"""The first look at a person's model: its head, or a refusal before any work."""

from __future__ import annotations

from dataclasses import replace

import torch

from raysubset.core.keys import derive_key
from raysubset.errors import ModelError, RaySubsetError
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head, find_head
from raysubset.learn.outside.adapted import Adapted
from raysubset.learn.outside.batches import checked_labels
from raysubset.learn.outside.chance import draw_by
from raysubset.learn.outside.rows import OutsideRows
from raysubset.learn.outside.scorer import (
    Outside,
    OutsideScorer,
    as_classes,
    at_work,
    refuse_non_finite,
)

_FIT = "; build it for in_shape="


def with_head(outside: Outside, head: str | None, device: torch.device) -> Outside:
    """Return the same with its head found, after a look at the first batch of either dataset.

    Raises:
        DataError, ModelError: what will not do, by name: a forward that fails (shape named), a
            head that is not there or ambiguous, labels that are no classes.
    """
    with at_work(outside, device):
        outside = replace(outside, head=_found(outside, head, device))
        scorer = OutsideScorer(outside, device)
        for part in (outside.pool, outside.validation):
            _look(scorer, part)
    return outside


def _found(outside: Outside, head: str | None, device: torch.device) -> Head:
    """Return the head that the first batch of the pool shows."""
    # Before the head is known only where a batch goes is asked of the scorer.
    probe = replace(outside, head=Head(name="", in_features=0, num_classes=2))
    batch = outside.pool.batch(outside.pool.id_N[: outside.batch_size])
    batch = OutsideScorer(probe, device).laid_out(batch)
    draw_by(derive_key(outside.seed, "look"), device)
    try:
        return find_head(Adapted(outside.model, outside.adapter).on(batch), batch.first, head)
    except ModelError as error:
        if isinstance(error.__cause__, RaySubsetError):
            raise error.__cause__ from None  # it says by itself what is wrong
        raise ModelError(_in_python(error.message)) from error.__cause__


def _in_python(message: str) -> str:
    """Return a message about the command's options as one about arguments."""
    told = message.replace("--model.head NAME", 'head="NAME"').replace("model.head=", "head=")
    if _FIT in told:
        told = (
            f"{told.partition(_FIT)[0]}; give items that it takes (a transform; "
            "with_format('torch') for Hugging Face), or a collate_fn that makes them"
        )
    return told.replace(
        "wrap it so that forward returns the logits alone", "give adapter= to return the logits"
    )


def _look(scorer: OutsideScorer, part: OutsideRows) -> None:
    """Run the first batch of a dataset; labels and logits are checked before the rest is read."""
    outside, ids_B = scorer.outside, part.id_N[: scorer.outside.batch_size]
    batch = part.batch(ids_B)
    label_B = checked_labels(batch.labels, ids_B, outside.num_classes, part.name)
    moved = scorer.laid_out(batch)
    shape = tuple(moved.first.shape)
    draw_by(derive_key(outside.seed, "look"), scorer.device)
    try:
        with FullHead(scorer.model, scorer.head) as full:
            scorer.model.on(moved)(moved.first)
    except RaySubsetError:
        raise
    except Exception as error:  # a person's forward may fail in any way
        raise ModelError(
            f"the model fails on a batch of shape {shape} of {part.name} with "
            f"{type(error).__name__}: {error}; both datasets must give what it takes"
        ) from error
    if len(full.logits_BC) != len(label_B):
        raise ModelError(
            f"the model turns {len(label_B)} examples of {part.name} (batch of shape {shape}) into "
            f"{len(full.logits_BC)} rows; one row per example is needed"
        )
    refuse_non_finite(as_classes(full.logits_BC), ids_B, part.name)
