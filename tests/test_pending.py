"""A round is committed beside what comes next, and never into a folder that was let go of."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from threading import Event

import pytest

from raysubset.learn.checkpoint import Files
from tests.bare_ledgers import OPEN, Folder, a_round, holds, saver


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Folder]:
    yield Folder(tmp_path / "run")
    while OPEN:
        OPEN.pop().close()


def test_a_round_is_committed_while_nobody_waits_for_it(folder: Folder):
    ledger = folder.open()
    ledger.append(a_round(0), saver(ledger, 0))
    end = time.monotonic() + 60
    while not (folder.round(0) / "MANIFEST.json").is_file() and time.monotonic() < end:
        time.sleep(0.01)
    ledger.close()
    holds(folder.open(resume=True), 1)


def test_what_is_waited_for_is_told_once(folder: Folder):
    ledger = folder.open()
    save, asked = saver(ledger, 0), Event()

    def late() -> tuple[Files, float]:
        assert asked.wait(60)
        time.sleep(0.05)
        return save()

    ledger.append(a_round(0), late)
    assert ledger.waited() == 0
    asked.set()
    ledger.settle()
    assert ledger.waited() > 0
    assert ledger.waited() == 0


def test_a_folder_that_was_let_go_of_is_not_written_to_any_more(folder: Folder):
    ledger = folder.open()
    save, saved, told = saver(ledger, 0), Event(), Event()

    def late() -> tuple[Files, float]:
        assert saved.wait(60)
        told.set()
        return save()

    ledger.append(a_round(0), late)
    ledger.close()
    saved.set()
    ledger.settle()
    assert told.is_set()
    assert not list(folder.path.rglob("MANIFEST.json"))
