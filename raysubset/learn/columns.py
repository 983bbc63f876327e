"""The columns of a table as features: the kind of each, its categories, and what changed of them.

Letters: F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["number", "category"]
KINDS: tuple[Kind, ...] = ("number", "category")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column and the features that it becomes.

    Attributes:
        name: in the file.
        kind: a number is one feature; a category is one feature for each of its values.
        categories: the values that the train rows have, in the order of their features; of a
            number: none.

    Example:
        >>> Column(name="colour", kind="category", categories=("blue", "red")).feature_names
        ('colour=blue', 'colour=red')
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Column name, or column=category."""
        if self.kind == "number":
            return (self.name,)
        return tuple(f"{self.name}={value}" for value in self.categories)

    def to_json(self) -> dict[str, Any]:
        """Return the column as plain values; `Column.of` reads them."""
        told: dict[str, Any] = {"name": self.name, "kind": self.kind}
        return told if self.kind == "number" else {**told, "categories": list(self.categories)}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Column:
        """Return the column of plain values.

        Raises:
            ValueError: they are no column.
        """
        name, kind, categories = told.get("name"), told.get("kind"), told.get("categories", [])
        texts = isinstance(categories, list) and all(isinstance(c, str) for c in categories)
        if not isinstance(name, str) or kind not in KINDS or not texts:
            raise ValueError(f"{str(dict(told))[:100]} is no column")
        return cls(name=name, kind=kind, categories=tuple(categories))


def features_of(columns: Sequence[Column]) -> dict[str, slice]:
    """Return column name -> where its features stand among all F."""
    places, start = dict[str, slice](), 0
    for column in columns:
        end = start + len(column.feature_names)
        places[column.name] = slice(start, end)
        start = end
    return places


def differences(before: Sequence[Column], now: Mapping[str, Kind]) -> list[str]:
    """Return what changed of a table's columns, in lines for a person; their order is free.

    Args:
        before: the columns that something was fitted to.
        now: column name -> kind of the table at hand.
    """
    kinds = {column.name: column.kind for column in before}
    gone = [name for name in kinds if name not in now]
    new = [name for name in now if name not in kinds]
    lines: list[str] = []
    if len(gone) == len(new) == 1 and kinds[gone[0]] == now[new[0]]:
        lines.append(f"column {gone[0]!r} is missing and {new[0]!r} is new (renamed?)")
    else:
        lines += [f"column {name!r} ({kinds[name]}) is missing" for name in gone]
        lines += [f"column {name!r} ({now[name]}) is new" for name in new]
    changed = [name for name in kinds if name in now and kinds[name] != now[name]]
    return lines + [f"column {name!r} is {now[name]}, but was {kinds[name]}" for name in changed]
