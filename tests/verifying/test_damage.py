"""F17, F23: whatever byte of whatever file changes, it is said, with the file's name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.cli import call
from raysubset.errors import RunFolderError
from raysubset.learn import checkpoint
from raysubset.learn.checkpoint import CheckpointRef, read_trainer, read_weights
from raysubset.local_run import run_local
from raysubset.records import read_table
from tests.small_runs import BLOCKS, Left, assert_same_run, play, prepared
from tests.verifying.runs import copied, damaged, digest, failures, files_of, harmed

HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "no bytes": lambda content: b"",
    "a footer cut off": lambda content: content[:-3],
    "one byte more": lambda content: content + b"\n",
    "half of it zeros": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
    "missing": lambda content: None,
}


def test_a_whole_run_is_whole(whole: Path):
    assert not failures(whole, gains=True)
    kinds = {Path(name).name for name in files_of(whole)}
    assert {"weights.safetensors", "trainer.pt", "observations.safetensors"} <= kinds
    assert {"report.html", "report.sha256", "experiment.yaml", "parts.parquet"} <= kinds


@pytest.mark.parametrize("harm", HARMS)
def test_f17_every_kind_of_artifact_that_is_cut_emptied_or_missing_is_named(whole: Path, harm: str):
    for name in files_of(whole):
        if harm == "missing" and (name.startswith("tensorboard/") or "plots/" in name):
            continue  # that there are none is told as not checked, or by report.sha256
        with harmed(whole / name, HARMS[harm]):
            if name == "report.sha256" and harm == "missing":
                assert call(["verify", str(whole), "--no-gains", "--strict"])[0] == 1
            else:
                assert name in damaged(whole), f"{name}: {harm}"
    assert not failures(whole)


@settings(max_examples=5)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_f17_a_flipped_byte_anywhere_in_any_file_is_named(whole: Path, place: int, mask: int):
    for name in files_of(whole):
        size = (whole / name).stat().st_size

        def flip(content: bytes, at: int = place % size) -> bytes:
            return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]

        with harmed(whole / name, flip):
            told = f"{name}: byte {place % size} ^ {mask}"
            if name == "report.sha256":  # its own flip is another file's other sum, by its word
                assert any(name in finding.found for finding in failures(whole)), told
            else:
                assert name in damaged(whole), told


@settings(max_examples=4)
@given(st.integers(0, 10**9))
def test_f17_a_file_cut_anywhere_is_named(whole: Path, place: int):
    for name in files_of(whole):
        size = (whole / name).stat().st_size
        # An event file is a list of records: cut between two of them it is whole, but shorter.
        keep = size - 1 - place % 3 if name.startswith("tensorboard/") else place % size
        with harmed(whole / name, lambda content, keep=keep: content[:keep]):
            assert name in damaged(whole), f"{name} cut to {keep} of {size} bytes"


def test_f17_a_bit_in_every_page_of_a_table_is_caught_by_its_checksum(whole: Path, tmp_path: Path):
    """Without a hash: page checksums alone leave only footers open, and those end in an error."""
    path = whole / "rounds" / "0001" / "selection.parquet"
    content, before = path.read_bytes(), read_table(path)
    footer = int.from_bytes(content[-8:-4], "little") + 8
    silent = 0
    for at in range(4, len(content) - footer, 5):
        changed = tmp_path / "t.parquet"
        changed.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            silent += read_table(changed) != before
        except RunFolderError as error:
            assert str(changed) in str(error)
    assert silent == 0


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> tuple[Left, Left]:
    """Two finished runs of the same data, by two seeds."""
    home = tmp_path_factory.mktemp("others")
    mine = play(prepared(**BLOCKS), home / "mine")[1]
    return mine, play(prepared(**BLOCKS, seed=1), home / "other")[1]


def cut(path: Path, mine: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path, mine: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def another_runs(path: Path, mine: Path, other: Path) -> None:
    shutil.copy(other / path.relative_to(mine), path)


def another_rounds(path: Path, mine: Path, other: Path) -> None:
    shutil.copy(mine / "rounds" / "0001" / "checkpoint" / path.name, path)


@pytest.mark.parametrize("name", ["weights.safetensors", "trainer.pt"])
@pytest.mark.parametrize("harm", [cut, flip, another_runs, another_rounds])
def test_f23_a_checkpoint_that_is_not_its_rounds_is_named_never_loaded_and_costs_one_round(
    harm: Callable[[Path, Path, Path], None],
    name: str,
    others: tuple[Left, Left],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    mine, other = others
    run = copied(mine.path, tmp_path / "run")
    path = run / "rounds" / "0002" / "checkpoint" / name
    named = {n: digest(path.parent / n) for n in ("weights.safetensors", "trainer.pt")}
    harm(path, run, other.path)
    assert f"rounds/0002/checkpoint/{name}" in damaged(run)
    read = read_weights if name.startswith("weights") else read_trainer
    with pytest.raises(RunFolderError, match="SHA-256 differs"):
        read(CheckpointRef(path=str(path.parent), files=named))
    loaded, checked = list[str](), checkpoint._checked
    bad = path.read_bytes()

    def seen(ref: CheckpointRef, asked: str) -> bytes:
        content = checked(ref, asked)
        loaded.append(asked)
        assert content != bad or "0001" in ref.path
        return content

    monkeypatch.setattr(checkpoint, "_checked", seen)
    with caplog.at_level(logging.WARNING):
        run_local(prepared(**BLOCKS), run, resume=True)
    assert f"round 2 is damaged (checkpoint/{name}); going back one round" in caplog.text
    assert loaded, "round 2 was trained again, from round 1's checkpoint"
    assert_same_run(Left(run), mine)
    assert not failures(run, gains=True)
