"""People's datasets as rows addressed by id, read in fixed batches.

A dataset is anything with a length and items by position; or whole arrays. Shape letters: N rows,
B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from raysubset.core import intake
from raysubset.core.keys import derive_key
from raysubset.errors import DataError, RaySubsetError
from raysubset.learn.data import Dataset
from raysubset.learn.normalize import Normalize, fit_normalize
from raysubset.learn.outside.batches import Batch, as_named, labels_option, length_of, split
from raysubset.learn.outside.chance import draw_by
from raysubset.learn.rows import tensor_of

_ANY_CLASS = 2**31


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """Whole arrays, sliced rather than read item by item.

    Attributes:
        columns: what an item holds, numpy wherever it can be: that crosses processes uncopied.
        normalize: of a raysubset `Dataset`, as a run has it; None for arrays, taken as they are.
    """

    columns: tuple[np.ndarray | Tensor, ...]
    normalize: Normalize | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def collated(self, position_B: np.ndarray) -> tuple[Tensor, ...]:
        """Return the rows at these positions."""
        first, *others = (_rows(column, position_B) for column in self.columns)
        return (first if self.normalize is None else self.normalize(first), *others)

    def portable(self) -> Arrays:
        """Return the same arrays where every process can read them: off the GPU."""
        return Arrays(columns=tuple(_plain(c) for c in self.columns), normalize=self.normalize)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unread:
    """Why a batch could not be read; it comes back from loader processes as a value."""

    error: RaySubsetError


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideRows:
    """A dataset, and how it is read.

    Attributes:
        name: "train_set" or "val_set".
        dataset: by position; `Arrays`, or a person's own.
        id_N: int64, ascending: positions, or a raysubset `Dataset`'s own ids.
        label_N: int64 labels that are known without reading, or None.
        collate: a person's `collate_fn`; None for torch's default.
        label_key: where items with names have their label; None to look.
        seed: of whatever the dataset draws at random.
    """

    name: str
    dataset: Any
    id_N: np.ndarray
    label_N: np.ndarray | None
    collate: Callable[[list[Any]], Any] | None
    label_key: str | None
    seed: int

    def __len__(self) -> int:
        return len(self.id_N)

    def batch(self, ids_B: np.ndarray) -> Batch:
        """Return the rows of these ids as a batch; the same for whoever reads it.

        Raises:
            DataError: rows that cannot be read or collated, named.
        """
        position_B = np.searchsorted(self.id_N, ids_B)
        try:
            draw_by(derive_key(self.seed, "read", self.name, int(ids_B[0])))
            collated = self._collated(position_B)
        except Exception as error:  # a person's dataset may fail in any way
            raise DataError(
                f"reading ids {ids_B[0]}-{ids_B[-1]} of {self.name} failed with "
                f"{type(error).__name__}: {error}{self._remedy()}"
            ) from error
        found = split(collated, self.label_key, labelled=self.label_N is not None, name=self.name)
        if self.label_N is None:
            return found
        return Batch(args=found.args, named=found.named, labels=self.label_N[position_B])

    def or_why_not(self, ids_B: np.ndarray) -> Batch | Unread:
        """Return the batch, or as a value why it cannot be read."""
        try:
            return self.batch(ids_B)
        except RaySubsetError as error:
            return Unread(error=error)

    def _collated(self, position_B: np.ndarray) -> Any:
        if isinstance(self.dataset, Arrays):
            return self.dataset.collated(position_B)
        positions = position_B.tolist()
        many = getattr(self.dataset, "__getitems__", None)
        items = many(positions) if many else [self.dataset[p] for p in positions]
        return (self.collate or _by_default)(items)

    def _remedy(self) -> str:
        if self.collate is not None or isinstance(self.dataset, Arrays):
            return "; repair that row, or the collate_fn"
        return (
            "; items are put together by torch's default_collate, as a DataLoader does: give "
            "tensors of one shape (a transform; with_format('torch') for Hugging Face), or your "
            "loader's collate_fn="
        )


def both_rows(
    train_set: Any, val_set: Any, labels: Any, val_labels: Any, **how: Any
) -> tuple[OutsideRows, OutsideRows]:
    """Return both datasets as rows; raysubset's own are normalised as a run does, by the first."""
    pool = outside_rows(train_set, "train_set", labels=labels, **how)
    fitted = pool.dataset.normalize if isinstance(train_set, Dataset) else None
    like = fitted if isinstance(val_set, Dataset) else None
    return pool, outside_rows(val_set, "val_set", labels=val_labels, like=like, **how)


def outside_rows(
    given: Any,
    name: str,
    *,
    labels: Any,
    collate: Callable[[list[Any]], Any] | None,
    label_key: str | None,
    seed: int,
    like: Normalize | None = None,
) -> OutsideRows:
    """Return what a person handed in as rows; nothing is read yet.

    Args:
        given: a map-style dataset, a pair (X, y) of arrays or tensors, X alone where `labels` are
            given, or a raysubset `Dataset`.
        name: "train_set" or "val_set".
        labels: int (N,), or None to take them from the items.
        collate: as for a DataLoader.
        label_key: as in `OutsideRows`.
        seed: of whatever the dataset draws.
        like: the normalisation of a raysubset `Dataset`; None to fit it.

    Raises:
        DataError: what has no rows by position, no rows at all, or labels that do not fit.
    """
    _refuse_others(given, name)
    dataset = _dataset(given, name, like)
    if not (size := length_of(dataset, name)):
        raise DataError(f"{name} is empty; give at least one example.")
    return OutsideRows(
        name=name,
        dataset=dataset,
        id_N=given.id_N if isinstance(given, Dataset) else np.arange(size, dtype=np.int64),
        label_N=None if labels is None else _known_labels(labels, size, name),
        collate=None if isinstance(dataset, Arrays) else collate,
        label_key=label_key,
        seed=seed,
    )


def read(
    every: Sequence[tuple[OutsideRows, np.ndarray]], num_workers: int
) -> Iterator[Batch | Unread]:
    """Yield batches in turn, each the ids of one dataset; loader processes read ahead if asked."""
    if not num_workers:
        return (rows.or_why_not(ids_B) for rows, ids_B in every)
    # The generator is its own: a loader draws a seed for its processes, from everybody's else.
    loader = DataLoader(
        _Batches(every),  # pyright: ignore[reportArgumentType]  # by position is enough
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_itself,
        generator=torch.Generator(),
    )
    return iter(loader)


@dataclass(frozen=True, eq=False)
class _Batches:
    """Batches by number, for loader processes."""

    every: Sequence[tuple[OutsideRows, np.ndarray]]

    def __len__(self) -> int:
        return len(self.every)

    def __getitem__(self, index: int) -> Batch | Unread:
        rows, ids_B = self.every[index]
        return rows.or_why_not(ids_B)


def _itself(batch: Any) -> Any:
    return batch


def _dataset(given: Any, name: str, like: Normalize | None) -> Any:
    """Return whole arrays where a person gave them, and their own dataset where not."""
    if isinstance(given, Dataset):
        normalize = like or fit_normalize(given.content)
        return Arrays(columns=(given.content, given.label_N), normalize=normalize)
    if isinstance(given, tuple) and len(given) == 2 and all(_is_array(part) for part in given):
        return _pair(given, name)
    if _is_array(given):
        return Arrays(columns=(_array(given, name),))
    if type(given) is TensorDataset:
        tensors: Any = given.tensors
        return Arrays(columns=tuple(_array(tensor, name) for tensor in tensors))
    return given


def _refuse_others(given: Any, name: str) -> None:
    if isinstance(given, DataLoader):
        raise DataError(
            f"{name} is a DataLoader, whose rows have no numbers; give its dataset ("
            f"{name}=loader.dataset), and collate_fn=loader.collate_fn where it has its own."
        )
    by_position = hasattr(given, "__len__") and hasattr(given, "__getitem__")
    by_position |= isinstance(given, Dataset)
    if isinstance(given, IterableDataset) or not by_position:
        raise DataError(
            f"{name} is a {type(given).__name__}, which cannot be read by position; ids are "
            "positions, so give a map-style dataset (__len__ and __getitem__), or arrays (X, y)."
        )
    if isinstance(given, dict | str | bytes):
        raise DataError(
            f"{name} is a {type(given).__name__}, whose rows cannot be told; give a dataset, or "
            "arrays as a pair (X, y)."
        )


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor) or (
        hasattr(value, "__array__") and hasattr(value, "shape")
    )


def _pair(given: tuple[Any, Any], name: str) -> Arrays:
    content, label = (_array(part, name) for part in given)
    if content.ndim == 0 or label.ndim == 0 or len(content) != len(label):
        raise DataError(
            f"{name} is a pair of arrays of shapes {tuple(content.shape)} and "
            f"{tuple(label.shape)}; X and y need the same number of rows."
        )
    return Arrays(columns=(content, label))


def _array(value: Any, name: str) -> np.ndarray | Tensor:
    """Return an array without a copy: numpy, or a tensor that numpy cannot hold as it lies."""
    if isinstance(value, Tensor):
        value = value.detach()
        return (
            value if value.device.type != "cpu" or value.dtype == torch.bfloat16 else value.numpy()
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise DataError(f"{name} holds an array of type {array.dtype}; it must hold numbers.")
    return array


def _rows(column: np.ndarray | Tensor, position_B: np.ndarray) -> Tensor:
    if isinstance(column, Tensor):
        return column[torch.from_numpy(position_B).to(column.device)]
    rows_B = column[position_B]
    return tensor_of(rows_B.astype(rows_B.dtype.newbyteorder("="), copy=False))


def _plain(column: np.ndarray | Tensor) -> np.ndarray | Tensor:
    return column if isinstance(column, np.ndarray) else _array(column.cpu(), "it")


def _known_labels(labels: Any, size: int, name: str) -> np.ndarray:
    option = labels_option(name)
    if _is_array(labels) and not isinstance(labels, np.ndarray | Tensor):
        labels = np.asarray(labels)
    return intake.labels(labels, size, _ANY_CLASS, option).cpu().numpy()


def _by_default(items: Sequence[Any]) -> Any:
    return default_collate([as_named(item) for item in items])
