"""`module:factory` is code: it runs where a person wrote it, never because a folder names it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from raysubset.cli import call

MARKER = "import pathlib; pathlib.Path('RAN').touch()\n"
BUILD = "def build(num_classes, in_shape):\n    raise SystemExit('built')\n"
SMALL = (
    "--local --data digits --data.limit 200 --model.name mlp --epochs 2 "
    "--selection.select_every 1 --selection.glister.picks blocks(3) --selection.batch_size 32"
).split()
FEW = "--fractions 0.3 --strategies glister --seeds 1 --max-drop none --no-controls".split()
BEGIN = {
    "run": ["run", "--run-dir", "folder", *SMALL],
    "compare": ["compare", "--run-dir", "folder", *SMALL],
    "frontier": ["frontier", "--run-dir", "folder", *SMALL, *FEW],
}
GO_ON = {kind: [kind, "--local", "--run-dir", "folder", "--resume"] for kind in BEGIN}
SELECT = ["select", "--local", "--checkpoint", "folder", "--run-dir", "chosen"]
REPORTS = (["report", "folder"], ["report", "folder", "--output", "both"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a module that leaves a file wherever it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "evil.py").write_text(MARKER + BUILD)
    yield_to = sys.modules.pop("evil", None)
    assert yield_to is None
    return tmp_path


@pytest.fixture
def ran(here: Path) -> Callable[[], bool]:
    """Say whether the module was imported since this was last asked."""

    def asked() -> bool:
        found = (here / "RAN").exists() or "evil" in sys.modules
        (here / "RAN").unlink(missing_ok=True)
        sys.modules.pop("evil", None)
        return found

    return asked


def name_code(folder: Path) -> None:
    """Write a model of one's own into every config of a folder, as whoever made it could."""
    for path in [*folder.rglob("experiment.yaml"), *folder.rglob("frontier.yaml")]:
        values = yaml.safe_load(path.read_text())
        values.get("experiment", values)["model"]["name"] = "evil:build"
        path.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("kind", BEGIN)
def test_f29_a_folder_that_names_code_runs_none_by_any_command(
    kind: str, here: Path, ran: Callable[[], bool], capsys: pytest.CaptureFixture[str]
):
    assert call(BEGIN[kind])[0] == 0
    name_code(here / "folder")
    capsys.readouterr()
    for words in (GO_ON[kind], *([SELECT] if kind == "run" else [])):
        assert call(words)[0] == 2
        told = capsys.readouterr().err
        assert "its model is evil:build" in told and "add --model.name evil:build" in told
        assert not ran()
    for words in REPORTS if kind != "compare" else ():  # its pages are those of its runs
        assert call(words)[0] == (2 if kind == "frontier" and "--output" in words else 0)
        assert not ran(), words
    for table in list((here / "folder").rglob("parts.parquet"))[:1]:
        id_ = pq.read_table(table)["id"][0].as_py()
        for words in (["explain", str(table.parent), "--id", str(id_)], ["export", table.parent]):
            assert call(list(map(str, words)))[0] == 0
            assert not ran(), words
    own = ["--model.name", "evil:build"]
    assert call([*GO_ON[kind], *own])[0] == 2, "the module is there to be imported"
    assert ran()


def test_f29_a_file_of_the_persons_own_names_code_for_a_folder(
    here: Path, ran: Callable[[], bool], capsys: pytest.CaptureFixture[str]
):
    assert call(BEGIN["run"])[0] == 0
    name_code(here / "folder")
    (here / "mine.yaml").write_text("model: {name: evil:build}\n")
    (here / "other.yaml").write_text("seed: 0\n")
    capsys.readouterr()
    assert call([*SELECT[:1], "other.yaml", *SELECT[1:]])[0] == 2
    assert "add --model.name evil:build" in capsys.readouterr().err and not ran()
    assert call([*SELECT[:1], "mine.yaml", *SELECT[1:]])[0] == 2
    assert "built" in capsys.readouterr().err and ran()


def test_f29_a_resumed_run_of_ones_own_model_needs_it_named_once_more(
    here: Path, capsys: pytest.CaptureFixture[str]
):
    """The same command with --resume, as a stopped run prints it, does name it."""
    own = ["--model.name", "tests.learn.ranks:noisy"]
    at = SMALL.index("--model.name")
    words = ["run", "--run-dir", "folder", *SMALL[:at], *own, *SMALL[at + 2 :]]
    assert call(words)[0] == 0
    assert call([*words, "--resume"])[0] == 0
    assert call([*GO_ON["run"], *own])[0] == 0
    capsys.readouterr()
    assert call(GO_ON["run"])[0] == 2
    assert "add --model.name tests.learn.ranks:noisy" in capsys.readouterr().err
