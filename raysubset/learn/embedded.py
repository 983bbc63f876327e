"""Embeddings, labels and a head as a problem: a table whose model is one linear layer.

So everything that scores and chooses for a model does so for embeddings, shard by shard.
Letters: N rows, V validation rows, C classes, H embedding width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raysubset.errors import DataError, ModelError
from raysubset.learn.data import Dataset
from raysubset.learn.normalize import Normalize
from raysubset.learn.parts import Parts, split_parts
from raysubset.learn.problem import Problem
from raysubset.learn.rows import tensor_of
from raysubset.learn.settings import ModelSettings, TrainingSettings
from raysubset.learn.sources import Sources
from raysubset.learn.sources.arrays import Arrays, matrix_of, read_arrays, vector_of
from raysubset.learn.sources.embeddings import (
    RawEmbeddings,
    read_embeddings,
    stream_embeddings,
)
from raysubset.learn.sources.labels import Classes, find_classes
from raysubset.learn.sources.rows import OnBadRow
from raysubset.learn.sources.streams import Stream
from raysubset.learn.sources.vocabulary import classes_of_head
from raysubset.learn.spool import Spool, filled

WEIGHT, BIAS, CLASSES = "weight", "bias", "classes"
FIT = "fit"
"""Instead of a head's file: fit one."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingFiles:
    """Where embeddings, labels and head stand.

    Attributes:
        embeddings: of the pool.
        validation_embeddings: of validation; None to split it off the pool's file.
        labels: of the pool, where they stand in a file of their own.
        validation_labels: of validation, likewise.
        head: its weight and bias; None where they stand beside the embeddings, or are not needed.
        label_column: the name of the labels' column or array; None for `labels` or `label`.
    """

    embeddings: str
    validation_embeddings: str | None = None
    labels: str | None = None
    validation_labels: str | None = None
    head: str | None = None
    label_column: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """Option -> file, for those that are named."""
        every = {
            "embeddings": self.embeddings,
            "validation-embeddings": self.validation_embeddings,
            "labels": self.labels,
            "validation-labels": self.validation_labels,
            "head": self.head,
        }
        return {option: text for option, text in every.items() if text is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearHead:
    """A last layer.

    Attributes:
        weight_CH: float32.
        bias_C: float32; zeros for a head without one.
        names: of the classes, in the head's order, where its file has them.
        notes: what a person should know of it.
    """

    weight_CH: np.ndarray
    bias_C: np.ndarray
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def state(self) -> dict[str, Tensor]:
        """Return it as the state of the model that `linear_head` builds."""
        return {
            WEIGHT: tensor_of(np.ascontiguousarray(self.weight_CH)),
            BIAS: tensor_of(np.ascontiguousarray(self.bias_C)),
        }


def linear_head(in_shape: tuple[int, ...], num_classes: int) -> nn.Linear:
    """Return the model of a problem of embeddings."""
    return nn.Linear(in_shape[0], num_classes)


def read_parts(
    files: EmbeddingFiles,
    head: LinearHead | None,
    *,
    share: str | float | None,
    on_bad_row: OnBadRow,
    seed: int,
    spool: Spool | None = None,
) -> Parts:
    """Return pool and validation of embedding files; the test part is empty: nothing is reported.

    Args:
        files: where they stand.
        head: its classes number the labels; None for the distinct sorted labels of the pool.
        share: of the rows that become validation, by class and seed, where it has no file.
        on_bad_row: refuse rows with NaN, infinity or no label, or skip and count them.
        seed: which rows a share draws.
        spool: where the pool's rows go that are beyond its memory; None to hold any number.

    Raises:
        DataError, ModelError: what does not fit, by name and with the remedy.
    """
    stream = None if spool is None else _beyond(files, spool.memory_bytes)
    raw = read_embeddings(files.embeddings, files.labels, files.label_column, "", stream)
    classes = (
        find_classes(raw.label)
        if head is None
        else classes_of_head(raw.label, len(head.weight_CH), head.names)
    )
    pool = raw.dataset(classes, on_bad_row)
    width = raw.matrix.shape[1]
    _check_width(width, head)
    validation = None
    if files.validation_embeddings is not None:
        validation = _validation(files, files.validation_embeddings, classes, width, on_bad_row)
        validation = replace(validation, name=pool.name)
    empty = pool.at(np.zeros(0, dtype=np.int64))
    sources = Sources(train=pool, validation=validation, test=empty)
    parts = split_parts(sources, validation=share, tuning=None, test=None, seed=seed)
    if parts.pool.num_examples < 2:
        raise DataError(f"--embeddings={files.embeddings} leaves a pool of one row; give more.")
    if spool is None or stream is None:
        return parts
    return filled(parts, raw, spool, validation_too=validation is None)


def _beyond(files: EmbeddingFiles, memory_bytes: int) -> Stream | None:
    """Return the pool's embeddings unread where they are larger than the memory for them."""
    stream = stream_embeddings(files.embeddings, files.label_column)
    return stream if stream is not None and stream.num_bytes > memory_bytes else None


def _validation(
    files: EmbeddingFiles, text: str, classes: Classes, width: int, on_bad_row: OnBadRow
) -> Dataset:
    raw: RawEmbeddings = read_embeddings(
        text, files.validation_labels, files.label_column, "validation-"
    )
    validation = raw.dataset(classes, on_bad_row)
    own = validation.content.shape[1]
    if own != width:
        raise DataError(
            f"--validation-embeddings={text} is {own} wide, and the pool's are {width} "
            "wide; both must come from the same layer of one model."
        )
    return validation


def _check_width(width: int, head: LinearHead | None) -> None:
    if head is None or head.weight_CH.shape[1] == width:
        return
    turned = head.weight_CH.shape[0] == width
    raise ModelError(
        f"the head's weight has shape {head.weight_CH.shape} and the embeddings are {width} wide; "
        + ("it stands turned: give its transpose, " if turned else "give the head's weight, ")
        + f"(classes, {width})."
    )


def read_head(files: EmbeddingFiles) -> LinearHead | None:
    """Return the head of a file, or the one beside the embeddings; None where there is neither.

    Raises:
        DataError, ModelError: a damaged file, another shape, or values that are not finite.
    """
    if files.head is not None:
        return _head_in(read_arrays(files.head, "--head"), "--head")
    if Path(files.embeddings).suffix.lower() not in (".npz", ".safetensors"):
        return None
    arrays = read_arrays(files.embeddings, "--embeddings", (WEIGHT, BIAS, CLASSES))
    return _head_in(arrays, "--embeddings") if WEIGHT in arrays.values else None


def _head_in(arrays: Arrays, option: str) -> LinearHead:
    where = f"{option}={arrays.where}"
    name = _ending(arrays.values, WEIGHT)
    weight = matrix_of(arrays.named("weight", name)[1], f"{name!r} of {where}")
    bias_name = name[: -len(WEIGHT)] + BIAS
    notes = []
    if bias_name in arrays.values:
        bias = vector_of(arrays.values[bias_name], f"{bias_name!r} of {where}")
    else:
        bias = np.zeros(len(weight), dtype=np.float32)
        notes.append("head: no bias, so it is 0")
    if len(weight) < 2 or len(bias) != len(weight):
        raise ModelError(
            f"{where}: weight has shape {weight.shape} and bias {bias.shape}; wanted: (classes, "
            "width) and (classes,). A head with one row for two classes becomes two rows: zeros, "
            "then it."
        )
    wide = sorted({str(a.dtype) for a in (weight, bias) if a.dtype != np.float32})
    notes += [f"head: converted from {', '.join(wide)} to float32"] if wide else []
    weight_CH, bias_C = _single(weight), _single(bias)
    if not (np.isfinite(weight_CH).all() and np.isfinite(bias_C).all()):
        raise ModelError(f"{where} holds NaN or infinity; give the head of a finished training.")
    names = arrays.values.get(CLASSES)
    return LinearHead(
        weight_CH=weight_CH,
        bias_C=bias_C,
        names=None if names is None else tuple(str(name) for name in np.asarray(names).tolist()),
        notes=tuple(notes),
    )


def _ending(values: Mapping[str, object], word: str) -> str:
    """Return the word, or the one name that ends with it, as fc.weight in a state dict."""
    ending = [name for name in values if name.endswith(f".{word}")]
    return ending[0] if word not in values and len(ending) == 1 else word


def _single(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def embedded_problem(
    parts: Parts, *, scoring_batch: int, threads: int, seed: int, deterministic: bool = False
) -> Problem:
    """Return the problem whose content is the embeddings themselves: nothing is normalised."""
    width = parts.pool.content.shape[1]
    return Problem(
        parts=parts,
        model=ModelSettings(name=f"{__name__}:{linear_head.__name__}"),
        training=TrainingSettings(precision="fp32", deterministic=deterministic),
        scoring_batch=scoring_batch,
        threads=threads,
        seed=seed,
        normalize=Normalize(mean=torch.zeros(width), std=torch.ones(width)),
        import_from=os.getcwd(),
    )
