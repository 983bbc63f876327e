"""A batch as people's datasets give it: what goes into the model, and the labels beside it.

Shape letters: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysubset.errors import DataError

LABEL_KEYS = ("labels", "label", "targets", "target", "y")
"""Where labels are looked for in items with names, one of them and no other being there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """A collated batch.

    Attributes:
        args: what the model is called with by position.
        named: what it is called with by name; a model may take some of it only.
        labels: as they were read; None where the items carry none.
    """

    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict[str, Any])
    labels: Any = None

    @property
    def first(self) -> Tensor:
        """The first tensor of the inputs, by whose shape a batch is named.

        Raises:
            DataError: there is none.
        """
        for tensor in _tensors((self.args, dict(self.named))):
            return tensor
        raise DataError(
            "the items hold no tensor to give to the model; give a dataset whose transform makes "
            "tensors, or a collate_fn that does."
        )

    def to(self, device: torch.device, floating: torch.dtype | None) -> Batch:
        """Return the inputs on a device; floating ones in this type, where one is given."""

        def moved(tensor: Tensor) -> Tensor:
            kind = floating if floating is not None and tensor.is_floating_point() else None
            return tensor.to(device, kind, non_blocking=True)

        return Batch(
            args=tuple(_mapped(value, moved) for value in self.args),
            named={name: _mapped(value, moved) for name, value in self.named.items()},
            labels=self.labels,
        )


def length_of(dataset: Any, name: str) -> int:
    """Return how many rows a person's dataset has.

    Raises:
        DataError: it does not say.
    """
    try:
        return len(dataset)
    except Exception as error:  # a person's dataset may fail in any way
        raise DataError(
            f"the length of {name} cannot be had: len({name}) failed with {type(error).__name__}: "
            f"{error}; repair __len__ of {type(dataset).__name__}."
        ) from error


def as_named(item: Any) -> Any:
    """Return a dataclass as a dict of its fields, without a copy; anything else as it is."""
    if is_dataclass(item) and not isinstance(item, type):
        return {f.name: getattr(item, f.name) for f in fields(item)}
    return item


def split(collated: Any, label_key: str | None, *, labelled: bool, name: str) -> Batch:
    """Return a collated batch as inputs and labels.

    Args:
        collated: a tensor, (x, ..., y), or anything with names: dict, dataclass, BatchEncoding.
        label_key: the name of the labels; None looks for one of `LABEL_KEYS`.
        labelled: whether labels are known from elsewhere, so that an item need not carry any.
        name: of the dataset, for messages.

    Raises:
        DataError: no label, or more than one that it could be.
    """
    collated = as_named(collated)
    if isinstance(collated, Mapping):
        return _split_named(collated, label_key, labelled=labelled, name=name)
    values = tuple(collated) if isinstance(collated, tuple | list) else (collated,)
    if len(values) > 1:
        return Batch(args=values[:-1], labels=values[-1])
    if labelled:
        return Batch(args=values)
    raise DataError(
        f"the items of {name} are {_told(collated)} without a label; give items (x, y), a dict "
        f'such as {{"pixel_values": x, "labels": y}}, or the labels as an array with '
        f"{labels_option(name)}="
    )


def labels_option(name: str) -> str:
    """Return the argument that gives a dataset's labels."""
    return "labels" if name == "train_set" else "val_labels"


def _split_named(
    collated: Mapping[str, Any], label_key: str | None, *, labelled: bool, name: str
) -> Batch:
    keys = [str(key) for key in collated]
    found = [key for key in LABEL_KEYS if key in keys] if label_key is None else [label_key]
    if label_key is not None and label_key not in keys and not labelled:
        raise DataError(
            f"label_key={label_key!r} is not in the items of {name}; they hold {', '.join(keys)}."
        )
    if len(found) > 1 or not (found or labelled):
        which = f"several labels ({', '.join(found)})" if found else "no label"
        raise DataError(
            f"the items of {name} hold {which}; they have {', '.join(keys)}: name the labels' key "
            f"with label_key=, or give them as an array with {labels_option(name)}="
        )
    inputs = {key: value for key, value in collated.items() if key not in found}
    labels = collated[found[0]] if found and found[0] in keys else None
    return Batch(named=inputs, labels=labels)


def checked_labels(value: Any, ids_B: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    """Return a batch's labels as int64 (B,) in 0..C-1; anything else is refused with its ids.

    Raises:
        DataError: no whole numbers, another shape, or out of range.
    """
    label = _whole_numbers(value, f"{name} ids {ids_B[0]}-{ids_B[-1]}", name)
    if label.shape != (len(ids_B),):
        raise DataError(
            f"the labels of {name} ids {ids_B[0]}-{ids_B[-1]} have shape {tuple(label.shape)} for "
            f"{len(ids_B)} examples; give one class for each."
        )
    label_B = label.detach().cpu().numpy().astype(np.int64)
    bad = np.flatnonzero((label_B < 0) | (label_B >= num_classes))
    if len(bad):
        raise DataError(
            f"{name} has label {label_B[bad[0]]} at id {ids_B[bad[0]]}; labels must lie in "
            f"0..{num_classes - 1}, the model's classes (ids: {ids_B[bad[:10]].tolist()}). Number "
            "the classes from 0, or build the model with as many outputs."
        )
    return label_B


def _whole_numbers(value: Any, where: str, name: str) -> Tensor:
    """Return labels as a tensor of whole numbers."""
    label = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
    if not isinstance(label, Tensor):
        inner = (
            f" of {type(value[0]).__name__}" if isinstance(value, list | tuple) and value else ""
        )
        raise DataError(
            f"the labels of {where} are a {type(value).__name__}{inner}, not whole numbers; number "
            f"the classes from 0, or give labels as an array with {labels_option(name)}="
        )
    if label.is_floating_point() or label.is_complex() or label.dtype == torch.bool:
        raise DataError(
            f"the labels of {where} have type {label.dtype}; they must be whole numbers (int64), "
            "the class of each example. Multi-label and regression targets have none."
        )
    return label


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


def _mapped(value: Any, moved: Callable[[Tensor], Tensor]) -> Any:
    """Return the value with its tensors moved, at any depth."""
    if isinstance(value, Tensor):
        return moved(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, moved) for key, each in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(each, moved) for each in value))
    if isinstance(value, tuple | list):
        return type(value)(_mapped(each, moved) for each in value)
    return value


def _told(collated: Any) -> str:
    return "tensors" if isinstance(collated, Tensor) else f"of type {type(collated).__name__}"
