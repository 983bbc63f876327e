"""Which label stands for which row of a given head."""

# pyarrow.compute makes its functions at import, where pyright cannot see them
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raysubset.errors import DataError
from raysubset.learn.sources.labels import Classes, LabelColumn, find_classes
from raysubset.learn.sources.rows import shown


def classes_of_head(label: LabelColumn, num_classes: int, names: tuple[str, ...] | None) -> Classes:
    """Return the classes of a head with this many rows, in the order of its rows.

    Whole numbers are row numbers of the head, or what its `names` say where these are whole numbers
    too. Text is numbered by `names`, else in sorted order, as image folders and scikit-learn's
    LabelEncoder do.

    Args:
        label: the pool's labels, as `plain` returned them.
        num_classes: C.
        names: the classes in the head's order, where its file has them.

    Raises:
        DataError: numbers beyond the head's rows, another number of names, or one twice.
    """
    if names is not None and len(names) != num_classes:
        raise DataError(f"the head has {num_classes} rows and {len(names)} classes; give one each.")
    if names is not None and len(set(names)) < len(names):
        raise DataError(f"the head's classes {shown(names)} hold a name twice; give each its own.")
    if pa.types.is_integer(label.values.type):
        if names is not None and (numbers := _whole(names)) is not None:
            # scikit-learn's `classes_`: what stands for each row, in whatever order.
            values = pa.array(numbers, pa.int64())
            return Classes(values=values, names=names, where="the head's classes")
        beyond = pc.indices_nonzero(pc.greater_equal(label.values, num_classes)).to_pylist()
        if beyond:
            raise DataError(
                f"{label.where} holds {label.values[beyond[0]].as_py()} ({len(beyond):,} rows, "
                f"first: {shown(beyond)}) and the head has {num_classes} rows; labels must lie in "
                f"0..{num_classes - 1}, as row numbers of the head's weight."
            )
        own = tuple(str(c) for c in range(num_classes))
        return Classes(
            values=pa.array(range(num_classes), pa.int64()), names=names or own, where=label.where
        )
    if names is not None:
        return Classes(
            values=pa.array(names, label.values.type), names=names, where="the head's classes"
        )
    found = find_classes(label)
    if len(found.names) != num_classes:
        raise DataError(
            f"{label.where} has {len(found.names)} distinct names ({shown(found.names)}) and the "
            f"head has {num_classes} rows; write labels as row numbers of the head, or give its "
            "names in their order as an array `classes` in the --head file."
        )
    return found


def _whole(names: tuple[str, ...]) -> list[int] | None:
    """Return names that are whole numbers as such; None where one is not."""
    return [int(name) for name in names] if all(n.isdecimal() for n in names) else None
