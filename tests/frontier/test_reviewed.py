"""What a reviewer broke once: sentences and refusals that must not mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysubset.cli import call
from raysubset.errors import ConfigError, RunFolderError
from raysubset.frontier.answer import answer_of
from raysubset.frontier.candidates import axes_for, axes_of
from raysubset.frontier.disk import bytes_needed
from raysubset.frontier.finding import sentence_of
from raysubset.frontier.learning import learning_curve
from raysubset.frontier.plan import EQUAL_TIME
from raysubset.frontier.report import report_sweep
from raysubset.frontier.sentences import num_first, sentences_of
from raysubset.frontier.settings import FrontierSettings, settings_of
from raysubset.frontier.sweep import Sweep, check_sweep, left_of, run_sweep
from raysubset.frontier.trial import Data, trial_folder
from raysubset.frontier.tuning import with_tuning_part
from raysubset.learn.parts import split_parts
from tests.frontier.rows import trial_row
from tests.frontier.sweeps import Ended, begin, here, sweep
from tests.frontier.sweeps import given as figures
from tests.frontier.test_answer import SETTINGS, frontier

TUNED = {"sweep": ("training.lr=0.01,0.1",)}


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_tuned_frontier_tests_on_no_row_that_chose(seed: int, other: int):
    ready = sweep(Path("unused"), settings=TUNED, seed=seed)
    base = with_tuning_part(ready.base, ready.settings)
    sources = Data(base.model_copy(update={"data": base.data.model_copy(update={"limit": None})}))

    def parts(of: int) -> Any:
        shares = {"validation": None, "tuning": base.data.tuning, "test": None}
        train = sources.of(0)
        return split_parts(train, **shares, seed=of, test_seed=base.data.test_seed)

    chose, tested = parts(seed), parts(other)
    np.testing.assert_array_equal(chose.test.id_N, tested.test.id_N)
    for part in (chose.tuning, chose.pool, chose.validation):
        assert not np.isin(part.id_N, tested.test.id_N).any()
    if seed != other:
        assert not np.array_equal(chose.pool.id_N, tested.pool.id_N)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    ready = sweep(tmp_path_factory.mktemp("reviewed") / "f", settings={"fractions": "0.5"})
    begin(ready, resume=False)
    run_sweep(ready, here(ready))
    return ready


def test_other_data_in_the_same_folder_is_refused(done: Sweep):
    check_sweep(done, Data(done.base))
    other = done.base.data.model_copy(update={"limit": 220})
    data = Data(done.base.model_copy(update={"data": other}))
    with pytest.raises(RunFolderError, match="begun on other data"):
        check_sweep(done, data)


@pytest.mark.parametrize(
    "damaged", ["selection.parquet", "observations.safetensors", "history.jsonl"]
)
def test_a_damaged_trial_is_run_again(done: Sweep, damaged: str):
    before = figures(done.rows())
    trial = next(t for t in done.trials if t.row == "full" and t.seed == 1)
    path = next(trial_folder(done.folder, trial).rglob(damaged))
    path.write_bytes(path.read_bytes()[:-20])
    assert [t.name for t in left_of(done, done.trials)] == [trial.name]
    ended: Ended = []
    run_sweep(done, here(done, ended))
    assert ended == [(trial.name, None)]
    assert figures(done.rows()) == before
    assert report_sweep(done, None)


def test_the_ceiling_at_equal_time_is_that_of_its_visits(done: Sweep):
    answer = answer_of(done.rows(), 1.0)
    cell = answer.cell(EQUAL_TIME, 0.5)
    assert cell is not None and answer.full is not None
    assert cell.ceiling == pytest.approx(answer.full.visits / cell.visits)


def said(rows: Any, planned: tuple[str, ...] = (), drop: float | None = 1.0) -> list[str]:
    return sentences_of(answer_of(rows, drop), SETTINGS, planned)


def test_what_was_asked_about_is_answered_apart_from_the_controls():
    means = {("glister", f): 0.95 for f in (0.3, 0.5)}
    means |= {("full-compressed", f): 0.951 for f in (0.1, 0.3, 0.5)}
    means |= {("validation-only", f): 0.951 for f in (0.1, 0.3, 0.5)}
    told = said(frontier(means, spread=0.001))
    (asked,) = (s for s in told if s.startswith("The smallest fraction within 1 point"))
    assert "GLISTER 30 %" in asked and "full" not in asked.split(":")[1].split("(")[0]
    (controls,) = (s for s in told if s.startswith("Controls, each by a test of its own"))
    assert "full at equal compute 10 %" in controls
    assert "validation rows" not in controls  # none of the pool is a fraction of it


def test_nobody_wins_against_a_control_without_a_result():
    rows = frontier({("glister", 0.1): 0.94, ("full-compressed", 0.1): 0.90})
    told = said(rows, planned=("adaptive-random", "full-compressed"))[0]
    assert "every control that has a result" in told
    assert "No result for adaptive random." in told


def test_one_pair_says_nothing_and_hides_nothing():
    rows = frontier({("glister", 0.1): 0.94, ("full-compressed", 0.1): 0.90})
    rows.append(
        next(
            r for r in frontier({("adaptive-random", 0.1): 0.99}) if r.seed == 0 and r.row != "full"
        )
    )
    told = said(rows, planned=("adaptive-random", "full-compressed"))[0]
    assert "nan" not in told and "full at equal compute" in told
    assert "No result for adaptive random." in told


def test_a_strategy_without_a_trial_is_named():
    told = said(frontier({("full-compressed", 0.1): 0.9, ("random", 0.1): 0.9}))
    assert "No trial of GLISTER is finished." in told


@pytest.mark.parametrize(("drop", "words"), [(0.25, "0.25 points"), (0.04, "0.04 points")])
def test_an_allowed_drop_is_said_as_it_was_given(drop: float, words: str):
    assert any(
        f"within {words} of full" in s for s in said(frontier({("glister", 0.1): 0.9}), drop=drop)
    )


def test_a_search_comes_after_what_must_come_first(tmp_path: Path):
    settings = {"find": True, "strategies": "random", "controls": False, "fractions": "0.5"}
    ready = sweep(tmp_path / "f", settings=settings)
    begin(ready, resume=False)
    lines = report_sweep(ready, None)
    assert num_first(["A control wins against GLISTER: x.", "y"]) == 1
    assert lines  # nothing ran: it is reported all the same


def test_a_search_looks_for_one_strategy_and_can_reach_its_first_look():
    assert settings_of({"find": True, "seeds": 3}).strategies == ("glister",)
    with pytest.raises(ConfigError, match="one strategy's fraction"):
        settings_of({"find": True, "seeds": 3, "strategies": "glister,random"})
    with pytest.raises(ConfigError, match="does not reach the first look, which takes 9 runs"):
        settings_of({"find": True, "seeds": 3, "max_runs": 8})


def test_fractions_that_share_a_name_are_repeated():
    with pytest.raises(ConfigError, match="repeats"):
        settings_of({"fractions": "0.1,0.1000000000000001"})


def test_a_seed_counts_once_at_a_size():
    values = {"budget": 100, "num_pool": 100, "num_test": 1000}
    rows = [trial_row("full", 1.0, s, **values) for s in range(3)]
    rows += [
        trial_row("random", f, s, budget=int(100 * f), num_pool=100, num_test=1000)
        for f in (0.1, 0.3, 0.5, 1.0)
        for s in range(3)
    ]
    curve = learning_curve(rows)
    assert curve is not None and [e.n for e in curve.errors] == [3] * 4


def test_candidates_need_disk_too(tmp_path: Path):
    ready = sweep(tmp_path / "f")
    first = check_sweep(ready, Data(ready.base))
    few, many = (bytes_needed(ready.planned, first, 1, runs) for runs in (None, 500))
    assert many > few


def test_glister_s_own_options_are_tuned_for_glister_alone(tmp_path: Path):
    ready = sweep(tmp_path / "f", settings={"sweep": ("selection.select_every=1,2",)})
    axes = axes_of(ready.base, ready.settings)
    assert axes_for("glister", axes) and not axes_for("random", axes)
    for goal, field in (("faster", "proxy_epochs=1,2"), ("smaller", "warm_start=0.1,0.2")):
        own = sweep(
            tmp_path / "g", settings={"sweep": (f"selection.{field}",)}, selection__goal=goal
        )
        with pytest.raises(ConfigError, match="means nothing with --goal"):
            axes_of(own.base, own.settings)


def test_a_file_beside_resume_is_not_ignored(
    done: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = done.base.model_copy(
        update={"training": done.base.training.model_copy(update={"epochs": 7})}
    )
    (tmp_path / "other.yaml").write_text(other.to_yaml())
    words = ["frontier", str(tmp_path / "other.yaml"), "--local", "--resume"]
    code, _ = call([*words, "--run-dir", str(done.folder)])
    assert code == 2
    assert "training.epochs: 6 -> 7" in capsys.readouterr().err


def test_settings_are_the_defaults_of_the_command_line():
    assert FrontierSettings().strategies == ("glister", "random")
    assert "yet" not in sentence_of_decided()


def sentence_of_decided() -> str:
    from raysubset.frontier.finding import looks_for, search

    found = search("glister", {0.5: [-0.3, -0.31, -0.29]}, [0.5], 0.01, looks_for(1, 3))
    assert found.ask is None
    return sentence_of(found, 1.0)
