"""A sweep loses nothing, repeats nothing, and tells what failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import ConfigError, RunFolderError, Stopped
from raysubset.frontier import sweep as sweep_module
from raysubset.frontier.plan import EQUAL_TIME, Trial
from raysubset.frontier.report import report_sweep
from raysubset.frontier.sweep import (
    Sweep,
    check_sweep,
    left_of,
    open_folder,
    read_sweep,
    run_sweep,
    selection_shares,
)
from raysubset.frontier.table import chosen_ids, failures_in, from_table, to_table
from raysubset.frontier.trial import Data, is_finished, run_trial, trial_folder
from raysubset.local_run import run_local
from raysubset.preparation import prepare
from raysubset.records import read_table, write_table
from tests.frontier.sweeps import Ended, begin, given, here, sweep

# Enough where the claim is about trials, and not about what they decide.
FEW: dict[str, Any] = {"fractions": "0.2", "seeds": 2, "max_drop": None}


@pytest.fixture
def finished(whole: Sweep) -> Sweep:
    """A frontier run to its end."""
    return whole


def test_every_trial_is_finished_and_its_row_is_what_its_run_folder_says(finished: Any):
    rows = finished.rows()
    assert [row.trial for row in rows] == [trial.name for trial in finished.trials]
    for row, trial in zip(rows, finished.trials, strict=True):
        result = json.loads((trial_folder(finished.folder, trial) / "result.json").read_text())
        assert row.test_accuracy == result["test_accuracy"]
        assert row.visits == result["visits"]
        assert row.distinct == len(chosen_ids(finished.folder, trial.name))
        assert row.seconds == pytest.approx(
            sum(result[f"seconds_{s}"] for s in ("scoring", "greedy", "training", "other"))
        )


def test_a_trial_is_the_run_that_a_person_would_start_with_its_options(
    finished: Any, tmp_path: Path
):
    trial = next(t for t in finished.planned if t.row == "glister" and t.seed == 2)
    alone = run_local(prepare(trial.experiment), tmp_path / "alone")
    row = next(r for r in finished.rows() if r.trial == trial.name)
    assert (row.test_accuracy, row.visits) == (alone.test_accuracy, alone.visits)


def test_a_finished_frontier_runs_nothing_again(finished: Any):
    ended: Ended = []
    begin(finished, resume=True)
    run_sweep(finished, here(finished, ended))
    assert ended == []


def test_finished_trials_keep_no_checkpoint_and_every_ledger_line(finished: Any):
    assert not list(finished.folder.glob("trials/*/rounds/*/checkpoint"))
    for trial in finished.trials:
        rounds = trial_folder(finished.folder, trial) / "rounds"
        assert all((r / "selection.parquet").is_file() for r in rounds.iterdir())


def test_equal_time_is_as_long_as_the_strategy_was_measured_to_need(finished: Any):
    shares = selection_shares(finished.rows())
    stored = json.loads((finished.folder / "equal_time.json").read_text())
    assert {float(f): s for f, s in stored.items()} == pytest.approx(shares)
    epochs = {r.epochs for r in finished.rows() if r.row == EQUAL_TIME and r.fraction == 0.2}
    assert len(epochs) == 1


def test_f36_a_stopped_sweep_goes_on_with_the_missing_cells_alone_and_gives_the_same(
    finished: Any, tmp_path: Path
):
    own = sweep(tmp_path / "stopped", settings={"fractions": "0.2"})  # half of the finished one
    begin(own, resume=False)
    ended: Ended = []
    run_all = here(own, ended)

    def until_stopped(trials: Sequence[Trial]) -> None:
        run_all(trials[:5])
        raise Stopped("asked to stop.")

    with pytest.raises(Stopped):
        run_sweep(own, until_stopped)
    assert len(own.rows()) == 5
    # what equal time means is measured once; here it is given, so that both are the same
    shares = json.loads((finished.folder / "equal_time.json").read_text())
    (own.folder / "equal_time.json").write_text(json.dumps({"0.2": shares["0.2"]}))
    begin(own, resume=True)
    run_sweep(own, run_all)
    whole = given(finished.rows())
    assert EQUAL_TIME in {row.row for row in own.rows()}
    assert given(own.rows()) == {trial.name: whole[trial.name] for trial in own.trials}
    assert len(ended) == len(set(ended)) == len(own.trials)


def test_f36_a_trial_cut_short_goes_on_after_its_last_round(tmp_path: Path, finished: Any):
    own = sweep(tmp_path / "cut")
    trial = next(t for t in own.planned if t.row == "glister")
    data = Data(own.base)

    class Cut:
        rounds = 0

        def progress(self, stage: str, done: int, of: int) -> None:
            if self.rounds == 2:
                raise Stopped("cut.")

        def round_started(self, *_: Any) -> None:
            pass

        def round_done(self, *_: Any) -> None:
            self.rounds += 1

    with pytest.raises(Stopped):
        run_trial(trial, own.folder, data.of(trial.seed), watch=Cut())
    assert not is_finished(own.folder, trial)
    outcome = run_trial(trial, own.folder, data.of(trial.seed))
    assert is_finished(own.folder, trial)
    row = next(r for r in finished.rows() if r.trial == trial.name)
    assert (outcome.test_accuracy, outcome.visits) == (row.test_accuracy, row.visits)


def test_f36_a_failed_trial_stops_no_other_marks_the_frontier_and_alone_runs_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    own = sweep(tmp_path / "failing", settings=FEW)
    begin(own, resume=False)
    lost = own.planned[3]
    real = run_trial

    def broken(trial: Trial, *args: Any, **options: Any) -> Any:
        if trial == lost:
            raise MemoryError("no room")
        return real(trial, *args, **options)

    ended: Ended = []
    monkeypatch.setattr(sweep_module, "run_trial", broken)
    run_sweep(own, here(own, ended))
    assert [e for e in ended if e[1]] == [(lost.name, "MemoryError: no room")]
    assert failures_in(own.folder, own.trials) == {lost.name: "MemoryError: no room"}
    assert len(own.rows()) == len(own.trials) - 1
    lines = report_sweep(own, None)
    told = json.loads((own.folder / "frontier.json").read_text())
    count = f"{len(own.rows())} of {len(own.trials)} trials finished"
    assert f"{count}; what follows is about these. Go on with --resume." in lines
    assert f"failed: {lost.name}: MemoryError: no room" in lines
    assert told["failures"] == {lost.name: "MemoryError: no room"}
    assert told["cells"] and count in (own.folder / "report.md").read_text()
    monkeypatch.undo()
    again: Ended = []
    run_sweep(own, here(own, again))
    assert again == [(lost.name, None)]
    assert failures_in(own.folder, own.trials) == {}
    assert left_of(own, own.trials) == []


def test_more_seeds_and_fractions_are_more_trials_of_the_same_frontier(tmp_path: Path):
    first = sweep(tmp_path / "f", settings=FEW | {"seeds": 1})
    begin(first, resume=False)
    run_sweep(first, here(first))
    more = sweep(tmp_path / "f", settings=FEW | {"fractions": "0.2,0.5"})
    begin(more, resume=True)
    kept = {t.name for t in more.trials} - {t.name for t in left_of(more, more.trials)}
    assert kept == {t.name for t in first.trials}


@pytest.mark.parametrize("change", [{"training__epochs": 7}, {"model__name": "convnet"}])
def test_another_experiment_is_another_frontier(finished: Any, change: dict[str, Any]):
    name = next(iter(change)).replace("__", ".")
    other = sweep(finished.folder, **change)
    with pytest.raises(RunFolderError, match=rf"another frontier[^:]*:\n  {name}: "):
        begin(other, resume=True)
    with pytest.raises(RunFolderError, match="add --resume"):
        begin(sweep(finished.folder), resume=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunFolderError, match="holds no frontier"):
        begin(sweep(tmp_path), resume=False)
    with pytest.raises(RunFolderError, match="holds no frontier"):
        read_sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_trial_would_refuse_is_refused_before_any_runs(tmp_path: Path):
    own = sweep(tmp_path / "never", settings={"fractions": "0.001,0.5"})
    with pytest.raises(ConfigError, match="fraction"):
        check_sweep(own, Data(own.base))
    late = sweep(tmp_path / "never", training__epochs=2, selection__select_every=2)
    with pytest.raises(ConfigError, match="no epoch for"):
        check_sweep(late, Data(late.base))
    assert not (tmp_path / "never").exists()


def test_a_stored_sweep_is_the_one_that_was_begun(finished: Any):
    assert read_sweep(finished.folder) == finished


def test_rows_outlive_a_file(finished: Any, tmp_path: Path):
    write_table(tmp_path / "frontier.parquet", to_table(finished.rows()))
    assert given(from_table(read_table(tmp_path / "frontier.parquet"))) == given(finished.rows())


def test_a_limit_draws_its_rows_by_the_trial_s_own_seed():
    data = Data(sweep(Path("/nowhere")).base)
    assert data.seed_of(7) == 7
    assert Data(sweep(Path("/nowhere"), data__limit=None).base).seed_of(7) == 0


DAMAGES: list[tuple[str, str | None]] = [
    ("result.json", "{"),
    ("result.json", "null"),
    ("trial.json", "{"),
    ("trial.json", "[]"),
    ("fingerprint.json", None),
    ("fingerprint.json", "{}"),
    ("experiment.yaml", "a: ["),
    ("rounds", None),
]
"""What is written into which file of a trial; None: it is gone."""


def damage(path: Path, text: str | None) -> None:
    if text is not None:
        path.write_text(text)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def test_damaged_trials_are_not_finished_and_no_other_is_lost(finished: Any, tmp_path: Path):
    own = replace(finished, folder=tmp_path / "copy")
    shutil.copytree(finished.folder, own.folder)
    lost = own.planned[1 : 1 + len(DAMAGES)]
    for trial, (name, text) in zip(lost, DAMAGES, strict=True):
        assert is_finished(own.folder, trial)
        damage(trial_folder(own.folder, trial) / name, text)
        assert not is_finished(own.folder, trial), (name, text)
    kept = [t.name for t in own.trials if t not in lost]
    assert [t.name for t in left_of(own, own.trials)] == [t.name for t in lost]
    assert [row.trial for row in own.rows()] == kept != []
    told = report_sweep(own, None)
    assert any(f"{len(kept)} of {len(own.trials)} trials" in line for line in told)


def test_a_trial_whose_result_is_damaged_is_run_again(finished: Any, tmp_path: Path):
    own = replace(finished, folder=tmp_path / "copy")
    shutil.copytree(finished.folder, own.folder)
    (trial_folder(own.folder, own.planned[1]) / "result.json").write_text("{")
    run_sweep(own, here(own))
    assert given(own.rows()) == given(finished.rows())


@pytest.mark.parametrize("text", ["{", "[]", '{"0.2": "x", "0.5": null}'])
def test_a_damaged_note_of_equal_time_is_measured_anew(finished: Any, tmp_path: Path, text: str):
    own = replace(finished, folder=tmp_path / "copy")
    shutil.copytree(finished.folder, own.folder)
    (own.folder / "equal_time.json").write_text(text)
    assert own.equal_time == []
    run_sweep(own, here(own))
    assert json.loads((own.folder / "equal_time.json").read_text()).keys() == {"0.2", "0.5"}
    assert left_of(own, own.trials) == []


def test_a_damaged_plan_and_a_folder_in_use_are_told_in_a_sentence(tmp_path: Path):
    own = sweep(tmp_path / "f")
    with open_folder(own, resume=False):
        with (
            pytest.raises(RunFolderError, match="is in use by process"),
            open_folder(own, resume=True),
        ):
            pass
    (own.folder / "frontier.yaml").write_text("a: 1")
    with pytest.raises(RunFolderError, match="is damaged"):
        read_sweep(own.folder)
    (own.folder / "trials").mkdir()
    failed = trial_folder(own.folder, own.planned[0])
    failed.mkdir()
    (failed / "failed.json").write_text("{")
    assert "cannot be read" in failures_in(own.folder, own.trials)[own.planned[0].name]
