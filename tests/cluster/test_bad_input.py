"""Bad input on the command line: exit code 2, a sentence that names it, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raysubset.cli import call

Write = Callable[[], object]


def csv(name: str, rows: list[str], header: str = "a,b,label") -> Write:
    return lambda: Path(name).write_text("\n".join([header, *rows]) + "\n")


def rows(count: int = 60, label: Callable[[int], str] = lambda i: str(i % 3)) -> list[str]:
    return [f"{i},{i * 7 % 11},{label(i)}" for i in range(count)]


def corrupt() -> None:
    pq.write_table(pa.table({"a": np.arange(60.0), "label": np.arange(60) % 3}), "bad.parquet")
    content = Path("bad.parquet").read_bytes()
    Path("bad.parquet").write_bytes(content[: len(content) // 2])


def nothing() -> None:
    """Prepare nothing."""


def model() -> None:
    lines = ["from torch import nn", "def conv(in_shape, num_classes):"]
    Path("mine.py").write_text("\n".join([*lines, "    return nn.Flatten()"]) + "\n")


MORE = "--selection.fraction 0.9 --training.batch_size 200 --data digits --data.limit 300"
CASES: dict[str, tuple[Write, str, str]] = {
    "unknown option": (nothing, "--selection.fractoin 0.1", "did you mean --selection.fraction"),
    "option of another command": (nothing, "--fractions 0.1", "is an option of another command"),
    "unknown short": (nothing, "--fracton 0.1", "did you mean"),
    "per cent": (nothing, "--fraction 30", "did you mean 0.3"),
    "no share": (nothing, "--fraction 0", "selection.fraction"),
    "negative share": (nothing, "--fraction -0.1", "selection.fraction"),
    "NaN share": (nothing, "--fraction nan", "selection.fraction"),
    "share above all": (nothing, "--fraction 101", "selection.fraction"),
    "empty budget": (nothing, "--data.limit 100 --fraction 0.0001", "--selection.fraction"),
    "select_every 0": (nothing, "--selection.select_every 0", "selection.select_every"),
    "no epochs": (nothing, "--epochs 0", "training.epochs"),
    "epochs in words": (nothing, "--epochs many", "epochs"),
    "no epoch left": (nothing, "--epochs 2 --selection.select_every 5", "no epoch for GLISTER"),
    "unknown strategy": (nothing, "--strategy glistr", "strategy"),
    "odd picks": (nothing, "--selection.glister.picks blok(3)", "picks"),
    "missing file": (nothing, "--data nowhere.csv", "nowhere.csv"),
    "missing experiment": (nothing, "nowhere.yaml", "nowhere.yaml does not exist"),
    "unknown key": (
        lambda: Path("mine.yaml").write_text("selection:\n  fractoin: 0.1\n"),
        "mine.yaml",
        "did you mean selection.fraction",
    ),
    "corrupt file": (corrupt, "--data bad.parquet", "bad.parquet"),
    "missing column": (csv("d.csv", rows()), "--data d.csv --data.label_column y", "y"),
    "negative label": (
        csv("d.csv", rows(label=lambda i: str(i % 3 - 1))), "--data d.csv", "row 0"),
    "float label": (csv("d.csv", rows(label=lambda i: f"{i % 3 + 0.5}")), "--data d.csv", "0.5"),
    "missing label": (
        csv("d.csv", rows(label=lambda i: "" if i == 7 else str(i % 3))), "--data d.csv", "7"),
    "single class": (csv("d.csv", rows(label=lambda _: "1")), "--data d.csv", "class"),
    "class that the pool lacks": (
        lambda: (csv("d.csv", rows())(), csv("v.csv", rows(9, lambda i: str(i % 4)))()),
        "--data d.csv --data.validation v.csv",
        "3",
    ),
    "NaN features": (csv("d.csv", [*rows(), "nan,1,0"]), "--data d.csv", "60"),
    "model without head": (model, "--data.limit 200 --model.name mine:conv", "Flatten"),
    "model not there": (nothing, "--data.limit 200 --model.name nobody:here", "nobody"),
    "ranks above the budget": (nothing, "--data.limit 200 --resources.workers 64", "64"),
    "ranks above the machine": (nothing, f"{MORE} --resources.workers 64", "places at most"),
    "scorers above the machine": (nothing, f"{MORE} --resources.scorers 999", "places at most"),
    "folder below a file": (
        lambda: Path("file").write_text("x"), "--data.limit 200 --run-dir file/run", "file/run"),
    "folder of something else": (
        lambda: (Path("mine").mkdir(), Path("mine/thesis.tex").write_text("x")),
        "--data.limit 200 --run-dir mine",
        "holds no run",
    ),
}  # fmt: skip


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_f12_f13_f14_f17_bad_input_is_refused_in_a_sentence(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    prepare, words, told = CASES[case]
    prepare()
    before = everything(tmp_path)
    code, _ = call(["run", *words.split()])
    shown = capsys.readouterr()
    assert code == 2, shown
    assert shown.err.startswith("error: ")
    assert told in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert shown.err.count("\n") <= 3
    assert everything(tmp_path) == before


def test_an_unknown_command_is_refused_too(capsys: pytest.CaptureFixture[str]):
    assert call(["trian", "--fraction", "0.1"])[0] == 2
    assert "trian" in capsys.readouterr().err


def test_a_process_exits_with_code_2(tmp_path: Path):
    words = ["run", "--fraction", "30"]
    done = subprocess.run(
        [sys.executable, "-m", "raysubset.cli", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: selection.fraction='30': must lie in (0, 1]; for 30 per cent did you mean 0.3?\n"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8265", "`ray job submit`"),
        ("ray://127.0.0.1:10001", "`ray job submit`"),
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1 ([Errno 111]"),
        ("nobody.invalid:6379", "no Ray cluster answers at RAY_ADDRESS=nobody.invalid:6379"),
    ],
)
def test_no_cluster_at_ray_address_is_bad_input(
    address: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was asked"))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert call(["run", "--data.limit", "200"])[0] == 2
    assert told in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("address", "on"), [("", False), ("10.0.0.7:6379", True)])
def test_uv_starts_workers_on_a_cluster_alone(address: str, on: bool):
    # On one machine, below `uv run`, Ray would copy the working directory for every worker.
    code = "import raysubset.cluster.session, ray; print(ray._private.ray_constants.{})"
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ENABLE_UV_RUN_RUNTIME_ENV"}
    done = subprocess.run(
        [sys.executable, "-c", code.format("RAY_ENABLE_UV_RUN_RUNTIME_ENV")],
        env=environment | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stdout.strip() == str(on)


@pytest.mark.parametrize("words", ["import raysubset", "import raysubset.cli"])
def test_importing_costs_neither_torch_nor_ray(words: str):
    heavy = "[m for m in ('torch', 'ray', 'torchvision', 'pyarrow') if m in sys.modules]"
    code = f"import sys; {words}; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["compare", "--help"]])
def test_help_costs_neither_torch_nor_ray(words: list[str]):
    heavy = "[m for m in ('torch', 'ray', 'torchvision', 'pyarrow') if m in sys.modules]"
    code = f"import sys; from raysubset.cli import call; call({words}); print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert done.stdout.strip().endswith("[]")
    assert "Usage: raysubset" in done.stdout
