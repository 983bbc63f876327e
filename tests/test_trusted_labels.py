"""Runs with trusted labels, as a person types them: what is told, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysubset.cli import call
from raysubset.records import read_table

ROWS = 200
CLEAN = np.arange(ROWS) % 4
NOISY = np.where(np.arange(ROWS) % 3 == 0, (CLEAN + 1) % 4, CLEAN)
MODEL = "--local --model.name mlp --epochs 4 --selection.select_every 2 --training.batch_size 16"
OWN, TRUSTED = "--data data.parquet --data.label_column noisy", "--data.validation_label_column"
SMALL = f"{MODEL} {OWN} {TRUSTED} clean".split()
TOLD = "trusted labels, from clean;"


def write(clean: np.ndarray | pa.Array = CLEAN, name: str = "data.parquet", **more: object) -> None:
    draw = np.random.default_rng(0)
    features = {"a": CLEAN + draw.normal(size=ROWS), "b": draw.normal(size=ROWS)}
    pq.write_table(pa.table({**features, "noisy": NOISY, "clean": clean, **more}), name)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_tells_how_many_held_out_labels_differ_and_keeps_who_has_which(
    capsys: pytest.CaptureFixture[str],
):
    write()
    assert call(["run", *SMALL, "--run-dir", "run"])[0] == 0
    parts = read_table(Path("run/parts.parquet")).to_pylist()
    held = [row for row in parts if row["part"] != "pool"]
    other = sum(bool(NOISY[row["id"]] != CLEAN[row["id"]]) for row in held)
    told = f"note: test, validation: {TOLD} {other} of {len(held)}"
    assert told in capsys.readouterr().out
    assert TOLD in Path("run/report.md").read_text()
    for row in parts:
        labels = NOISY if row["part"] == "pool" else CLEAN
        assert row["label"] == labels[row["id"]]


def test_a_run_is_not_resumed_with_other_trusted_labels(capsys: pytest.CaptureFixture[str]):
    write()
    assert call(["run", *SMALL, "--run-dir", "run"])[0] == 0
    for clean, code, said in ((np.roll(CLEAN, 4), 0, ""), (np.roll(CLEAN, 1), 2, "data data: ")):
        write(clean)
        capsys.readouterr()
        assert call(["run", *SMALL, "--run-dir", "run", "--resume"])[0] == code
        assert said in capsys.readouterr().err
    write()
    assert call(["run", "--local", "--run-dir", "run", "--resume"])[0] == 0


def test_a_frontier_says_which_labels_are_trusted_before_and_after(
    capsys: pytest.CaptureFixture[str],
):
    write()
    words = "--fractions 0.3 --strategies glister --seeds 1 --max-drop none --no-controls"
    assert call(["frontier", *SMALL, *words.split(), "--run-dir", "f"])[0] == 0
    out = capsys.readouterr().out
    plan, _, answer = out.partition("glister ")
    assert TOLD in plan
    said = "carry trusted labels (clean), the pool keeps noisy"
    assert said in " ".join(answer.split())
    assert said in Path("f/report.md").read_text()


BAD: dict[str, tuple[Callable[[], None], str, str]] = {
    "no such column": (
        write,
        f"{OWN} {TRUSTED} claen",
        "did you mean 'clean'? (choices: a, b, noisy, clean)",
    ),
    "another type": (
        lambda: write(np.array(["w", "x", "y", "z"])[CLEAN]),
        f"{OWN} {TRUSTED} clean",
        "column 'clean' of data.parquet has labels of type large_string",
    ),
    "a class that the train rows lack": (
        lambda: write(CLEAN + 1),
        f"{OWN} {TRUSTED} clean",
        "lack: 4 (50 rows)",
    ),
    "missing labels": (
        lambda: write(pa.array([None, *CLEAN.tolist()[1:]], mask=np.arange(ROWS) % 2 == 0)),
        f"{OWN} {TRUSTED} clean",
        "--data.on_bad_row skip",
    ),
    "nothing held out": (
        lambda: (write(), write(name="v.parquet"), write(name="t.parquet"))[0],
        f"{OWN} {TRUSTED} clean --data.validation v.parquet --data.test t.parquet",
        "would change nothing",
    ),
    "no labels file": (write, f"--data digits {TRUSTED} clean", "--data.labels FILE"),
    "a labels file without the column": (
        lambda: (write(), pq.write_table(pa.table({"noisy": NOISY}), "l.parquet"))[0],
        f"{OWN} {TRUSTED} clean --data.labels l.parquet",
        "l.parquet has no such column",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_trusted_labels_are_refused_in_a_sentence_before_any_work(
    case: str, capsys: pytest.CaptureFixture[str]
):
    prepare, words, said = BAD[case]
    prepare()
    assert call(["run", *MODEL.split(), *words.split(), "--run-dir", "run"])[0] == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ") and said in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert not Path("run").exists()


def test_missing_labels_are_left_out_on_request_and_counted(capsys: pytest.CaptureFixture[str]):
    write(pa.array(CLEAN.tolist(), mask=np.arange(ROWS) % 9 == 0))
    words = ["--data.on_bad_row", "skip", "--run-dir", "run"]
    assert call(["run", *SMALL, *words])[0] == 0
    parts = read_table(Path("run/parts.parquet")).to_pylist()
    told = re.findall(r"left out (\d+) of", capsys.readouterr().out)
    assert sum(map(int, told)) == ROWS - len(parts) > 0
