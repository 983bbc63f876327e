"""Export of a run folder that somebody damaged: a sentence and exit code 2, never another row."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysubset.cli import call
from raysubset.records import write_table

OPTIONS = "--local --epochs 4 --selection.select_every 2 --fraction 0.2 --data.limit 120".split()
LAST = "rounds/0001/selection.parquet"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a small table with keys."""
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("there")
    label = draw.integers(0, 2, 120)
    columns = {"x": draw.normal(size=120) + label, "key": [f"k{i}" for i in range(120)]}
    pq.write_table(pa.table({**columns, "label": label}), folder / "t.parquet")
    words = ["run", "--data", f"{folder / 't.parquet'}", "--data.key_column", "key", *OPTIONS]
    assert call([*words, "--run-dir", f"{folder / 'run'}"])[0] == 0
    return folder / "run"


def without(name: str, column: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_table(folder / name, pq.read_table(folder / name).drop_columns([column]))

    return damage


def emptied(folder: Path) -> None:
    write_table(folder / LAST, pq.read_table(folder / LAST).slice(0, 0))


def of_another_part(folder: Path) -> None:
    """Choose a row of the test part, between two pool rows."""
    parts = pq.read_table(folder / "parts.parquet").to_pylist()
    table = pq.read_table(folder / LAST)
    ids = table["id"].to_numpy().copy()
    ids[0] = min(row["id"] for row in parts if row["part"] == "test")
    write_table(
        folder / LAST, table.set_column(table.column_names.index("id"), "id", pa.array(ids))
    )


def named(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "fingerprint.json").write_text(text)

    return damage


DAMAGE = {
    "no class names": named("{"),
    "class names that are none": named("[]"),
    "too few classes": named('{"classes": ["a"]}'),
    "parts without keys": without("parts.parquet", "key"),
    "a choice without ranks": without(LAST, "rank"),
    "a choice of no row": emptied,
    "a choice of a test row": of_another_part,
}


@pytest.mark.parametrize("form", ["manifest", "tags"])
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_told_and_nothing_is_written(
    what: str, form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    DAMAGE[what](copy)
    words = ["export", f"{copy}", "--format", form, "--output", f"{tmp_path / 'out.csv'}"]
    assert call(words)[0] == 2
    assert "damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("explain {} --id 3", "no class names"),
        ("explain {} --key k3", "parts without keys"),
        ("export {} --format csv", "a choice of no row"),
        ("export {} --format json", "a choice of no row"),
    ],
)
def test_whoever_asks_a_damaged_run_gets_a_sentence(
    words: str, what: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    DAMAGE[what](copy)
    before = sorted(path.name for path in copy.iterdir())
    assert call(words.format(copy).split())[0] == 2
    out, err = capsys.readouterr()
    assert out == "" and "damaged" in err and err.startswith("error: ")
    assert sorted(path.name for path in copy.iterdir()) == before
