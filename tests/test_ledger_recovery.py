from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysubset.errors import RunFolderError
from raysubset.learn.checkpoint import Files
from raysubset.records import read_history
from tests.bare_ledgers import (
    Folder,
    a_round,
    commit,
    holds,
    quick_and_closed,
)


@pytest.fixture(autouse=True)
def _quick_and_closed(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    yield from quick_and_closed(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "run")


# ---- what is trusted after a crash


@pytest.mark.parametrize("left", ["selection", "checkpoint", "metrics", "history"])
def test_a_round_without_a_manifest_never_was(folder: Folder, left: str):
    folder.with_rounds(2)
    round_, extra = folder.round(2), '{"kind": "round", "round": 2}\n'
    round_.mkdir()
    for name in ("selection", "checkpoint", "metrics", "history"):
        if name == "checkpoint":
            shutil.copytree(folder.round(1) / "checkpoint", round_ / "checkpoint")
        elif name == "history":
            with open(folder.path / "history.jsonl", "a") as file:
                file.write(extra)
        else:
            suffix = {"selection": "parquet", "metrics": "json"}[name]
            shutil.copy(folder.round(1) / f"{name}.{suffix}", round_)
        if name == left:
            break
    ledger = folder.open(resume=True)
    holds(ledger, 2)
    commit(ledger, 2)
    holds(ledger, 3)


FILES = (
    *("checkpoint/weights.safetensors", "checkpoint/trainer.pt", "selection.parquet"),
    *("metrics.json", "observations.safetensors"),
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_f23_a_damaged_last_round_is_redone_with_a_warning(
    folder: Folder, caplog: pytest.LogCaptureFixture, name: str, damage: str
):
    path = folder.with_rounds(3, finished=True).round(2) / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage != "missing":
        content[len(content) // 2] ^= damage == "flipped"
        path.write_bytes(content[: len(content) - (damage == "cut")])
    with caplog.at_level(logging.WARNING):
        ledger = folder.open(resume=True)
    assert f"round 2 is damaged ({name}); going back one round" in caplog.text
    holds(ledger, 2)
    assert ledger.result is None, "a result of a round that is gone"
    commit(ledger, 2)
    holds(ledger, 3)


def test_when_all_kept_rounds_are_damaged_the_run_starts_anew(folder: Folder):
    folder.with_rounds(4)
    for number in (2, 3):
        (folder.round(number) / "checkpoint" / "weights.safetensors").write_bytes(b"")
    holds(folder.open(resume=True), 0)


def test_a_broken_chain_is_trusted_up_to_the_break(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = Folder(tmp_path / "run", keep=9).with_rounds(4)
    path = folder.round(1) / "MANIFEST.json"
    path.write_text(path.read_text() + " ")  # as valid as before, but not what round 2 continues
    with caplog.at_level(logging.WARNING):
        holds(folder.open(resume=True), 2)
    assert "0002/MANIFEST.json does not continue the chain" in caplog.text


def test_f23_a_round_of_another_run_is_not_taken_in(tmp_path: Path):
    """Same config, other data: neither its first round nor a later one continues this chain."""
    for stolen, left in ((0, 0), (1, 1)):
        mine = Folder(tmp_path / f"mine{stolen}", keep=9).with_rounds(2)
        other = Folder(tmp_path / f"other{stolen}", keep=9)
        ledger = other.open(data="e" * 64)
        for number in range(2):
            commit(ledger, number)
        shutil.rmtree(mine.round(stolen))
        shutil.copytree(other.round(stolen), mine.round(stolen))
        holds(mine.open(resume=True), left)


MANIFESTS = st.sampled_from(
    ["", "null", "[]", "3", "{", '{"round": 1}', '{"files": []}', '{"files": {}}', "\xff"]
)


@given(MANIFESTS)
def test_a_manifest_that_is_none_is_a_round_that_never_was(
    tmp_path_factory: pytest.TempPathFactory, text: str
):
    folder = Folder(tmp_path_factory.mktemp("m") / "run").with_rounds(2)
    (folder.round(1) / "MANIFEST.json").write_bytes(text.encode("latin-1"))
    holds(folder.open(resume=True), 1)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_f17_a_flipped_bit_in_the_last_manifest_costs_one_round_at_most(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
):
    folder = Folder(tmp_path_factory.mktemp("m") / "run").with_rounds(2)
    path = folder.round(1) / "MANIFEST.json"
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    ledger = folder.open(resume=True)
    holds(ledger, ledger.done)
    assert ledger.done in (1, 2)


@settings(max_examples=20)
@given(st.integers(1, 10_000))
def test_a_history_cut_anywhere_in_its_last_line_is_read_and_continued(
    tmp_path_factory: pytest.TempPathFactory, cut: int
):
    folder = Folder(tmp_path_factory.mktemp("h") / "run").with_rounds(2)
    history = folder.path / "history.jsonl"
    whole = history.read_bytes()
    last = len(whole.splitlines()[-1])
    history.write_bytes(whole[: len(whole) - 1 - cut % last])
    assert len(read_history(folder.path)) in (5, 6)
    ledger = folder.open(resume=True)
    commit(ledger, 2)
    lines = history.read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines][-3:] == [2, 2, 2]


def test_the_result_stands_while_its_rounds_do(folder: Folder):
    folder.with_rounds(2, finished=True)
    ledger = folder.open(resume=True)
    assert ledger.result == {"accuracy": 0.5}
    ledger.close()
    shutil.rmtree(folder.round(1))  # gone altogether, not only damaged
    ledger = folder.open(resume=True)
    assert ledger.result is None
    holds(ledger, 1)


def test_a_checkpoint_that_could_not_be_written_commits_nothing(folder: Folder):
    ledger = folder.with_rounds(1).open(resume=True)

    def full_disk() -> tuple[Files, float]:
        raise OSError(28, "No space left on device")

    ledger.append(a_round(1), full_disk)
    with pytest.raises(RunFolderError, match="No space left"):
        ledger.settle()
    assert ledger.done == 1
    ledger.close()
    holds(folder.open(resume=True), 1)
