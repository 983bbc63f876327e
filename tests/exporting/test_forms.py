"""A run's choice as other tools read it: the same ids, names and classes as its rounds hold."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import ImageFolder

from raysubset.cli import call
from raysubset.records import write_table
from tests.learn.sources_on_disk import png, write_file, write_images

OPTIONS = (
    "--local --epochs 4 --selection.select_every 2 --fraction 0.2 --model.name convnet "
    "--selection.batch_size 16 --training.batch_size 8"
).split()
CLASSES = ("cat", "=dog", "ölig")


def images(root: Path) -> Path:
    """Write 60 images of three classes; a folder may be called anything."""
    for i in range(60):
        write_file(root / CLASSES[i % 3] / f"deep{i % 2}" / f"{i}.png", png(i))
    return root


def played(data: Path, folder: Path, *more: str) -> Path:
    assert call(["run", "--data", str(data), *OPTIONS, *more, "--run-dir", str(folder)])[0] == 0
    return folder


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of images and a run on it."""
    folder = tmp_path_factory.mktemp("there")
    return images(folder / "images"), played(folder / "images", folder / "run")


def parts_of(run: Path) -> dict[int, dict[str, object]]:
    """Return the pool's rows by id."""
    rows = pq.read_table(run / "parts.parquet").to_pylist()
    return {row["id"]: row for row in rows if row["part"] == "pool"}


def rounds_of(run: Path) -> list[list[dict[str, object]]]:
    tables = sorted(run.glob("rounds/*/selection.parquet"))
    return [pq.read_table(path).to_pylist() for path in tables]


def exported(run: Path, form: str, output: Path, *more: str) -> Path:
    words = ["export", str(run), "--format", form, "--output", str(output), *more]
    assert call(words)[0] == 0
    return output


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert call(words)[0] == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err and out == ""
    return err


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("number", [None, 0])
def test_links_are_an_image_folder_of_exactly_the_chosen_images(
    there: tuple[Path, Path], tmp_path: Path, number: int | None
):
    data, run = there
    more = [] if number is None else ["--round", str(number)]
    made = ImageFolder(exported(run, "symlinks", tmp_path / "chosen", *more))
    chosen = rounds_of(run)[-1 if number is None else number]
    keys = {str(parts_of(run)[int(str(row["id"]))]["key"]) for row in chosen}
    assert {os.path.realpath(path) for path, _ in made.samples} == {str(data / key) for key in keys}
    for path, label in made.samples:
        assert Path(os.path.relpath(path, tmp_path / "chosen")).parts[0] == made.classes[label]
    assert len(made) == len(keys)


@pytest.mark.parametrize("more", [[], ["--strategy", "adaptive-random"]])
def test_a_manifest_names_each_chosen_file_once_in_the_order_of_choice(
    tmp_path: Path, more: list[str]
):
    run = played(images(tmp_path / "images"), tmp_path / "run", *more)
    told = lines(exported(run, "manifest", tmp_path / "metadata.csv"))
    chosen = rounds_of(run)[-1]
    ids = list(dict.fromkeys(row["id"] for row in chosen))  # several slices may hold an id
    assert [int(line["id"]) for line in told] == ids
    names = json.loads((run / "fingerprint.json").read_text())["classes"]
    for line in told:
        row = parts_of(run)[int(line["id"])]
        path = tmp_path / "images" / line["file_name"]
        assert path.resolve() == (tmp_path / "images" / str(row["key"])).resolve()
        assert line["file_name"][0] not in "=+-@"
        assert line["label"].lstrip("'") == names[int(str(row["label"]))]
        first = next(each for each in chosen if each["id"] == row["id"])
        gain = first["gain"]
        assert isinstance(gain, float)
        assert line["gain"] == ("" if gain != gain else repr(gain))


def test_tags_tell_of_every_pool_row_what_a_slow_count_of_the_rounds_tells(
    there: tuple[Path, Path], tmp_path: Path
):
    _, run = there
    told = lines(exported(run, "tags", tmp_path / "tags.csv"))
    rounds, pool = rounds_of(run), parts_of(run)
    times = Counter(i for chosen in rounds for i in {row["id"] for row in chosen})
    last = {row["id"]: row for chosen in rounds for row in chosen}
    assert [int(line["id"]) for line in told] == sorted(pool)
    assert 0 < sum(line["tags"] == "raysubset_chosen" for line in told) < len(told)
    for line in told:
        id_ = int(line["id"])
        row = last.get(id_)
        assert line["key"].removeprefix("'") == pool[id_]["key"]
        assert int(line["raysubset_times"]) == times[id_]
        assert line["tags"] == ("raysubset_chosen" if row else "raysubset_never_chosen")
        assert line["raysubset_round"] == ("" if row is None else str(row["round"]))
        assert line["raysubset_rank"] == ("" if row is None else str(row["rank"]))


def test_fiftyone_gets_the_same_by_files_that_are_there(there: tuple[Path, Path], tmp_path: Path):
    data, run = there
    tags = lines(exported(run, "tags", tmp_path / "tags.csv"))
    told = lines(exported(run, "fiftyone", tmp_path / "labels.csv"))
    assert [line["filepath"] for line in told] == [
        str(data / line["key"].removeprefix("'")) for line in tags
    ]
    assert all(Path(line["filepath"]).is_absolute() for line in told)
    shared = [name for name in tags[0] if name.startswith("raysubset_")] + ["label", "tags"]
    assert [{k: a[k] for k in shared} for a in told] == [{k: b[k] for k in shared} for b in tags]


def test_images_that_moved_are_found_where_a_person_says_and_missing_ones_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = played(images(tmp_path / "images"), tmp_path / "run")
    (tmp_path / "images").rename(tmp_path / "moved")
    words = ["export", str(run), "--format", "symlinks", "--output", str(tmp_path / "chosen")]
    assert "--images FOLDER" in refused(words, capsys)
    words += ["--images", str(tmp_path / "moved")]
    first = rounds_of(run)[-1][0]["id"]
    gone = tmp_path / "moved" / str(parts_of(run)[int(str(first))]["key"])
    content = gone.read_bytes()
    gone.unlink()
    assert f"1 of {len(rounds_of(run)[-1])} images are not below" in refused(words, capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "run"]
    gone.write_bytes(content)
    assert call(words)[0] == 0
    assert "exists already" in refused(words, capsys)


def test_parts_in_folders_of_their_own_are_no_part_of_a_name(tmp_path: Path):
    images(tmp_path / "data" / "train")
    for i in range(9):
        write_file(tmp_path / "data" / "test" / CLASSES[i % 3] / f"{i}.png", png(100 + i))
    run = played(tmp_path / "data", tmp_path / "run")
    made = ImageFolder(exported(run, "symlinks", tmp_path / "chosen"))
    below = {
        Path(os.path.realpath(path)).relative_to(tmp_path / "data") for path, _ in made.samples
    }
    assert {path.parts[0] for path in below} == {"train"}
    assert {path.parts[1] for path in below} <= set(CLASSES)


@pytest.mark.parametrize("key", ["../../secret.png", "/etc/hostname", "cat/../../x.png"])
def test_f27_a_run_folder_whose_names_lead_out_makes_no_link(
    there: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
):
    data, run = there
    copy = shutil.copytree(run, tmp_path / "run")
    parts = pq.read_table(copy / "parts.parquet")
    first = rounds_of(run)[-1][0]["id"]
    keys = [
        key if row["id"] == first and row["part"] == "pool" else row["key"]
        for row in parts.to_pylist()
    ]
    place = parts.column_names.index("key")
    write_table(copy / "parts.parquet", parts.set_column(place, "key", [keys]))
    words = ["export", str(copy), "--format", "symlinks", "--output", str(tmp_path / "chosen")]
    assert "leads out of" in refused([*words, "--images", str(data)], capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--format tags", "needs --output"),
        ("--format manifest --output {run}/x.csv", "lies in the run folder"),
        ("--format tags --output s3://b/x.csv", "give a local path"),
        ("--format tags --output {tmp}/no/x.csv", "there is no folder"),
        ("--format tags --output {tmp}/x.csv --round 0", "tells of all rounds"),
        ("--format manifest --output {tmp}/x.csv --round 7", "finished rounds: 0 to 1"),
        ("--format manifest --output {tmp}/x.csv --images {tmp}", "looks at no image"),
        ("--format csv --images {tmp}", "looks at no image"),
        ("--format symlinks --output {tmp}/x --images {tmp}/no", "is no folder here"),
        ("--format symlinks --output {tmp}/x --images s3://b/x", "behind an address"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    there: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: str,
    told: str,
):
    words = more.format(run=there[1], tmp=tmp_path).split()
    assert told in refused(["export", str(there[1]), *words], capsys)
    assert list(tmp_path.iterdir()) == []


def test_rows_without_files_are_refused_with_what_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    built_in = played(Path("digits"), tmp_path / "digits", "--data.limit", "100")
    for form in ("manifest", "symlinks", "fiftyone"):
        words = ["export", str(built_in), "--format", form, "--output", str(tmp_path / "x")]
        assert "--format csv" in refused(words, capsys)
    assert lines(exported(built_in, "tags", tmp_path / "tags.csv"))[0]["key"] == ""
    data = write_images(tmp_path / "x.parquet", [png(i) for i in range(60)], np.arange(60) % 3)
    run = played(data, tmp_path / "run")
    words = ["export", str(run), "--format", "symlinks", "--output", str(tmp_path / "y")]
    assert "--images FOLDER" in refused(words, capsys)
    assert lines(exported(run, "manifest", tmp_path / "m.csv"))[0]["file_name"].endswith(".png")
