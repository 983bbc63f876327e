"""Jobs: what they refuse, when they go on, and the line that their log ends with."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs import job, select, train

ROOT = Path(__file__).parents[1]


def result(shown: str) -> dict[str, Any]:
    """Return the RESULT of a log, which must be its last line."""
    return json.loads(shown.splitlines()[-1].removeprefix("RESULT "))


class Command:
    """Stands in for the command line: gives an answer, and remembers the words it got."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
        self.words: list[str] = []

        def attempt(words: Sequence[str]) -> tuple[int, Any, str]:
            self.words = list(words)
            return answer() if callable(answer) else answer

        monkeypatch.setattr(job, "attempt", attempt)
        monkeypatch.setattr("sys.argv", ["job"])


@pytest.mark.parametrize("words", ["", "--run-dir", "--run-dir runs/x", "--run-dir=../x"])
def test_a_folder_that_ends_with_the_job_is_refused(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    command = Command(monkeypatch, (0, None, ""))
    assert train.main([*shlex.split(words), "--epochs", "2"]) == 2
    told = result(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"]) == ("bad input", 2)
    assert "--run-dir" in told["error"] and not command.words


def test_a_job_that_is_asked_for_help_gives_its_commands(capsys: pytest.CaptureFixture[str]):
    assert train.main(["--help"]) == 0
    assert "--run-dir" in capsys.readouterr().out


def test_a_result_repeats_no_credentials(capsys: pytest.CaptureFixture[str]):
    assert train.main(["--run-dir=s3://me:h0rse@bucket/runs/x"]) == 2
    told = capsys.readouterr()
    assert "h0rse" not in told.out + told.err
    assert result(told.out)["run_dir"] == "s3://***@bucket/runs/x"


@pytest.mark.parametrize("place", ["s3://bucket/runs/x", "gs://b/x", "/mnt/x", "file:///mnt/x"])
def test_a_place_that_lasts_is_left_to_the_command(
    place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "holds", lambda *_: False)
    command = Command(monkeypatch, (1, None, "no such bucket\nin this region"))
    assert train.main([f"--run-dir={place}"]) == 1
    assert command.words == ["run", f"--run-dir={place}"]
    told = result(capsys.readouterr().out)
    assert told == {
        "outcome": "failed",
        "exit_code": 1,
        "run_dir": place,
        "error": "no such bucket",
    }


def test_a_used_folder_is_resumed_once_and_by_its_own_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    command = Command(monkeypatch, (75, None, "stopped"))
    (tmp_path / "experiment.yaml").touch()
    for words in (["--run-dir", str(tmp_path)], ["--run-dir", str(tmp_path), "--resume"]):
        assert train.main(words) == 75
        assert command.words == ["run", "--run-dir", str(tmp_path), "--resume"]
    assert select.main(["--run-dir", str(tmp_path)]) == 75
    assert "--resume" not in command.words


def boom() -> None:
    raise RuntimeError("boom")


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("do", "code", "outcome"),
    [(boom, 1, "failed"), (terminated, 75, "stopped"), (interrupted, 130, "stopped")],
)
def test_the_log_ends_with_a_result_however_the_job_ends(
    do: Any,
    code: int,
    outcome: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    before = signal.getsignal(signal.SIGTERM)
    Command(monkeypatch, do)
    assert train.main(["--run-dir", str(tmp_path)]) == code
    told = result(capsys.readouterr().out)
    assert (told["outcome"], told["exit_code"]) == (outcome, code)
    assert told["run_dir"] == str(tmp_path) and told["error"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_bad_options_are_told_in_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert train.main(["--run-dir", str(tmp_path / "x"), "--fractoin", "0.1"]) == 2
    told = result(capsys.readouterr().out)
    assert told["outcome"] == "bad input" and "did you mean --fraction" in told["error"]
    assert not (tmp_path / "x").exists()


def test_a_clone_with_runs_and_an_environment_uploads_little(tmp_path: Path):
    packaging = pytest.importorskip("ray._private.runtime_env.packaging")
    for name in (".gitignore", ".rayignore"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    heavy = [".venv/lib/x.so", ".venv-gpu/y", "runs/a/rounds/0000/w", ".git/objects/z", "uv.lock"]
    heavy += ["wandb/run", "mlruns/0", "raysubset/__pycache__/a.pyc", ".ruff_cache/0"]
    sent = ["raysubset/engine.py", "jobs/train.py", "jobs/experiments/digits.yaml", "my_model.py"]
    for name in (*heavy, *sent):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    excluded = packaging.get_excludes_from_ignore_files(tmp_path, include_gitignore=True)
    seen = {
        name
        for name in (*heavy, *sent)
        if not any(match(tmp_path / each) for match in excluded for each in _with_parents(name))
    }
    assert seen == set(sent)


def _with_parents(name: str) -> list[str]:
    parts = Path(name).parts
    return [
        "/".join(parts[: i + 1]) + ("/" if i + 1 < len(parts) else "") for i in range(len(parts))
    ]
