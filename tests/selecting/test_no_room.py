"""A selection on a disk that is full: whole or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset import files
from raysubset.cli import call
from tests.selecting.points import write

FILES = ("selection.parquet", "ids.txt", "skipped.csv", "selection.json")
N = 40


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Give a selection from embeddings of which one row is bad, so that each file is written."""
    embeddings = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    embeddings[7, 2] = np.nan
    given = write(tmp_path / "e.npz", {"embeddings": embeddings, "labels": np.arange(N) % 2})
    return ["select", "--local", "--strategy=random", "--on-bad-sample=skip", "--embeddings", given]


def no_room_for(name: str, patch: pytest.MonkeyPatch) -> None:
    """Let the disk be full in the middle of a file of this name."""
    write_text, sync = Path.write_text, files._sync

    def refuse(path: Path) -> None:
        if name in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def half(path: Path, text: str, **how: Any) -> None:
        write_text(path, text[: len(text) // 2], **how)
        refuse(path)
        write_text(path, text, **how)

    def synced(path: Path) -> None:
        refuse(path)
        sync(path)

    patch.setattr(Path, "write_text", half)
    patch.setattr(files, "_sync", synced)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["new", "empty", "URI"])
def test_f21_a_write_that_finds_no_room_at_any_of_its_files_leaves_nothing_half_made(
    name: str,
    kind: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
):
    out = tmp_path / "out"
    if kind == "empty":
        out.mkdir()
    words += ["--run-dir", out.as_uri() if kind == "URI" else str(out)]
    with monkeypatch.context() as patch:
        no_room_for(name, patch)
        assert call(words)[0] == 2
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err
    assert out.exists() == (kind != "new") and not [*out.rglob("*.*")]
    assert call(words)[0] == 0
    assert {path.name for path in out.iterdir()} == set(FILES)


def test_f26_a_folder_that_another_selection_filled_meanwhile_stays_as_it_is(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """It was not there when this one looked, so this one takes itself for its maker."""
    out = tmp_path / "out"
    mkdir = Path.mkdir

    def late(path: Path, **how: Any) -> None:
        mkdir(path, **how)
        if path == out:
            (out / "selection.json").write_text("{}")

    monkeypatch.setattr(Path, "mkdir", late)
    assert call([*words, "--run-dir", str(out)])[0] == 2
    assert "is used" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["selection.json"]
