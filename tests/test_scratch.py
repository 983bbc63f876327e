"""Temporary folders: nobody's but their maker's, and gone with him, however he ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from raysubset.errors import RunFolderError
from raysubset.files import LOCK, forget_unfinished, take_lock, write_atomically
from raysubset.scratch import Scratch, forget_dead, scratch_folder, scratch_root

HELD = """
import sys
from raysubset.scratch import Scratch
from raysubset.files import write_atomically
from pathlib import Path
scratch = Scratch("held")
(scratch.path / "big").mkdir()
(scratch.path / "big" / "file").write_bytes(b"x" * 100)
def wait(path):
    print(scratch.path, path, flush=True)
    sys.stdin.read()
write_atomically(Path(sys.argv[1]), wait)
"""


@pytest.fixture(autouse=True)
def _own_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_a_living_one_has_stays(
    tmp_path: Path,
):
    """Its temporary folder, and the file that it was writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HELD, str(tmp_path / "result.json")],
        env=os.environ | {"TMPDIR": tempfile.gettempdir()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        folder, half = (Path(word) for word in process.stdout.readline().split())
        forget_dead(scratch_root())
        forget_unfinished(tmp_path)
        assert (folder / "big" / "file").is_file() and half.is_file()
        process.send_signal(signal.SIGKILL)
    assert half.is_file() and not (tmp_path / "result.json").exists()
    forget_dead(scratch_root())
    forget_unfinished(tmp_path)
    assert list(scratch_root().iterdir()) == [] and not half.exists()


def test_a_folder_is_there_alone_and_gone_afterwards():
    with scratch_folder() as one, scratch_folder() as other:
        assert one != other and one.parent == other.parent == scratch_root()
        (one / "file").write_text("x")
        forget_dead(scratch_root())
        assert (one / "file").is_file()
    assert list(scratch_root().iterdir()) == []


def test_what_cannot_be_deleted_now_is_left_to_the_next_start(monkeypatch: pytest.MonkeyPatch):
    scratch = Scratch()
    (scratch.path / "open").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        scratch.close()
    assert (scratch.path / LOCK).is_file()
    forget_dead(scratch_root())
    assert list(scratch_root().iterdir()) == []


def test_a_folder_without_a_lock_is_not_ours_to_delete():
    theirs = scratch_root() / "theirs"
    theirs.mkdir()
    (theirs / "thesis.tex").write_text("years of work")
    forget_dead(scratch_root())
    assert (theirs / "thesis.tex").is_file()


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between the opening of a lock and its taking, whoever held it may end and delete it."""
    flock, taken = __import__("fcntl").flock, list[object]()

    def late(file: object, how: int) -> None:
        if not taken:
            (tmp_path / LOCK).unlink()
        taken.append(file)
        flock(file, how)

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", late)
        lock = take_lock(tmp_path, "folder")
    assert len(taken) == 2
    with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} on "):
        take_lock(tmp_path, "folder")
    lock.close()


def test_a_disk_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    write_atomically(tmp_path / "file", lambda path: path.write_text("x"))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["file"]
