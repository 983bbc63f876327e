"""F21: a disk that is full ends a run in a sentence, and costs what was not committed yet."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections import namedtuple
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path

import pytest
from ray.exceptions import OutOfDiskError

from raysubset import files
from raysubset.chain import MANIFEST
from raysubset.cli import call
from raysubset.cluster import session
from raysubset.errors import RoomError, RunFolderError
from raysubset.frontier.disk import left_to_write, run_bytes
from raysubset.learn import checkpoint
from raysubset.local_run import run_local
from tests.small_runs import BLOCKS, RUNS, Left, assert_same_run, experiment, prepared

Usage = namedtuple("Usage", "total used free")
FULL = "No space left on device"
SMALL = "--data digits --data.limit 200 --model.name mlp --epochs 2 --local".split()
EVERY = ["--selection.select_every", "1"]


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """Give a file system of its own, of 4 MB."""
    (place := tmp_path / "disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    if made.returncode:
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        # -l: torch.save leaves a file open that it could not write.
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


def fill(disk: Path, but: int) -> Path:
    """Leave this many bytes free; return the file that takes the rest."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - but)))
    return ballast


def committed(folder: Path) -> dict[str, bytes]:
    """Return the manifests that are there."""
    return {str(p): p.read_bytes() for p in folder.glob(f"rounds/*/{MANIFEST}")}


def test_f21_a_disk_that_fills_up_at_any_point_keeps_the_rounds_and_is_resumed(
    small_disk: Path, undisturbed: Callable[[str], Left]
):
    ended = set[int]()
    for room in range(0, 4_000_000, 90_000):
        folder, ballast = small_disk / "run", fill(small_disk, room)
        try:
            run_local(prepared(**BLOCKS), folder)
            whole = True
        except RunFolderError as error:
            whole = False
            assert FULL in str(error) and "room" in str(error), room
        before = committed(folder)
        ended.add(len(before))
        ballast.unlink()
        if not whole:
            run_local(prepared(**BLOCKS), folder, resume=True)
        assert before.items() <= committed(folder).items()
        assert_same_run(Left(folder), undisturbed("glister"))
        shutil.rmtree(folder)
        if whole:
            break
    assert ended == {0, 1, 2, 3}, "it was full before each of the rounds, and after the last"


@pytest.mark.parametrize("writes", range(0, 44, 4))
def test_f21_a_write_that_finds_no_room_keeps_the_rounds_and_is_resumed(
    writes: int,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The same without a disk of its own: from some write on, every one fails."""
    left = iter(range(writes, -(10**9), -1))

    def sync(path: Path) -> None:
        if next(left) <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", sync)
        patch.setattr(checkpoint, "_sync", sync)
        with pytest.raises(RunFolderError, match=FULL):
            run_local(prepared(**BLOCKS), folder)
    before = committed(folder)
    run_local(prepared(**BLOCKS), folder, resume=True)
    assert before.items() <= committed(folder).items()
    assert_same_run(Left(folder), undisturbed("glister"))


def test_f21_the_command_ends_with_a_sentence_and_exit_code_2(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("raysubset.frontier.disk.check_disk", lambda *_: None)
    fill(small_disk, 100_000)
    assert call(["run", *SMALL, *EVERY, "--run-dir", str(small_disk / "run")])[0] == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and FULL in told
    assert str(small_disk / "run") in told and "Make room" in told and "--resume" in told


def test_f21_the_disk_of_the_local_copy_is_named_and_the_store_keeps_the_rounds(
    small_disk: Path,
    undisturbed: Callable[[str], Left],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole, store = undisturbed("glister"), tmp_path
    for room in range(200_000, 3_000_000, 100_000):
        store = tmp_path / f"store-{room}"
        ballast = fill(small_disk, room)
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(small_disk))
            with pytest.raises(RunFolderError) as told:
                run_local(prepared(**BLOCKS), store.as_uri())
        ballast.unlink()
        for word in (FULL, store.as_uri(), str(small_disk), "TMPDIR", "--resume"):
            assert word in str(told.value)
        if committed(store):
            break
    run_local(prepared(**BLOCKS), store.as_uri(), resume=True)
    assert_same_run(Left(store), whole)


# ---- before anything is written


@pytest.mark.parametrize("command", ["run", "compare"])
def test_f21_a_disk_that_cannot_hold_a_run_is_refused_before_it(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 1000, 1000))
    folder = tmp_path / "run"
    assert call([command, *SMALL, *EVERY, "--run-dir", str(folder)])[0] == 2
    told = capsys.readouterr().err
    assert "needs about" in told and "0.0 MB are free" in told and "make room" in told
    assert not folder.exists()
    assert call([command, *SMALL, *EVERY, "--run-dir", (tmp_path / "store").as_uri()])[0] == 2
    assert "set TMPDIR" in capsys.readouterr().err
    assert not list((tmp_path / "store").rglob("*.yaml"))


@pytest.mark.parametrize("name", RUNS)
def test_f21_a_run_leaves_no_more_than_was_counted(
    name: str, undisturbed: Callable[[str], Left], tmp_path: Path
):
    ready, left = prepared(**RUNS[name]), undisturbed(name)
    assert sum(p.stat().st_size for p in left.path.rglob("*") if p.is_file()) <= run_bytes(ready)
    # What is there already is not asked for again, but for the checkpoint that comes next.
    assert 0 < left_to_write(ready, left.path) < left_to_write(ready, tmp_path) == run_bytes(ready)


# ---- Ray's own disk


def test_f21_a_full_disk_under_rays_object_store_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(session, "_connection", lambda _: nullcontext())
    monkeypatch.setattr(session, "refuse_other_versions", lambda: None)
    monkeypatch.setattr(session, "find_room", lambda _: None)
    with pytest.raises(RoomError, match=r"no space is left .* RAY_TMPDIR.* --resume") as told:
        with session.ray_session(experiment()):
            raise OutOfDiskError("as Ray tells it")
    assert told.value.exit_code == 2
