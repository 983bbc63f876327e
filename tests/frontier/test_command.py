"""`raysubset frontier` as a person types it; bad input ends in a sentence and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray

from jobs.sweep import main as sweep_job
from raysubset.cli import call
from raysubset.frontier.sweep import read_sweep

SMALL = (
    "--data digits --data.limit 200 --model.name mlp --epochs 4 --selection.select_every 2 "
    "--selection.glister.picks blocks(3)"
).split()
WIDE = [*SMALL, "--fractions", "0.2,0.5", "--strategies", "glister"]
TINY = [*WIDE, "--seeds", "3"]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    return tmp_path


CASES = {
    "per cent": ("--fractions 5,10", "did you mean 0.05"),
    "zero": ("--fractions 0,0.1", "greater than 0"),
    "above one": ("--fractions 0.1,101", "less than or equal to 1"),
    "repeated": ("--fractions 0.1,0.3,0.1", "repeats 0.1"),
    "no number": ("--fractions lots", "--fractions 'lots': "),
    "nothing": ("--fractions ,", "empty"),
    "two seeds decide nothing": ("--seeds 2", "raise --seeds, or give --max-drop none"),
    "negative drop": ("--max-drop -1", "--max-drop '-1': "),
    "a drop in words": ("--max-drop little", "--max-drop 'little': "),
    "unknown strategy": ("--strategies glistre", "--strategies 'glistre': "),
    "one fraction": ("--fraction 0.1", "did you mean --fractions"),
    "one strategy": ("--strategy glister", "did you mean --strategies"),
    "typo": ("--fractoins 0.1", "did you mean --fractions"),
    "nothing to resume": ("--resume --run-dir nowhere", "holds no frontier"),
    "resume of what": ("--resume", "--resume needs --run-dir"),
    "a budget of nothing": ("--data.limit 200 --fractions 0.0001,0.5", "fraction"),
    "no epoch left": ("--epochs 2 --selection.select_every 5", "no epoch for GLISTER"),
    "missing data": ("--data nowhere.csv", "nowhere.csv"),
    "more ranks than cores": ("--resources.workers 99 --training.batch_size 200", "99"),
    "one rate is no choice": ("--tune-lr 1", "--tune-lr 1: "),
    "sweep of fractions": ("--sweep selection.fraction=0.1,0.2", "give --fractions"),
    "sweep of a typo": ("--sweep training.lrr=0.1,0.2", "did you mean training.lr"),
    "sweep of a range": ("--sweep training.lr=0.1..0.2", "--search optuna"),
    "a candidate that cannot run": ("--sweep training.batch_size=1,0", "greater than or equal"),
    "a candidate of no epoch": (
        "--data.limit 200 --model.name mlp --epochs 20 --sweep selection.select_every=10,30",
        "candidate selection.",
    ),
    "asha without ray": ("--tune-lr 3 --early-stop asha --local", "--local runs without Ray"),
    "find and tune": ("--find --tune-lr 3", "cannot be joined"),
    "unknown mode": ("--trial-mode threads", "trial-mode"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_before_anything_runs(
    case: str, no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    words, said = CASES[case]
    code, _ = call(["frontier", *words.split()])
    shown = capsys.readouterr()
    assert code == 2, shown
    assert shown.err.startswith("error: ") and said in shown.err, shown.err
    assert "Traceback" not in shown.out + shown.err
    assert not any(no_ray.iterdir())


def test_a_small_frontier_ends_with_a_table_the_answer_and_a_report_that_can_be_made_again(
    no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    folder = no_ray / "f"
    words = ["frontier", *TINY, "--local", "--run-dir", str(folder), "--price-per-hour", "3"]
    code, answered = call(words)
    shown = capsys.readouterr().out
    assert code == 0
    assert f"{answered.trials}/{answered.trials} " in shown
    assert "to full" in shown and "note: one learning rate" in shown
    told = json.loads((folder / "frontier.json").read_text())
    assert told["sentences"][0] in shown
    for name in ("report.html", "report.md", "frontier.parquet", "frontier.yaml"):
        assert (folder / name).stat().st_size > 0

    # a used folder is refused; with --resume nothing is left to run, and the answer is the same
    assert call(words)[0] == 2
    assert "add --resume" in capsys.readouterr().err
    assert call(["frontier", "--local", "--resume", "--run-dir", str(folder)])[0] == 0
    shown = capsys.readouterr().out
    assert "0 left to run" in shown and told["sentences"][0] in shown

    (folder / "report.md").unlink()
    assert call(["report", str(folder)])[0] == 0
    assert told["sentences"][0] in capsys.readouterr().out
    assert (folder / "report.md").is_file()
    assert json.loads((folder / "frontier.json").read_text()) == told

    other = ["frontier", "--epochs", "6", "--local", "--resume", "--run-dir", str(folder)]
    assert call(other)[0] == 2
    assert "training.epochs: 4 -> 6" in capsys.readouterr().err


def test_without_controls_the_report_says_so_first(
    no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    words = [*TINY, "--no-controls", "--local", "--run-dir", "f"]
    assert call(["frontier", *words])[0] == 0
    shown = capsys.readouterr().out
    told = json.loads(Path("f/frontier.json").read_text())
    assert told["sentences"][0].startswith("No controls were run")
    assert "controls: none (--no-controls)" in shown


def test_one_seed_gives_means_and_no_decision(no_ray: Path, capsys: pytest.CaptureFixture[str]):
    words = [*WIDE, "--seeds", "1", "--max-drop", "none", "--local", "--run-dir", "f"]
    assert call(["frontier", *words])[0] == 0
    shown = capsys.readouterr().out
    assert "too few to say who wins" in shown
    assert "wins against" not in shown and "smallest fraction" not in shown


def test_reports_of_runs_and_comparisons_are_made_again_too(
    no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    assert call(["run", *SMALL, "--local", "--run-dir", "a"])[0] == 0
    assert call(["run", *SMALL, "--strategy", "random", "--local", "--run-dir", "b"])[0] == 0
    assert call(["compare", *SMALL, "--local", "--run-dir", "c"])[0] == 0
    wanted = {name: Path(f"{name}/report.html").read_text() for name in ("a", "b", "c")}
    for name in wanted:
        Path(f"{name}/report.html").unlink()
    assert call(["report", "a", "b", "c"])[0] == 0
    assert {name: Path(f"{name}/report.html").read_text() for name in wanted} == wanted
    assert call(["report", "a", "b", "--output", "both"])[0] == 0
    assert Path("both/report.html").is_file()
    assert call(["report", "nowhere"])[0] == 2
    assert "holds no run" in capsys.readouterr().err
    assert call(["report"])[0] == 2


def test_the_job_goes_on_by_itself_when_it_is_submitted_again(
    no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    words = [*TINY, "--no-controls", "--local", "--run-dir"]
    assert sweep_job([*words, "relative"]) == 2
    assert not any(no_ray.iterdir())
    told: list[dict[str, object]] = []
    for left in ("9 left to run", "0 left to run"):
        assert sweep_job([*words, str(no_ray / "f")]) == 0
        shown = capsys.readouterr().out
        assert left in shown
        told.append(json.loads(shown.splitlines()[-1].removeprefix("RESULT ")))
    assert (
        told[0]
        == told[1]
        == {
            "outcome": "done",
            "exit_code": 0,
            "run_dir": str(no_ray / "f"),
            "answer": str(no_ray / "f" / "frontier.json"),
            "trials": 9,
        }
    )


def test_a_search_says_what_it_found_first(no_ray: Path, capsys: pytest.CaptureFixture[str]):
    words = [*WIDE, "--find", "--max-runs", "12", "--max-drop", "20", "--local", "--run-dir", "f"]
    code, answered = call(["frontier", *words])
    shown, sweep = capsys.readouterr().out, read_sweep("f")
    assert code == 0 and answered.trials == len(sweep.rows()) <= 12
    assert sweep.settings.seeds == 8
    told = json.loads(Path("f/frontier.json").read_text())["sentences"]
    assert "certified" in told[0] and told[0] in shown
    assert not any("smallest fraction" in sentence for sentence in told)


def test_optuna_that_is_not_installed_is_asked_for(
    no_ray: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("raysubset.frontier.extras.find_spec", lambda _: None)
    words = "--search optuna --samples 3 --sweep training.lr=0.01..0.1".split()
    assert call(["frontier", *words])[0] == 2
    assert 'pip install "raysubset[optuna]"' in capsys.readouterr().err
    assert not any(no_ray.iterdir())


def test_a_tuned_frontier_says_what_it_tunes_and_counts_every_run(
    no_ray: Path, capsys: pytest.CaptureFixture[str]
):
    words = [*WIDE, "--seeds", "2", "--max-drop", "none", "--no-controls", "--tune-lr", "2"]
    code, _ = call(["frontier", *words, "--local", "--run-dir", "f"])
    shown, sweep = capsys.readouterr().out, read_sweep("f")
    assert code == 0
    # full and two fractions: two candidates each, and the second seed
    assert "training.lr 0.025, 0.05: 2 candidates for each of 3 cells" in shown
    assert "9 left to run" in shown and "9/9 " in shown
    assert "data.tuning: 0.1 of the train rows" in shown
    assert sweep.base.data.tuning == 0.1
    assert "training.lr was chosen for every row and fraction among the same 2" in shown
    assert "it was tuned for none" not in shown

    again = ["frontier", "--local", "--resume", "--run-dir", "f"]
    assert call([*again, "--tune-lr", "3"])[0] == 2
    assert "frontier.tune_lr: 2 -> 3" in capsys.readouterr().err
    assert call(again)[0] == 0
    assert "0 left to run" in capsys.readouterr().out
