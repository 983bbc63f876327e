"""Rows found by the keys that a run stored: an ImageFolder is in an order of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import raysubset as rs
from raysubset.errors import ConfigError
from raysubset.experiment import Experiment, nest
from raysubset.local_run import run_local
from raysubset.preparation import prepare
from raysubset.records import read_table
from tests.learn.sources_on_disk import png

CLASSES = {"cat": 24, "dog": 20}


def images(root: Path) -> Path:
    """Class folders with folders in them: sorted paths are not what os.walk gives."""
    for c, (name, count) in enumerate(CLASSES.items()):
        for i in range(count):
            folder = root / name / ("deep" if i % 3 == 0 else "")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"img{i}.png").write_bytes(png(100 * c + i, size=(8, 8)))
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An image folder, and a run on it."""
    folder = tmp_path_factory.mktemp("keys")
    root = images(folder / "images")
    options = {
        **{"data.path": str(root), "model.name": "mlp", "training.epochs": 2},
        **{"training.batch_size": 4, "selection.fraction": 0.5, "resources.workers": 1},
        **{"selection.strategy": "adaptive-random", "selection.select_every": 2},
    }
    run_local(prepare(Experiment.of(nest(options))), folder / "run")
    return root, folder / "run"


def key_of(run: Path) -> dict[int, str]:
    rows = read_table(run / "parts.parquet").to_pylist()
    return {row["id"]: row["key"] for row in rows}


def paths_of(dataset: ImageFolder, positions: np.ndarray) -> list[str]:
    root = Path(dataset.root)
    return [Path(dataset.samples[i][0]).relative_to(root).as_posix() for i in positions]


def test_an_image_folder_is_drawn_from_by_file_name_wherever_it_lies(made, tmp_path: Path):
    root, run = made
    moved = tmp_path / "elsewhere" / "pictures"
    shutil.copytree(root, moved)
    shutil.copy(moved / "cat" / "img1.png", moved / "cat" / "added.png")  # moves all rows after it
    dataset = ImageFolder(str(moved), ToTensor())
    sampler = rs.SubsetSampler(run, keys=dataset, dataset=dataset)
    names = key_of(run)
    moves = 0
    for epoch in range(4):
        sampler.set_epoch(epoch)
        assert paths_of(dataset, sampler.positions) == [names[i] for i in sampler.ids]
        assert paths_of(dataset, np.array(list(sampler))) == [names[i] for i in in_order(sampler)]
        moves += int((sampler.positions != sampler.ids).sum())
    assert moves
    seen = sum(len(batch) for batch, _ in DataLoader(dataset, batch_size=4, sampler=sampler))
    assert seen == len(sampler)


def in_order(sampler: rs.SubsetSampler) -> list[int]:
    """The ids as they are drawn where they are the rows: the order is not the dataset's."""
    other = rs.SubsetSampler(sampler.ids)
    other.set_epoch(sampler.epoch)
    return list(other)


def test_names_may_be_given_as_strings_or_through_a_subset(made):
    root, run = made
    dataset = ImageFolder(str(root))
    plain = rs.SubsetSampler(run, keys=dataset)
    names = paths_of(dataset, np.arange(len(dataset)))
    for keys in (names, tuple(names), np.array(names)):
        assert list(rs.SubsetSampler(run, keys=keys)) == list(plain)
    backwards = Subset(dataset, range(len(dataset) - 1, -1, -1))
    sampler = rs.SubsetSampler(run, keys=backwards)
    assert list(sampler) == [len(dataset) - 1 - row for row in plain]


def test_keys_that_are_missing_or_mean_two_rows_are_named(made):
    root, run = made
    sampler = rs.SubsetSampler(run)
    names = paths_of(ImageFolder(str(root)), np.arange(sum(CLASSES.values())))
    own = sorted({key_of(run)[i] for i in sampler.ids})
    # every epoch's slice is looked up, so keys of the other slice may be missing too
    with pytest.raises(ConfigError, match=r"keys of .*run, round \d are not among the \d+ of the"):
        rs.SubsetSampler(run, keys=[name for name in names if name not in own[:2]])
    absolute = [str(root / name) for name in names]
    with pytest.raises(ConfigError, match=f"the dataset's are like '{absolute[0]}'"):
        rs.SubsetSampler(run, keys=absolute)
    with pytest.raises(ConfigError, match=f"keys= holds '{own[0]}' twice"):
        rs.SubsetSampler(run, keys=[*names, own[0]])


def test_a_selections_own_keys_are_used_and_none_are_told(tmp_path: Path):
    table = pa.table({"id": [8, 3, 5], "weight": [1.0, 2.0, 3.0], "key": ["x", "y", "z"]})
    file = tmp_path / "chosen.parquet"
    pq.write_table(table, file)
    sampler = rs.SubsetSampler(file, keys=["z", "a", "y", "x"])
    assert sampler.ids.tolist() == [8, 3, 5] and sampler.positions.tolist() == [3, 2, 0]
    assert sampler.weights_of([0, 2]).tolist() == [3.0, 2.0]
    for column in (None, pa.nulls(3, pa.string())):
        plain = table.drop_columns("key")
        pq.write_table(plain if column is None else plain.append_column("key", column), file)
        with pytest.raises(ConfigError, match=r"chosen\.parquet has no keys"):
            rs.SubsetSampler(file, keys=["z"])
