"""Kept epochs that were sent are the kept epochs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raysubset.files import unsealed
from raysubset.learn.checkpoint import Snapshot
from raysubset.learn.learner import EpochTrace
from raysubset.learn.partial import MANIFEST, Finished, Open, Partial, partial_of, traces_of
from raysubset.learn.sent_partial import SentPartial


def trace(epoch: int) -> EpochTrace:
    return EpochTrace(
        epoch=epoch,
        lr=0.1 / (epoch + 1),
        row_K=np.arange(3),
        loss_K=np.full(3, epoch, np.float32),
        margin_K=np.zeros(3, np.float32),
        correct_K=np.ones(3, bool),
    )


def sent(open_: Open, before: Partial | None, epochs: int) -> SentPartial:
    state = Snapshot(weights={"w": torch.full((2,), float(epochs))}, trainer={"round": -1})
    done = before.epochs if before else 0
    traces = [trace(e) for e in range(done, epochs)]
    finished = Finished(epochs=epochs, snapshot=state, seconds=1, traces=traces)
    return SentPartial.of(open_, before, finished)


@pytest.fixture
def open_(tmp_path: Path) -> Open:
    folder = tmp_path / "partial"
    folder.mkdir()
    for name in ("round.json", "selection.parquet"):
        (folder / name).touch()
    return Open(folder=str(folder), key="k", every_s=0)


def names(open_: Open) -> set[str]:
    folder = Path(open_.folder)
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_what_was_sent_is_kept_with_what_was_kept_before_and_nothing_else(open_: Open):
    blind = replace(open_, folder="/nowhere")
    first = sent(blind, None, 2)
    first.write(open_)
    second = sent(blind, first.partial("/nowhere"), 3)
    assert sum(name.startswith("traces-") for name in second.content) == 1
    second.write(open_)
    kept = partial_of(open_)
    assert kept is not None
    assert kept == second.partial(open_.folder) and kept.epochs == 3
    assert [t.epoch for t in traces_of(kept)] == [0, 1, 2]
    assert traces_of(kept)[1].lr == trace(1).lr
    assert names(open_) == {*kept.files, MANIFEST, "round.json", "selection.parquet"}
    assert kept.checkpoint.with_content().content is not None  # its hashes are right


def test_what_is_sent_twice_touches_nothing_the_second_time(open_: Open):
    made = sent(open_, None, 1)
    made.write(open_)
    before = {n: (Path(open_.folder) / n).stat().st_mtime_ns for n in names(open_)}
    made.write(open_)
    assert before == {n: (Path(open_.folder) / n).stat().st_mtime_ns for n in names(open_)}


def test_bytes_that_are_not_what_was_sent_leave_what_was_kept(open_: Open):
    first = sent(open_, None, 1)
    first.write(open_)
    second = sent(open_, first.partial(open_.folder), 2)
    harmed = {n: c[:-1] if n.endswith("trainer.pt") else c for n, c in second.content.items()}
    with pytest.raises(OSError, match="does not read as it was sent"):
        replace(second, content=harmed).write(open_)
    assert partial_of(open_) == first.partial(open_.folder)


def test_epochs_without_those_before_them_of_another_round_or_led_elsewhere_are_refused(
    open_: Open, tmp_path: Path
):
    first = sent(open_, None, 1)
    with pytest.raises(OSError):  # its earlier traces are not there
        sent(open_, first.partial(open_.folder), 2).write(open_)
    with pytest.raises(OSError, match="another round"):
        first.write(replace(open_, key="other"))
    with pytest.raises(OSError, match="does not lie in its folder"):
        replace(first, content={"../x": np.zeros(1, np.uint8)}).write(open_)
    assert not (tmp_path / "x").exists() and partial_of(open_) is None


def test_a_manifest_that_is_damaged_is_written_over(open_: Open):
    (Path(open_.folder) / MANIFEST).write_text("{")
    made = sent(open_, None, 1)
    made.write(open_)
    assert unsealed(json.loads((Path(open_.folder) / MANIFEST).read_text())) == made.told
