"""F17: any table that Parquet can hold is read as it is, or refused in a sentence that names it."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.errors import RaySubsetError
from tests.learn.sources_on_disk import load

NUMBERS = {
    "int8": st.integers(-128, 127),
    "uint64": st.integers(0, 2**64 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "bool_": st.booleans(),
}
FINITE = {"float32": st.floats(-10, 10, width=32), "float64": st.floats(-1e30, 1e30)}
NAMES = st.sampled_from(["a", "b b", "=c", "id"])
WORDS = st.sampled_from(["", "a", "=1+1", "\x1b[31m", "ä\u2028", "nan", "0"])
STRANGE = {
    "date32": st.just(datetime.date(2020, 1, 1)),
    "binary": st.binary(max_size=3),
    "list": st.lists(st.integers(0, 3), max_size=2),
    "struct": st.fixed_dictionaries({"x": st.integers(0, 3)}),
}
TYPES = {"list": pa.list_(pa.int64()), "struct": pa.struct({"x": pa.int64()})}


@st.composite
def columns(draw: st.DrawFn, size: int, plain: bool) -> pa.Array:
    """Draw a column of a kind; a plain one is a feature without a null."""
    kinds = {**NUMBERS, "string": WORDS, "decimal": st.integers(-999, 999).map(Decimal)}
    kinds |= FINITE if plain else STRANGE
    kind = draw(st.sampled_from(sorted(kinds)))
    cell = kinds[kind] if plain or draw(st.booleans()) else st.none() | kinds[kind]
    values = draw(st.lists(cell, min_size=size, max_size=size))
    if kind == "decimal":
        return pa.array(values, pa.decimal128(5, 0))
    made = pa.array(values, TYPES[kind] if kind in TYPES else getattr(pa, kind)())
    return made.dictionary_encode() if kind == "string" and draw(st.booleans()) else made


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table with a label column of numbers or of words."""
    plain = draw(st.booleans())
    size = draw(st.integers(4 * plain, 12))
    names = draw(st.lists(NAMES, unique=True, min_size=int(plain), max_size=3))
    label = st.sampled_from([0, 1, 7]) if draw(st.booleans()) else WORDS
    cell = label if plain or draw(st.booleans()) else st.none() | label
    given = {name: draw(columns(size, plain)) for name in names}
    return pa.table({**given, "label": draw(st.lists(cell, min_size=size, max_size=size))})


LAYOUTS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "row_group_size": st.integers(1, 5),
        "use_dictionary": st.booleans(),
        "write_page_checksum": st.booleans(),
    }
)


def expected(column: pa.ChunkedArray) -> list[np.ndarray] | None:
    """Return a feature's columns as a slow reader makes them; None for what is no feature."""
    cells: list[Any] = column.to_pylist()
    if any(cell is None for cell in cells):
        return None
    if all(isinstance(cell, str) for cell in cells):
        return [np.array([cell == word for cell in cells], np.float32) for word in sorted({*cells})]
    if not all(isinstance(cell, bool | int | float | Decimal) for cell in cells):
        return None
    with np.errstate(over="ignore"):
        values = np.array([np.float32(float(cell)) for cell in cells], np.float32)
    return [values] if np.isfinite(values).all() else None


@settings(max_examples=300)
@given(table=tables(), layout=LAYOUTS)
def test_f17_any_table_is_read_as_it_is_or_refused_in_a_sentence_that_names_it(
    table: pa.Table, layout: dict[str, Any], tmp_path_factory: Any
):
    path: Path = tmp_path_factory.getbasetemp() / "x.parquet"
    pq.write_table(table, path, **layout)
    features = [expected(table[name]) for name in table.column_names if name != "label"]
    label = table["label"].to_pylist()
    try:
        train = load(path).train
    except RaySubsetError as error:
        assert "x.parquet" in str(error) and "\n" not in str(error) and "\x1b" not in str(error)
        numbers = all(made is not None and len(made) == 1 for made in features)
        whole = features and numbers and None not in label and "" not in label
        assert not (whole and len({*label}) > 1), "nothing was wrong with it"
        return
    wanted = [each for made in features if made is not None for each in made]
    assert None not in features and len(label) == train.num_examples
    np.testing.assert_array_equal(train.content, np.stack(wanted, axis=1))
    told = [train.class_names[number] for number in train.label_N]
    assert told == [str(cell) for cell in label]
    assert not any(math.isnan(value) for value in train.content.flat)
