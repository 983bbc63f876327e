"""Rows choose on the tuning part alone, among the same candidates; nothing is run twice or lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysubset.errors import RunFolderError, Stopped
from raysubset.frontier.plan import Trial
from raysubset.frontier.report import report_sweep
from raysubset.frontier.sweep import Sweep, left_of, run_sweep
from raysubset.frontier.table import from_table
from raysubset.frontier.trial import trial_folder
from raysubset.frontier.tuning import candidates_of, cells_of, read_tuned, with_tuning_part
from raysubset.frontier.tuning_text import left_to_run
from raysubset.records import read_table
from tests.frontier.rows import read_json
from tests.frontier.sweeps import Ended, begin, given, here, sweep

LRS = ("0.05", "0.1", "1e6")  # the last one diverges


def tuning(folder: Path, *, lrs: Sequence[str] = LRS, **settings: Any) -> Sweep:
    """Return a small frontier that tunes: GLISTER and full, two seeds."""
    own = {"fractions": "0.3", "seeds": 2, "max_drop": None, "controls": False}
    swept = {"sweep": f"training.lr={','.join(lrs)}"}
    made = sweep(folder, settings=own | swept | settings)
    return replace(made, base=with_tuning_part(made.base, made.settings))


def result(of: Sweep, trial: Trial) -> dict[str, Any]:
    return json.loads((trial_folder(of.folder, trial) / "result.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Ended]:
    """A tuned frontier run to its end, and what was told of its trials."""
    own, ended = tuning(tmp_path_factory.mktemp("tuning") / "whole"), Ended()
    begin(own, resume=False)
    run_sweep(own, here(own, ended))
    return own, ended


def test_every_cell_has_the_same_candidates_and_chose_the_best_on_tuning(
    done: tuple[Sweep, Ended],
):
    own, _ = done
    tuned = own.tuned
    assert tuned.keys() == {"full-1", "glister-0.3"}
    for cell in cells_of(own.base, own.settings, own.untuned):
        one = tuned[cell.cell]
        assert [t.values["training.lr"] for t in one.tried] == [0.05, 0.1, 1e6]
        able = [c for c in candidates_of(own.base, own.settings, cell)[:2]]
        accuracy = {c.overrides["training.lr"]: result(own, c)["tuning_accuracy"] for c in able}
        assert accuracy[one.chosen["training.lr"]] == max(accuracy.values())
        assert one.tuning_rows == 16  # 0.1 of the 160 train rows


def test_f10_a_candidate_that_diverges_is_listed_and_out(done: tuple[Sweep, Ended]):
    own, _ = done
    for one in own.tuned.values():
        assert "no longer finite" in one.tried[2].out and one.tried[2].tuning_accuracy is None
        assert one.chosen["training.lr"] != 1e6


def test_nothing_is_run_twice_the_first_seed_s_trial_is_its_candidate(done: tuple[Sweep, Ended]):
    own, ended = done
    names = [name for name, _ in ended]
    assert len(names) == len(set(names)) == 2 * 3 + 2  # candidates, and the second seed
    assert {t.name for t in own.trials} <= set(names)
    assert left_of(own, own.trials) == [] and left_to_run(own) == 0


def test_the_choice_serves_every_seed_and_the_table_tells_it(done: tuple[Sweep, Ended]):
    own, _ = done
    for trial in own.trials:
        assert trial.overrides == own.tuned[trial.cell].chosen
        assert trial.experiment.training.lr == trial.overrides["training.lr"]
    assert {row.options for row in own.rows()} <= {"training.lr=0.05", "training.lr=0.1"}


def test_the_test_part_chooses_nothing(done: tuple[Sweep, Ended], tmp_path: Path):
    own = copied(done, tmp_path)
    (own.folder / "tuned.json").unlink()
    for path in own.folder.glob("trials/*/result.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, "test_accuracy": 1 - told["test_accuracy"]}))
    run_sweep(own, here(own))
    assert chosen(own) == chosen(done[0])


def test_the_report_tells_what_was_tried_with_the_figures_of_the_runs(
    done: tuple[Sweep, Ended], tmp_path: Path
):
    own = copied(done, tmp_path)
    lines = report_sweep(own, None)
    told = read_json(own.folder / "frontier.json")["tuning"]
    page, text = ((own.folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert "What was tried" in page and "What was tried" in text
    for cell in cells_of(own.base, own.settings, own.untuned):
        entry = next(e for e in told if e["cell"] == cell.cell)
        assert entry["chosen"] == own.tuned[cell.cell].chosen
        for tried, candidate in zip(
            entry["tried"], candidates_of(own.base, own.settings, cell), strict=True
        ):
            if not tried["out"]:
                accuracy = result(own, candidate)["tuning_accuracy"]
                assert tried["tuning_accuracy"] == accuracy
                assert f"{100 * accuracy:.1f} %" in text
    rows = from_table(read_table(own.folder / "frontier.parquet"))
    for row, trial in zip(rows, own.trials, strict=True):
        assert row.test_accuracy == result(own, trial)["test_accuracy"]
    assert any("training.lr was chosen for every row" in line for line in lines)
    assert any(line.startswith("chosen for glister: 30 % training.lr") for line in lines)
    assert any("candidate glister-0.3 training.lr=1000000 failed" in line for line in lines)


@pytest.mark.parametrize("stop_after", [1, 3, 6, 7])
def test_tuning_that_was_interrupted_goes_on_to_the_same_choices_and_figures(
    done: tuple[Sweep, Ended], tmp_path: Path, stop_after: int
):
    own, ended = tuning(tmp_path / "cut"), Ended()
    begin(own, resume=False)

    def until_stopped(trials: Sequence[Trial]) -> None:
        for trial in trials:
            here(own, ended)([trial])
            if len(ended) == stop_after:
                raise Stopped("asked to stop.")

    with pytest.raises(Stopped):
        run_sweep(own, until_stopped)
    begin(own, resume=True)
    run_sweep(own, here(own, ended))
    assert chosen(own) == chosen(done[0])
    assert given(own.rows()) == given(done[0].rows())
    well = [name for name, why in ended if not why]
    assert len(well) == len(set(well))


def test_more_seeds_use_the_choice_that_is_written_down(done: tuple[Sweep, Ended], tmp_path: Path):
    before = copied(done, tmp_path)
    more = replace(before, settings=before.settings.model_copy(update={"seeds": 3}))
    begin(more, resume=True)
    ended = Ended()
    run_sweep(more, here(more, ended))
    assert sorted(name for name, _ in ended) == sorted(t.name for t in more.trials if t.seed == 2)
    assert chosen(more) == chosen(before)


def test_a_damaged_note_of_the_choices_is_made_again_without_a_run(
    done: tuple[Sweep, Ended], tmp_path: Path
):
    own, ended = copied(done, tmp_path), Ended()
    (own.folder / "tuned.json").write_text('{"full-1": {"chosen": 3}, "glister-0.3": []}')
    run_sweep(own, here(own, ended))
    assert chosen(own) == chosen(done[0])
    assert all("1000000" in name for name, _ in ended)  # what failed is tried again, no other


def test_other_candidates_are_another_frontier(done: tuple[Sweep, Ended]):
    other = tuning(done[0].folder, lrs=("0.05", "0.2"))
    with pytest.raises(RunFolderError, match=r"frontier\.sweep: .*0\.2"):
        begin(other, resume=True)


def test_where_every_candidate_fails_the_experiment_s_own_values_stay_and_that_is_told(
    tmp_path: Path,
):
    own, ended = tuning(tmp_path / "f", lrs=("1e6", "1e7"), seeds=1), Ended()
    begin(own, resume=False)
    run_sweep(own, here(own, ended))
    assert chosen(own) == {"full-1": {}, "glister-0.3": {}}
    assert {trial.name for trial in own.trials} == {"full-1-s0", "glister-0.3-s0"}
    assert left_of(own, own.trials) == []
    lines = report_sweep(own, None)
    assert any("keeps the experiment's own values" in line for line in lines)


def test_fields_in_any_order_make_one_folder_and_adaptive_random_at_equal_time_chooses_too(
    tmp_path: Path,
):
    swept = ["training.momentum=0.8,0.9", "training.lr=0.05,0.1"]
    own, ended = tuning(tmp_path / "f", sweep=swept, controls=True, seeds=1), Ended()
    begin(own, resume=False)
    expected = left_to_run(own)
    run_sweep(own, here(own, ended))
    names = [name for name, _ in ended]
    assert len(names) == len(set(names)) == expected == 4 * len(own.tuned)
    assert "adaptive-random-equal-time-0.3" in own.tuned
    assert left_of(own, own.trials) == []
    timed = {t.experiment.training.epochs for t in own.equal_time}
    assert all(one.epochs in timed for one in own.tuned["adaptive-random-equal-time-0.3"].tried)


def copied(done: tuple[Sweep, Ended], tmp_path: Path) -> Sweep:
    own = replace(done[0], folder=tmp_path / "copy")
    shutil.copytree(done[0].folder, own.folder)
    return own


def chosen(of: Sweep) -> dict[str, Any]:
    return {cell: one.chosen for cell, one in read_tuned(of.folder).items()}
