"""A run on Hugging Face data, exported: the rows that `Dataset.select` gives for its ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.exporting.test_forms import exported, played, refused
from tests.learn.sources_on_disk import pixels, png, write_images

datasets = pytest.importorskip("datasets")
NAMES = ["cat", "dog", "eel"]


def rows(count: int, names: list[str] = NAMES) -> Any:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    columns = {
        "image": [pixels(i) for i in range(count)],
        "label": [(i * i) % len(names) if i > 2 else i for i in range(count)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def ids_of(run: Path, number: int) -> list[int]:
    table = pq.read_table(run / "rounds" / f"{number:04d}" / "selection.parquet")
    return table["id"].to_pylist()


def same(made: Path, wanted: Any) -> None:
    found = datasets.load_from_disk(str(made))
    assert found.features == wanted.features
    assert found["label"][:] == wanted["label"][:]
    for a, b in zip(found["image"], wanted["image"], strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("split", [None, "fit"])
def test_a_saved_folder_gives_its_own_rows_in_the_order_of_choice(
    tmp_path: Path, split: str | None
):
    whole = rows(60)
    data = whole if split is None else datasets.DatasetDict({split: whole, "test": rows(12)})
    data.save_to_disk(str(tmp_path / "data"))
    more = [] if split is None else ["--data.split", split]
    run = played(tmp_path / "data", tmp_path / "run", *more)
    for number in (0, 1):
        made = exported(run, "hf", tmp_path / f"made{number}", "--round", str(number))
        same(made, whole.select(ids_of(run, number)))


def test_parquet_gives_its_rows_through_all_of_its_files(tmp_path: Path):
    labels = np.arange(60) % 3
    (tmp_path / "data").mkdir()
    for part, at in (("a", slice(0, 25)), ("b", slice(25, 60))):
        images: list[bytes | None] = [png(i) for i in range(60)[at]]
        write_images(tmp_path / "data" / f"train-{part}.parquet", images, labels[at])
    run = played(tmp_path / "data", tmp_path / "run")
    found = datasets.load_from_disk(str(exported(run, "hf", tmp_path / "made")))
    assert found["label"][:] == [int(labels[i]) for i in ids_of(run, 1)]


def test_data_that_changed_since_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows(60).save_to_disk(str(tmp_path / "data"))
    run = played(tmp_path / "data", tmp_path / "run")
    words = ["export", str(run), "--format", "hf", "--output", str(tmp_path / "made")]
    (tmp_path / "data").rename(tmp_path / "old")
    assert "no Hugging Face folder" in refused(words, capsys)
    rows(3).save_to_disk(str(tmp_path / "data"))
    assert "has 3 rows now" in refused(words, capsys)
    (tmp_path / "data").rename(tmp_path / "short")
    rows(60).map(lambda _, i: {"label": i % 3}, with_indices=True).save_to_disk(
        str(tmp_path / "data")
    )
    assert "are not those that the run was made on" in refused(words, capsys)
    assert not (tmp_path / "made").exists()
    exported(run, "tags", tmp_path / "tags.csv")  # which reads no data


def test_built_in_data_and_a_missing_extra_are_refused_with_what_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    run = played(Path("digits"), tmp_path / "run", "--data.limit", "100")
    words = ["export", str(run), "--format", "hf", "--output", str(tmp_path / "made")]
    assert "--format json" in refused(words, capsys)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    assert "uv sync --extra hf" in refused(words, capsys)
