"""The scripts under examples/ train on what the sampler says, epoch for epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

import raysubset as rs
from examples import plain_pytorch
from tests.small_runs import Left

ROOT = Path(__file__).parents[2]
Made = Callable[[str], Left]


def drawn_of(run: Path, epochs: int) -> list[list[int]]:
    """The rows of each epoch in their order."""
    sampler = rs.SubsetSampler(run, seed=0)
    found: list[list[int]] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    assert len({tuple(sorted(rows)) for rows in found}) > 1, "the epochs have slices of their own"
    return found


def told_by(code: str, *words: Path) -> dict[str, list]:
    """What a program prints last, as JSON; it imports a library for seconds, once."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_rows_of_digits_are_the_ids_of_a_run_on_them(undisturbed: Made):
    left = undisturbed("adaptive")
    selection = rs.SubsetSampler(left.path)
    table = pq.read_table(left.rounds[-1] / "selection.parquet")
    assert load_digits().target[table["id"].to_numpy()].tolist() == table["label"].to_pylist()
    assert len(selection) * 2 == table.num_rows


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_the_plain_loop_goes_on_in_the_middle_of_an_epoch(
    undisturbed: Made, tmp_path: Path, stop_after: int
):
    run, checkpoint = undisturbed("adaptive").path, tmp_path / "checkpoint.pt"
    expected = drawn_of(run, plain_pytorch.EPOCHS)
    assert plain_pytorch.train(str(run)) == expected
    first = plain_pytorch.train(str(run), checkpoint, stop_after)
    then = plain_pytorch.train(str(run), checkpoint)
    assert sum(map(len, first)) < sum(map(len, expected))
    together = [*first[:-1], first[-1] + then[0], *then[1:]]
    assert together == expected


LIGHTNING = """
import json, sys
from examples.lightning_loop import train
run, checkpoint = sys.argv[1:]
whole = train(run)
first = train(run, epochs=2)
first.trainer.save_checkpoint(checkpoint)
rest = train(run, resume=checkpoint)
told = {"whole": whole, "first": first, "rest": rest}
print(json.dumps({name: each.visited for name, each in told.items()}))
"""


def test_lightning_trains_on_each_epochs_ids_and_resumes(undisturbed: Made, tmp_path: Path):
    run = undisturbed("adaptive").path
    told = told_by(LIGHTNING, run, tmp_path / "two.ckpt")
    expected = drawn_of(run, 3)
    assert told["whole"] == expected
    assert told["first"] + told["rest"] == expected and len(told["rest"]) == 1


HUGGING_FACE = """
import json, sys
from examples.hugging_face_trainer import train
run, output = sys.argv[1:]
whole = train(run, output, save_strategy="steps", save_steps=4)
rest = train(run, output, resume=f"{output}/checkpoint-4")
print(json.dumps({"whole": whole, "rest": rest}))
"""


def test_the_hugging_face_trainer_does_so_in_the_middle_of_an_epoch(
    undisturbed: Made, tmp_path: Path
):
    run = undisturbed("adaptive").path
    told = told_by(HUGGING_FACE, run, tmp_path / "trainer")
    expected = [row for rows in drawn_of(run, 3) for row in rows]
    assert told["whole"] == expected
    before = len(rs.SubsetSampler(run)) + 16  # 3 batches of at most 16 an epoch, and one more
    assert told["rest"] == expected[before:]
