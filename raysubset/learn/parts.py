"""Disjoint parts of a source: the pool, what drives the selection, and what reports.

Letters: N rows, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysubset.core.keys import derive_key
from raysubset.errors import ConfigError, DataError
from raysubset.learn.data import Dataset
from raysubset.learn.paged import joined
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources import Sources
from raysubset.learn.sources.strata import allot, draw, rows_of_share, share_in

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
_NAMED = 3
_ENOUGH_ROWS = 3  # a class with fewer cannot stand in the pool, in validation and in test

IntArray = NDArray[np.int64]
PartName = Literal["pool", "validation", "tuning", "test"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Rows by what they are for; no row of the source stands in two of them."""

    pool: Dataset
    """What may be selected and trained on."""
    validation: Dataset
    """What drives the selection."""
    tuning: Dataset | None = None
    """What chooses options by a score; None where nothing is chosen."""
    test: Dataset
    """What is reported; read once per finished run."""

    def named(self, name: PartName) -> Dataset:
        """Return a part.

        Raises:
            DataError: there is none of this name.
        """
        part: Dataset | None = getattr(self, name)
        if part is None:
            raise DataError(f"there is no {name} part; give one with --data.{name}.")
        return part

    def describe(self) -> dict[str, int]:
        """Return how many rows each part has, and the number of classes."""
        sizes = {name: part.num_examples for name, part in _named(self).items()}
        return {**sizes, "tuning": sizes.get("tuning", 0), "classes": self.pool.num_classes}

    @property
    def skipped(self) -> dict[str, tuple[Skipped, ...]]:
        """Bad rows that are left out, by the part that they are of; the pool's are train rows."""
        named = {"train" if n == "pool" else n: d.skipped for n, d in _named(self).items()}
        return {name: skipped for name, skipped in named.items() if skipped}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the fingerprints of the parts."""
        named = ((name, part.fingerprint) for name, part in _named(self).items())
        return hashlib.sha256(repr(sorted(named)).encode()).hexdigest()


def split_parts(
    sources: Sources,
    *,
    validation: str | float | None,
    tuning: str | float | None,
    test: str | float | None,
    seed: int,
    test_seed: int | None = None,
) -> Parts:
    """Return the parts of a source; those without files of their own are split off its train rows.

    The test part goes first; `validation` and `tuning` are shares of the train rows that remain,
    both of the same rows. Rows are drawn by class and seed, whatever their order: a part has
    floor(share * rows) of them, and more only where each class with three or more rows needs one.
    The pool keeps a row of every class.

    Trusted labels change none of this: rows are drawn by the train labels, and those that are held
    out get their trusted labels afterwards.

    Args:
        sources: train rows, and the parts with files of their own; these are taken as they are.
        validation: share in (0, 1); None for 0.1. A path is for `load_sources`.
        tuning: share in (0, 1); None for no tuning part.
        test: share in (0, 1); None for 0.2.
        seed: which rows go where.
        test_seed: which of them are test rows; None for `seed`. Runs that share it share their
            test rows, so that a row which chose an option in one of them tests none.

    Raises:
        ConfigError: a share outside (0, 1), or shares that leave no pool.
        DataError: too few rows, a class in another part that the pool lacks, a held-out row
            without a trusted label, or a test part that is a copy of validation or tuning.
    """
    given = {"test": test, "validation": validation, "tuning": tuning}
    shares = {part: share_in(value, part) for part, value in given.items()}
    shares["test"] = shares["test"] or _TEST_SHARE
    shares["validation"] = shares["validation"] or _VALIDATION_SHARE
    own = {
        part: dataset
        for part in ("test", "validation", "tuning")
        if (dataset := getattr(sources, part)) is not None
    }
    todo = {part: share for part, share in shares.items() if share and part not in own}
    _check_shares(todo)
    key = derive_key(seed, "parts")
    test_key = key if test_seed is None else derive_key(test_seed, "parts")
    held, pool = _split(sources.train, todo, {part: key for part in todo} | {"test": test_key})
    if sources.trusted is not None and held:
        held, notes = sources.trusted.relabelled(held)
        kept = [f"{', '.join(own)}: files of their own, which keep their labels"] if own else []
        pool = replace(pool, notes=(*pool.notes, *notes, *kept))
    _refuse_same_rows(own)
    split = {**own, **held}
    parts = Parts(
        pool=pool,
        validation=split["validation"],
        tuning=split.get("tuning"),
        test=split["test"],
    )
    _check_classes(parts)
    return parts


def trained_on_validation(parts: Parts, keep_N: NDArray[np.bool_], *, alone: bool) -> Parts:
    """Return the parts of a control that trains on the validation rows.

    Validation stays what it was, so its accuracy in such a run is accuracy on training rows.

    Args:
        parts: of the experiment.
        keep_N: which pool rows the filters keep.
        alone: the validation rows only; else beside the kept pool rows.
    """
    validation = parts.validation
    if alone:
        return replace(parts, pool=validation)
    return replace(parts, pool=_union(parts.pool.at(np.flatnonzero(keep_N)), validation))


def _union(first: Dataset, second: Dataset) -> Dataset:
    """Return the rows of both; ids of a second source come after those of the first."""
    own = second.id_N
    if np.isin(own, first.id_N).any():
        own = own + first.id_N[-1] + 1
    id_N = np.concatenate([first.id_N, own])
    order = np.argsort(id_N, kind="stable")
    keys = None if first.keys is None or second.keys is None else (*first.keys, *second.keys)
    return replace(
        first,
        content=joined(first.content, second.content, order),
        label_N=np.concatenate([first.label_N, second.label_N])[order],
        id_N=id_N[order],
        keys=None if keys is None else tuple(keys[i] for i in order),
    )


def overlap_notes(parts: Parts) -> tuple[str, ...]:
    """Return a sentence for each kind of exact duplicate, by content without labels.

    Duplicates inside the pool cost budget twice; pool rows in another part leak its labels, and so
    do rows of validation or tuning in test.
    """
    pool = parts.pool.content_digest_N
    repeats = np.delete(np.arange(len(pool)), np.unique(pool, return_index=True)[1])
    notes: list[str] = []
    if len(repeats):
        notes.append(
            f"{len(repeats):,} of {len(pool):,} pool rows are exact duplicates of an earlier row "
            f"(first: {_first_of(parts.pool, repeats)})"
        )
    named = _named(parts)
    for first, second in (
        ("pool", "validation"),
        ("pool", "tuning"),
        ("pool", "test"),
        ("validation", "tuning"),
        ("validation", "test"),
        ("tuning", "test"),
    ):
        if first in named and second in named:
            notes += _shared(first, named[first], second, named[second])
    return tuple(notes)


def _shared(first: str, a: Dataset, second: str, b: Dataset) -> list[str]:
    """Return the sentence on rows of one part that also stand in another, if there are any."""
    at = np.flatnonzero(np.isin(a.content_digest_N, b.content_digest_N))
    size = f"{len(at):,} of {a.num_examples:,} {first} rows"
    return [f"{size} also stand in {second} (first: {_first_of(a, at)})"] if len(at) else []


def _first_of(part: Dataset, at: IntArray) -> str:
    """Return how a person finds the first of these rows."""
    ids = part.id_N[at[:_NAMED]].tolist()
    if part.keys is None:
        return f"id {', '.join(map(str, ids))}"
    return ", ".join(f"id {i} {part.keys[p]}" for i, p in zip(ids, at[:_NAMED], strict=True))


def _named(parts: Parts) -> dict[str, Dataset]:
    named = {"pool": parts.pool, "validation": parts.validation, "test": parts.test}
    return named if parts.tuning is None else {**named, "tuning": parts.tuning}


def _refuse_same_rows(own: Mapping[str, Dataset]) -> None:
    """Refuse a test part that is a copy of the part that drives the selection, or chooses options.

    Raises:
        DataError: the same rows with the same labels, in whatever order.
    """
    for name, use in (("validation", "drives the selection"), ("tuning", "chooses options")):
        if name in own and "test" in own and _are_the_same_rows(own[name], own["test"]):
            raise DataError(
                f"the test part holds the very rows of the {name} part "
                f"({own['test'].num_examples:,}, by content and label), which {use}: a score on "
                "them is too good. Name another --data.test, or leave it out: it is then split off "
                "the train rows"
            )


def _are_the_same_rows(first: Dataset, second: Dataset) -> bool:
    """Return whether two parts hold the same rows by content and label, in whatever order."""
    if first.num_examples != second.num_examples:
        return False
    a, b = (np.lexsort((part.label_N, part.content_digest_N)) for part in (first, second))
    same_content = np.array_equal(first.content_digest_N[a], second.content_digest_N[b])
    return same_content and np.array_equal(first.label_N[a], second.label_N[b])


def _check_shares(todo: Mapping[str, float]) -> None:
    of_rest = {part: share for part, share in todo.items() if part != "test"}
    if sum(of_rest.values()) >= 1:
        said = " + ".join(f"{part} {share:g}" for part, share in of_rest.items())
        raise ConfigError(f"{said} is the whole of the train rows; leave some for the pool")


def _split(
    train: Dataset, todo: Mapping[str, float], keys: Mapping[str, int]
) -> tuple[dict[str, Dataset], Dataset]:
    """Return the parts in the order asked for, and the pool that is left."""
    enough_C = train.class_count_C >= _ENOUGH_ROWS
    left = np.arange(train.num_examples)
    split: dict[str, Dataset] = {}
    base = len(left)
    for index, (part, share) in enumerate(todo.items()):
        size = rows_of_share(share, base)
        to_come = len(todo) - index  # parts after this one, and the pool
        drawn = _draw_part(train, left, size, enough_C, to_come, keys[part])
        if not drawn.any():
            raise DataError(
                f"{part}={share:g} of {base:,} rows of {train.name} is no row at all; use a larger "
                f"share or more rows, or give the part as a file: --data.{part} PATH"
            )
        split[part] = train.at(left[drawn])
        left = left[~drawn]
        base = len(left) if part == "test" else base
    return split, train.at(left, train.notes, train.skipped)


def _draw_part(
    train: Dataset, left: IntArray, size: int, enough_C: NDArray[np.bool_], to_come: int, key: int
) -> NDArray[np.bool_]:
    """Return which of the rows that are left go into a part of about `size` rows."""
    label = train.label_N[left]
    count_C = np.bincount(label, minlength=train.num_classes).astype(np.int64)
    low_C = (enough_C & (count_C > 1)).astype(np.int64)
    # every part to come wants a row too; the pool's last row of a class is never drawn
    high_C = np.maximum(np.maximum(count_C - to_come, low_C), 0)
    total = int(np.clip(size, low_C.sum() if size else 0, high_C.sum()))
    size_C = allot(count_C, total, low_C if size else np.zeros_like(low_C), high_C)
    return draw(train.id_N[left], label, size_C, key)


def _check_classes(parts: Parts) -> None:
    """Refuse a class that the pool cannot teach: its direction would have no example to follow."""
    count_C = parts.pool.class_count_C
    for name, part in _named(parts).items():
        lacking = np.flatnonzero((part.class_count_C > 0) & (count_C == 0))
        if len(lacking):
            said = ", ".join(
                f"{part.class_names[c]} ({part.class_count_C[c]})" for c in lacking[:10]
            )
            raise DataError(
                f"{name} has classes without a row in the pool: {said}; add train rows of them, or "
                f"drop these rows from {name}"
            )
