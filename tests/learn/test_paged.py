"""Rows in a file: every value is numpy's, every run is that of memory, and memory stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.cli import call
from raysubset.errors import DataError
from raysubset.learn import paged
from raysubset.learn.paged import empty_rows, is_paged, joined, paged_above, repeated, taken
from raysubset.scratch import scratch_root
from tests.learn.sources_on_disk import load, png, write_images
from tests.small_runs import Left, same_weights

REPOSITORY = Path(__file__).parents[2]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes from a file goes to a file, and is moved in many pieces."""
    monkeypatch.setattr(paged, "_PIECE_BYTES", 64)


def in_file(rows: np.ndarray) -> np.ndarray:
    with paged_above(0):
        held = empty_rows(rows.shape, rows.dtype, "these")
    held[:] = rows
    return held


def drawn(seed: int, channels: int = 2) -> tuple[np.random.Generator, np.ndarray]:
    draw = np.random.default_rng(seed)
    shape = (int(draw.integers(1, 40)), channels, 3, int(draw.integers(1, 5)))
    return draw, draw.integers(0, 256, shape, dtype=np.uint8)


@given(seed=SEEDS)
def test_what_is_taken_from_a_file_is_what_is_taken_in_memory(seed: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged, "_PIECE_BYTES", 64)
        draw, rows = drawn(seed)
        position_K = draw.integers(0, len(rows), int(draw.integers(0, 60)))
        held = taken(in_file(rows), position_K)
        np.testing.assert_array_equal(held, rows[position_K])
        assert held.dtype == rows.dtype
        assert is_paged(held) == (held.nbytes > 64)


@given(seed=SEEDS)
def test_images_in_a_file_are_repeated_and_joined_as_in_memory(seed: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged, "_PIECE_BYTES", 64)
        draw, rows = drawn(seed, channels=1)
        np.testing.assert_array_equal(repeated(in_file(rows), 3), np.repeat(rows, 3, axis=1))
        others = draw.integers(0, 256, (5, *rows.shape[1:]), dtype=np.uint8)
        order = draw.permutation(len(rows) + 5)
        wanted = np.concatenate([rows, others])[order]
        for first, second in ((in_file(rows), others), (rows, in_file(others)), (rows, others)):
            np.testing.assert_array_equal(joined(first, second, order), wanted)


def test_only_what_is_above_the_limit_lies_in_a_file_and_none_has_a_name():
    before = {path.name for path in scratch_root().iterdir()}
    with paged_above(100):
        small, large = (empty_rows(shape, np.uint8, "these") for shape in ((100,), (101,)))
    assert (is_paged(small), is_paged(large)) == (False, True)
    assert is_paged(large[3:].reshape(-1, 1)) and not is_paged(large.copy())
    assert not is_paged(empty_rows((101,), np.uint8, "these"))  # the block has ended
    assert {path.name for path in scratch_root().iterdir()} - before == set()


def test_f21_what_the_disk_cannot_hold_is_refused_with_both_sizes():
    with paged_above(0), pytest.raises(DataError, match=r"of x: they need .* GB in .*TMPDIR"):
        empty_rows((1 << 60,), np.uint8, "the images of x")


def write_pool(folder: Path, *, gray: int = 0) -> Path:
    """Write 300 train images, the first ones gray, and 40 gray test images, of 3 classes."""
    images: list[bytes | None] = [png(i, "L" if i < gray else "RGB") for i in range(300)]
    images[17] = b"no image"
    folder.mkdir()
    write_images(folder / "train.parquet", images, np.arange(300) % 3)
    write_images(folder / "test.parquet", [png(i, "L") for i in range(40)], np.arange(40) % 3)
    return folder


@pytest.mark.parametrize("gray", [0, 30])
def test_sources_are_the_same_wherever_their_images_lie(
    tmp_path: Path, fine: None, monkeypatch: pytest.MonkeyPatch, gray: int
):
    path = write_pool(tmp_path / "data", gray=gray)
    here = load(path, on_bad_row="skip")
    with monkeypatch.context() as patch:
        patch.setattr("raysubset.learn.sources.paged_above", lambda _: paged_above(0))
        there = load(path, on_bad_row="skip")
    assert is_paged(there.train.content) and not is_paged(here.train.content)
    assert here.test is not None and there.test is not None
    for a, b in ((here.train, there.train), (here.test, there.test)):
        assert a.fingerprint == b.fingerprint
        assert (a.notes, a.skipped) == (b.notes, b.skipped)
        np.testing.assert_array_equal(a.content_digest_N, b.content_digest_N)


OPTIONS = (
    "--local --epochs 4 --selection.select_every 2 --data.on_bad_row skip --model.name convnet "
    "--selection.batch_size 16 --training.batch_size 16"
)


@pytest.mark.parametrize(
    "more",
    [
        "--fraction 0.2",
        "--fraction 0.7",  # more than half of the pool is read where it lies
        "--fraction 0.2 --strategy full-validation-compressed",
        "--fraction 0.2 --selection.goal smaller --selection.proxy_epochs 1",
    ],
)
def test_a_run_is_the_same_wherever_its_images_lie(
    tmp_path: Path, fine: None, monkeypatch: pytest.MonkeyPatch, more: str
):
    words = ["run", "--data", str(write_pool(tmp_path / "data")), *OPTIONS.split(), *more.split()]
    assert call([*words, "--run-dir", str(tmp_path / "here")])[0] == 0
    seen: list[bool] = []

    def all_above(_: int) -> Any:
        seen.append(True)
        return paged_above(0)

    monkeypatch.setattr("raysubset.learn.sources.paged_above", all_above)
    assert call([*words, "--run-dir", str(tmp_path / "there"), "--data.memory_mb", "1"])[0] == 0
    assert seen
    here, there = Left(tmp_path / "here"), Left(tmp_path / "there")
    assert (here.ids, here.gains, here.result) == (there.ids, there.gains, there.result)
    assert same_weights(here.weights(), there.weights())


def test_a_run_goes_on_with_another_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["run", "--data", str(write_pool(tmp_path / "data")), *OPTIONS.split()]
    words += ["--fraction", "0.2", "--run-dir", str(tmp_path / "run")]
    assert call(words)[0] == 0
    assert call([*words, "--resume", "--data.memory_mb", "7"])[0] == 0, capsys.readouterr()


CHILD = """
import sys, threading
import sklearn.utils, torch, torchmetrics.classification, matplotlib.figure, PIL.Image
from raysubset.cli import call
from raysubset.local_run import run_local

def private():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) << 10

before = peak = private()
ended = threading.Event()

def look():
    global peak
    while not ended.wait(0.005):
        peak = max(peak, private())

threading.Thread(target=look, daemon=True).start()
code = call(sys.argv[1:])[0]
ended.set()
print("PEAK", peak - before)
sys.exit(code)
"""


def shaded(size: int, count: int) -> list[bytes | None]:
    from io import BytesIO

    from PIL import Image

    def one(i: int) -> bytes:
        buffer = BytesIO()
        Image.new("RGB", (size, size), (i % 251, i % 7 * 30, i % 3 * 90)).save(buffer, "PNG")
        return buffer.getvalue()

    return [one(i) for i in range(count)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_holds_no_pool_that_is_beyond_its_limit(tmp_path: Path):
    size, count, limit = 192, 1200, 20  # 133 MB of images, and 20 MB for them
    pool = 3 * size * size * count
    data = write_images(tmp_path / "x.parquet", shaded(size, count), np.arange(count) % 3)
    words = (
        f"run --data {data} --local --model.name tests.learn.ranks:pooled --fraction 0.05 "
        "--epochs 2 --selection.select_every 1 --training.batch_size 8 --selection.batch_size 8"
    )

    def grown(folder: str, limit: int) -> int:
        own = ["--data.memory_mb", str(limit), "--run-dir", str(tmp_path / folder)]
        told = subprocess.run(
            [sys.executable, "-c", CHILD, *words.split(), *own],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
        return int(told.stdout.splitlines()[-1].removeprefix("PEAK "))

    there, here = grown("there", limit), grown("here", 4000)
    assert here > pool  # the control: in memory it is held, and for a while twice
    assert there < here - 0.9 * pool
    assert Left(tmp_path / "there").ids == Left(tmp_path / "here").ids
