"""A person's own map-style datasets by `module:factory`: every item read once, in order.

Letters: N items, F features.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import Subset

from raysubset.errors import ConfigError, DataError
from raysubset.learn.factories import Named, cause, names_a_factory
from raysubset.learn.settings import Layout
from raysubset.learn.skipped import Skipped
from raysubset.learn.sources.in_memory import Features, parts_of_one_kind
from raysubset.learn.sources.items import Items, Pair, plain_label, settled_image
from raysubset.learn.sources.labels import LabelColumn
from raysubset.learn.sources.rows import PARTS_BY_NAME, OnBadRow, Part, RawPart, shown
from raysubset.learn.sources.tables import LabelRule

_WANTED = (
    "a map-style dataset (with __len__ and __getitem__), a dict of them such as "
    "{'train': ..., 'test': ...}, or an object with these attributes"
)


def open_factories(
    sources: Mapping[Part, str], rule: LabelRule, layout: Layout, on_bad: OnBadRow
) -> tuple[dict[Part, RawPart], tuple[str, ...]]:
    """Return the parts that a person's code gives, and what was left aside. Runs it, by design.

    random, numpy and torch draw the same numbers whenever this is called, and go on afterwards as
    if it had not been.

    Args:
        sources: train -> module:factory; other parts where a person named their own.
        rule: whether the train labels stand in a file beside them.
        layout: where the channels of images stand, in items that are arrays.
        on_bad: what an item that fails does.

    Raises:
        DataError: a factory or an item that fails, items that are no data; names the item.
    """
    read: dict[Part, RawPart | Features] = {}
    notes: list[str] = []
    for part, source in sources.items():
        named = _named(source, part)
        with named.importable(), _settled_randomness():  # items may import, and draw
            made = _made(named)
            found, ignored = _datasets(made, named, part)
            if part != "train" and source == sources["train"] and found[part] is made:
                raise ConfigError(
                    f"{named}: the factory gives one dataset, which is the train part already; "
                    f"let it return {{'train': ..., {part!r}: ...}}, or name another one"
                )
            notes += [f"ignored {shown(ignored)} of {source}"] if ignored else []
            for which, dataset in found.items():
                if which == part or (part == "train" and which not in sources):
                    reader = _Reader(f"{source} {which}", layout, on_bad)
                    read[which] = reader.read(dataset, unlabelled=rule.beside and which == "train")
    where, remedy = f"--data={sources['train']}", "give them one shape"
    parts = parts_of_one_kind(read, rule.roles, on_bad, where=where, remedy=remedy)
    return parts, tuple(notes)


def _named(source: str, part: Part) -> Named:
    option = "--data" if part == "train" else f"--data.{part}"
    if not names_a_factory(source):
        raise ConfigError(
            f"{option}={source} is no module:factory, as the train rows are; write it as in "
            f"{option} mydata:build, or give a share such as 0.1"
        )
    return Named.of(source, option=option, error=DataError, example="mydata:build")


def _made(named: Named) -> object:
    found = named.imported()
    is_data = not isinstance(found, type) and (_is_map_style(found) or isinstance(found, Mapping))
    if is_data:
        return found
    if not callable(found):
        raise DataError(
            f"{named}: it is of type {type(found).__name__}; name a function that returns {_WANTED}"
        )
    return named.called(found, {})


def _datasets(made: object, named: Named, part: Part) -> tuple[dict[Part, Any], list[str]]:
    """Return the datasets of what a factory gave, and the names of those that are no part."""
    if isinstance(made, Mapping):
        given = {str(name): value for name, value in made.items() if value is not None}
    elif _is_map_style(made) and not isinstance(made, tuple):
        return {part: made}, []
    else:
        there = {name: getattr(made, name, None) for name in PARTS_BY_NAME}
        given = {name: value for name, value in there.items() if _is_map_style(value)}
    found: dict[Part, Any] = {}
    for name, value in given.items():
        which = PARTS_BY_NAME.get(name.lower())
        if which in found:
            raise DataError(f"{named}: two of {shown(list(given))} are the {which} part; keep one")
        if which is not None:
            found[which] = value
    odd = [name for name, value in given.items() if not _is_map_style(value)]
    if part not in found or odd:
        what = f"which of {shown(odd)} is none" if odd else f"without {part}"
        raise DataError(
            f"{named}: the factory gave {type(made).__name__} {what}; wanted: {_WANTED}"
        )
    return found, [name for name in given if name.lower() not in PARTS_BY_NAME]


def _is_map_style(value: object) -> bool:
    return all(hasattr(type(value), name) for name in ("__len__", "__getitem__"))


@contextmanager
def _settled_randomness() -> Generator[None]:
    """Start every random stream at the same place, and put it back where it was.

    A dataset that draws (an augmentation, a split) gives the same rows whenever it is read: a run
    that is resumed has the rows that it had.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@dataclass(frozen=True)
class _Reader:
    """Reads a dataset whole."""

    where: str
    """Such as: mydata:build train."""
    layout: Layout
    on_bad: OnBadRow

    def row_name(self, row: int) -> str:
        """Return how a person finds an item."""
        return f"{self.where} item {row}"

    def read(self, dataset: Any, unlabelled: bool) -> RawPart | Features:
        """Return all items of a dataset.

        Args:
            dataset: map-style.
            unlabelled: whether labels stand elsewhere, so that items need none.
        """
        count = self._len(dataset)
        items = Items(count, self.row_name, self.layout)
        labels: list[Any] = [None] * count
        bad: list[Skipped] = []
        for row in range(count):
            try:
                pair = Pair.of(dataset[row], self.row_name(row), labelled=not unlabelled)
                x = settled_image(pair.x)
            except DataError:
                raise
            except Exception as error:  # a person's dataset may fail in any way
                bad.append(self._bad(row, count, error))
                continue
            labels[row] = pair.label
            items.add(row, x)
        self._refuse_all_bad(bad, count)
        label = None if unlabelled else self._labels(dataset, labels, bad)
        return items.part(label, _keys_of(dataset, count), tuple(bad), self.where)

    def _len(self, dataset: Any) -> int:
        try:
            count = len(dataset)
        except Exception as error:  # as above
            raise DataError(
                f"{self.where}: its len() failed with {cause(error)}; a map-style dataset knows "
                "its length"
            ) from error
        if count:
            return count
        raise DataError(f"{self.where} holds no item (its len() is 0)")

    def _bad(self, row: int, count: int, error: Exception) -> Skipped:
        if self.on_bad == "refuse":
            raise DataError(
                f"{self.row_name(row)} of {count:,} failed with {cause(error)}; repair it, or "
                "leave items that fail out with --data.on_bad_row skip"
            ) from error
        where = self.row_name(row)
        return Skipped(row=row, where=where, cause="unreadable item", detail=cause(error))

    def _refuse_all_bad(self, bad: Sequence[Skipped], count: int) -> None:
        if len(bad) == count:
            raise DataError(f"{self.where}: all {count:,} items failed; first: {bad[0].detail}")

    def _labels(self, dataset: Any, labels: list[Any], bad: Sequence[Skipped]) -> LabelColumn:
        targets = _attribute(dataset, "targets")
        if all(label is None for label in labels) and targets is not None:
            if len(targets) != len(labels):
                raise DataError(
                    f"{self.where} has {len(targets):,} targets for {len(labels):,} items; it "
                    "needs one per item"
                )
            labels = [plain_label(t, self.row_name(row)) for row, t in enumerate(targets)]
        if all(label is None for label in labels):
            raise DataError(
                f"{self.where}: its items have no label; return (image, label) pairs or dicts with "
                "'label', or give the labels beside: --data.labels FILE"
            )
        names = _attribute(dataset, "classes", per_item=False)
        return LabelColumn(
            values=self._column(labels),
            where=f"the labels of {self.where}",
            row_name=self.row_name,
            names=tuple(map(str, names)) if isinstance(names, (list, tuple)) else None,
        )

    def _column(self, labels: list[Any]) -> pa.Array:
        try:
            return pa.array(labels)
        except (pa.ArrowException, TypeError, OverflowError):
            first = next(label for label in labels if label is not None)
            row, odd = next(
                (row, label)
                for row, label in enumerate(labels)
                if label is not None and type(label) is not type(first)
            )
            raise DataError(
                f"{self.row_name(row)} has the label {odd!r} ({type(odd).__name__}), the first "
                f"one {first!r} ({type(first).__name__}); write all labels in one way"
            ) from None


def _attribute(dataset: Any, name: str, per_item: bool = True) -> Any:
    """Return what a dataset says of its items, also where it is a Subset of another one."""
    if not isinstance(dataset, Subset):
        return getattr(dataset, name, None)
    inner: Any = _attribute(dataset.dataset, name, per_item)
    return [inner[i] for i in dataset.indices] if per_item and inner is not None else inner


def _keys_of(dataset: Any, count: int) -> tuple[str, ...] | None:
    """Return the paths of a dataset of files, as torchvision's folders list them."""
    samples = _attribute(dataset, "samples") or _attribute(dataset, "imgs")
    if not isinstance(samples, (list, tuple)) or len(samples) != count:
        return None
    firsts: list[Any] = [each[0] if isinstance(each, tuple) and each else each for each in samples]
    if not all(isinstance(first, (str, Path)) for first in firsts):
        return None
    root = _attribute(dataset, "root", per_item=False)
    base = Path(root) if isinstance(root, (str, Path)) else None
    paths = [Path(first) for first in firsts]
    inside = base is not None and all(path.is_relative_to(base) for path in paths)
    return tuple((p.relative_to(base) if inside and base else p).as_posix() for p in paths)
