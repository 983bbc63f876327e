"""Whole runs by the command on data of other kinds: the ids of the same rows as Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.datasets import load_digits

from raysubset.cli import call
from raysubset.experiment import Experiment, nest
from raysubset.local_run import run_local
from raysubset.preparation import prepare
from raysubset.verifying.examination import verify
from tests.bad_sources import chosen_ids
from tests.learn.sources_on_disk import encoded, write_images

SMALL: dict[str, Any] = {
    "model.name": "mlp",
    "training.epochs": 4,
    "training.batch_size": 16,
    "selection.fraction": 0.3,
    "selection.select_every": 2,
    "selection.batch_size": 32,
    "resources.workers": 2,
}
ROWS = 240


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and what is imported from it forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "mydata", raising=False)
    return tmp_path


def scans() -> tuple[np.ndarray, np.ndarray]:
    """Return real scans of digits: uint8 (N, 8, 8), and which digit."""
    digits = load_digits()
    return (digits.images[:ROWS] * 15).astype(np.uint8), digits.target[:ROWS].astype(np.int64)


def as_parquet(folder: Path) -> str:
    from PIL import Image

    images, labels = scans()
    pngs: list[bytes | None] = [encoded(Image.fromarray(image), "PNG") for image in images]
    (folder / "pq").mkdir()
    write_images(folder / "pq/digits.parquet", pngs, labels.tolist())
    return "pq/digits.parquet"


def as_saved(folder: Path) -> str:
    hf = pytest.importorskip("datasets", reason="the extra hf is not installed")
    hf.disable_progress_bars()
    as_parquet(folder)
    rows = pq.read_table(folder / "pq/digits.parquet")
    kinds = hf.Features(image=hf.Image(), label=hf.ClassLabel(num_classes=10))
    dataset = hf.Dataset.from_dict(rows.to_pydict(), features=kinds)
    dataset.save_to_disk(str(folder / "scans"), num_shards=3)
    return "scans"


def as_factory(folder: Path) -> str:
    (folder / "mydata.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "from tests.test_own_sources import scans\n"
        "def build():\n    x, y = map(torch.from_numpy, scans())\n"
        "    return TensorDataset(x[:, None], y)\n"
    )
    return "mydata:build"


def as_npz(folder: Path) -> str:
    images, labels = scans()
    np.savez(folder / "digits.npz", x_train=images, y_train=labels)
    return "digits.npz"


def run(data: str, folder: str, **more: Any) -> Path:
    """Run in this process, without the command's report."""
    run_local(prepare(Experiment.of(nest(SMALL | {"data.path": data} | more))), folder)
    return Path(folder)


def by_command(data: str, folder: str) -> Path:
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    assert call(["run", "--local", "--data", data, "--run-dir", folder, *words])[0] == 0
    return Path(folder)


@pytest.mark.parametrize(
    ("made", "runs"), [(as_saved, by_command), (as_factory, by_command), (as_npz, run)]
)
def test_a_run_chooses_the_ids_of_the_same_rows_as_parquet(
    here: Path, made: Callable[[Path], str], runs: Callable[[str, str], Path]
):
    other = runs(made(here), "other")
    usual = run("pq/digits.parquet" if (here / "pq").exists() else as_parquet(here), "usual")
    rounds = sorted(usual.glob("rounds/*/selection.parquet"))
    for path in rounds:
        same, wanted = pq.read_table(other / path.relative_to(usual)), pq.read_table(path)
        for column in ("id", "gain"):
            np.testing.assert_array_equal(same[column].to_numpy(), wanted[column].to_numpy())
    assert len(rounds) == 2 and identity(other) == identity(usual)


def identity(folder: Path) -> str:
    return json.loads((folder / "fingerprint.json").read_text())["data"]


def test_a_factory_whose_rows_changed_cannot_be_resumed(here: Path, capsys):
    data = as_factory(here)
    run(data, "a")
    source = (here / "mydata.py").read_text()
    (here / "mydata.py").write_text(
        source.replace("return Tensor", "x = 255 - x\n    return Tensor")
    )
    sys.modules.pop("mydata")
    resumed = ["run", "--local", "--data", data, "--run-dir", "a", "--resume"]
    assert call(resumed)[0] == 2
    assert "contents differ" in capsys.readouterr().err


def test_real_images_of_the_hub_s_layout_are_the_same_saved_to_disk(here: Path, shared_data: Path):
    hf = pytest.importorskip("datasets", reason="the extra hf is not installed")
    hf.disable_progress_bars()
    (source,) = sorted((shared_data / "cifar10").glob("test*.parquet"))[:1]
    table = pq.read_table(source).slice(0, 300)
    pq.write_table(table, here / "few.parquet")
    hf.Dataset(table).save_to_disk(str(here / "few"))
    options = {"data.test": 0.2}
    ids = [
        chosen_ids(run(data, f"run-{i}", **options))
        for i, data in enumerate(("few.parquet", "few"))
    ]
    assert ids[0] == ids[1] and ids[0]
    assert identity(Path("run-0")) == identity(Path("run-1"))


REFUSED = {
    "mydata:build": "failed with ZeroDivisionError",
    "mydata:bilt": "did you mean 'build'",
    "nowhere:build": "importing 'nowhere' failed with ModuleNotFoundError",
    "empty": "nothing that can be read",
    "hf:empty": "no folder of Hugging Face's save_to_disk",
    "cut.npz": "cut.npz cannot be read as numpy",
    "bare.npz": "has no labels of the train part",
    "saved": "saved/state.json is missing or no JSON object",
}


@pytest.mark.parametrize("data", REFUSED)
def test_data_that_cannot_be_read_ends_the_command_with_code_2_and_a_sentence(
    here: Path, data: str, capsys: pytest.CaptureFixture[str]
):
    (here / "mydata.py").write_text("def build():\n    return 1 / 0\n")
    (here / "empty").mkdir()
    (here / "cut.npz").write_bytes(b"PK\x03\x04 no more")
    np.savez(here / "bare.npz", x=np.zeros((4, 3)))
    (here / "saved").mkdir()
    (here / "saved/state.json").write_text("{")
    assert call(["run", "--data", data, "--run-dir", "r", "--local"])[0] == 2
    said = capsys.readouterr().err
    assert REFUSED[data] in said and "Traceback" not in said
    assert not (here / "r/rounds").exists()


def test_labels_that_are_missing_or_collide_end_the_command_with_code_2(here: Path, capsys):
    as_saved(here)
    for text, said in (
        ("key,label\n0.png,1\n0.png,2\n", "a key names one row"),
        ("key,label\n0.png,1\n1.png,2\n", "labels are missing"),
    ):
        (here / "y.csv").write_text(text)
        words = ["--data.labels", "y.csv:label", "--data.labels_key", "key"]
        assert call(["run", "--data", "scans", "--data.format", "hf", "--local", *words])[0] == 2
        assert said in capsys.readouterr().err


def test_code_that_only_a_folder_names_is_not_run_for_its_data(here: Path, capsys):
    folder = run(as_npz(here), "a")
    (here / "evil.py").write_text("import pathlib; pathlib.Path('RAN').touch()\n")
    path = folder / "experiment.yaml"
    values = yaml.safe_load(path.read_text())
    for changed in ({"path": "evil:build"}, {"test": "evil:build"}, {"format": "factory"}):
        path.write_text(yaml.safe_dump({**values, "data": values["data"] | changed}))
        capsys.readouterr()
        assert call(["run", "--local", "--run-dir", "a", "--resume"])[0] == 2
        assert "code is not run because a folder names it" in capsys.readouterr().err
        assert call(["select", "--local", "--checkpoint", "a", "--run-dir", "b"])[0] == 2
        if "path" in changed:
            call(["report", "a"])
            verify("a")
        assert not (here / "RAN").exists() and "evil" not in sys.modules


def test_a_run_of_a_factory_is_verified_where_the_person_names_it_again(here: Path):
    run(as_factory(here), "a")
    sys.modules.pop("mydata")
    before = said_of_code()
    assert len(before) == 1 and "--model mydata:build" in before[0]
    assert "mydata" not in sys.modules
    assert said_of_code("mydata:build") == [] and "mydata" in sys.modules


def said_of_code(model: str | None = None) -> list[str]:
    """Return what the verification of run a says of code."""
    found = [each.found for _, findings in verify("a", model=model).folders for each in findings]
    return [text for text in found if "is code" in text]
