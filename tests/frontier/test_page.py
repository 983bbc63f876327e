from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import RunFolderError
from raysubset.frontier.answer import answer_of
from raysubset.frontier.page import write_frontier
from raysubset.frontier.sentences import sentences_of
from raysubset.frontier.sweep import Sweep
from raysubset.frontier.table import TrialRow, from_table
from raysubset.frontier.text import points, table_of
from raysubset.records import read_table
from raysubset.report.table import markdown_table
from tests.frontier.rows import (
    NUM_CLASSES,
    NUM_ROWS,
    SETTINGS,
    pool_of,
    read_json,
    rows_of_plan,
    trial_row,
    write_trial,
)
from tests.report.page_checks import Page, check_files, check_self_contained

EVIL = "<script>alert(1)</script>|*$5*"
CHARTS = {"accuracy", "cost", "seconds", "coverage", "classes"}


def write(folder: Path, rows: Sequence[TrialRow], **changes: Any) -> Page:
    """Write the report of these rows, whose trials are there, and return its page."""
    answer = answer_of(rows, SETTINGS.max_drop)
    values: dict[str, Any] = {
        "settings": SETTINGS,
        "answer": answer,
        "sentences": sentences_of(answer, SETTINGS),
        "notes": ["a note"],
        "failures": {},
        "tuned": {},
        "heading": f"{len(rows)} trials",
        "pictures": None,
    }
    write_frontier(folder, rows, **values | changes)
    page = Page(folder / "report.html")
    check_self_contained(page)
    return page


def write_trials(folder: Path, rows: Sequence[TrialRow], **how: Any) -> None:
    for row in rows:
        whole = row.row.startswith("full") or row.row == "validation-only"
        chosen = pool_of(row.seed).tolist() if whole else None
        write_trial(folder, row, chosen=chosen, **how)


@pytest.fixture
def rows(tmp_path: Path) -> list[TrialRow]:
    """Rows whose trials stand in tmp_path."""
    made = rows_of_plan()
    write_trials(tmp_path, made, margin={int(pool_of(0)[0]): -3.0}, classes=[EVIL, *"abcdefghi"])
    return made


def test_the_first_sentence_stands_before_everything(rows: list[TrialRow], tmp_path: Path):
    page = write(tmp_path, rows, sentences=["First `--resume`.", "Second."])
    heading = page.source.index("<h1>First <code>--resume</code>.</h1>")
    assert heading < page.source.index("Second.") < page.source.index("<table")
    assert page.source.count("<h1") == 1
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith("# First `--resume`.\n")


def test_the_figures_are_those_of_the_rows(rows: list[TrialRow], tmp_path: Path):
    page = write(tmp_path, rows)
    told, answer = read_json(tmp_path / "frontier.json"), answer_of(rows, SETTINGS.max_drop)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert markdown_table(table_of(answer, None)) in markdown
    full = {r.seed: r.test_accuracy for r in rows if r.row == "full"}
    assert len(told["cells"]) == len({(r.row, r.fraction) for r in rows}) - 1
    assert told["full"]["to_full"] is None
    for cell in told["cells"]:
        own = [r for r in rows if (r.row, r.fraction) == (cell["row"], cell["fraction"])]
        mean = float(np.mean([r.test_accuracy for r in own]))
        loss = float(np.mean([r.test_accuracy - full[r.seed] for r in own]))
        assert cell["accuracy"]["mean"] == pytest.approx(mean)
        assert cell["accuracy"]["n"] == len(own) == 3
        assert cell["to_full"]["mean"] == pytest.approx(loss)
        assert cell["seconds_total"] == pytest.approx(np.mean([r.seconds for r in own]))
        said = f"{100 * cell['accuracy']['mean']:.1f} %"
        assert f"| {cell['row']} | {100 * cell['fraction']:g} % | 3 | {said} |" in markdown
        assert said in page.text
    assert points(told["cells"][0]["to_full"]["mean"]) in page.text


def test_the_answer_is_plain_data_without_nan(rows: list[TrialRow], tmp_path: Path):
    unknown = (float("nan"), *[0.9] * (NUM_CLASSES - 1))
    alone = [
        trial_row(r.row, r.fraction, r.seed, class_accuracy=unknown) for r in rows if r.seed == 0
    ]
    page = write(tmp_path, alone, failures={"glister-0.1-s1": "no memory"})
    told = read_json(tmp_path / "frontier.json")
    assert told["cells"][0]["accuracy"]["half"] is None
    assert told["class_changes"][0]["change_by_class"][0] is None
    assert told["failures"] == {"glister-0.1-s1": "no memory"}
    assert told["plan"] == SETTINGS.model_dump(mode="json")
    assert "nan" not in page.text.lower().split()
    assert "glister-0.1-s1 : no memory" in page.text
    assert all(decision is None for decision in told["decisions"].values())


def test_decisions_and_duels_stand_in_the_data_with_their_tests(
    rows: list[TrialRow], tmp_path: Path
):
    write(tmp_path, rows)
    told, answer = read_json(tmp_path / "frontier.json"), answer_of(rows, SETTINGS.max_drop)
    assert len(told["duels"]) == len(answer.duels) > 0
    for row, within in answer.within.items():
        assert within is not None
        found = told["decisions"][row]
        assert found["fraction"] == within.fraction
        assert [t["fraction"] for t in found["tests"]] == [f for f, _ in within.tests]
        assert [t["passed"] for t in found["tests"]] == [t.passed for _, t in within.tests]


def test_every_chart_stands_in_a_file_and_in_the_page_with_its_reading(
    rows: list[TrialRow], tmp_path: Path
):
    page = write(tmp_path, rows)
    check_files(tmp_path, CHARTS)
    readings = page.source.split("<figcaption>")[1:]
    figures = page.source.count('<svg viewBox="')
    assert figures == len(CHARTS) == len(readings)
    assert all(len(text.split("</figcaption>")[0]) > 60 for text in readings)


def test_rows_come_back_from_the_table(rows: list[TrialRow], tmp_path: Path):
    write(tmp_path, rows)
    assert from_table(read_table(tmp_path / "frontier.parquet")) == rows


def test_f27_names_from_the_data_are_shown_as_they_are_and_run_nowhere(
    rows: list[TrialRow], tmp_path: Path
):
    page = write(tmp_path, rows, failures={EVIL: EVIL}, notes=[EVIL], heading=EVIL)
    assert EVIL in page.text
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    for path in (tmp_path / "plots").iterdir():
        assert "<script" not in path.read_text(encoding="utf-8")


def test_pictures_are_shown_of_ids_that_have_one(rows: list[TrialRow], tmp_path: Path):
    without = write(tmp_path, rows)
    assert "<img" not in without.source
    pictures = {i: np.full((1, 4, 4), i % 256, dtype=np.uint8) for i in range(NUM_ROWS)}
    page = write(tmp_path, rows, pictures=pictures)
    shown = page.source.count("<img")
    assert 0 < shown <= 3 * 24
    suspect = int(pool_of(0)[0])
    assert read_json(tmp_path / "frontier.json")["suspects"]["worst"][0]["id"] == suspect
    assert f"id {suspect}, " in page.text


def test_suspected_labels_are_counted_and_marked_among_the_chosen(tmp_path: Path):
    """Every seed chose two ids that stay wrong in all of its runs, and one that does not."""
    rows = rows_of_plan()
    shared = sorted(set.intersection(*(set(pool_of(s).tolist()) for s in range(3))))[:3]
    wrong = dict.fromkeys(shared[:2], -3.0)
    for row in rows:
        whole = row.row.startswith("full") or row.row == "validation-only"
        chosen = pool_of(row.seed).tolist() if whole else shared
        write_trial(tmp_path, row, chosen=chosen, margin=wrong)
    page = write(tmp_path, rows)
    told = read_json(tmp_path / "frontier.json")["suspects"]
    assert told["unanimous_ids"] == shared[:2] and told["unanimous"] == 2
    assert "2 of the 3 are suspected label errors (66.7 %" in page.text
    pixels = {i: np.full((1, 8, 8), 7, dtype=np.uint8) for i in shared}
    page = write(tmp_path, rows, pictures=pixels)
    chosen = page.source.split("Chosen by every seed")[1].split("Chosen by no seed")[0]
    captions = [text.split("</b>")[1].split("<")[0] for text in chosen.split("<figcaption>")[1:]]
    assert captions == [
        f"id {shared[0]}, suspected",
        f"id {shared[1]}, suspected",
        f"id {shared[2]}",
    ]


def test_a_frontier_without_a_finished_trial_is_reported(tmp_path: Path):
    page = write(tmp_path, [], failures={"full-1-s0": "the disk is full"})
    assert "No trial is finished" in page.text
    assert "the disk is full" in page.text
    assert read_json(tmp_path / "frontier.json")["cells"] == []
    assert from_table(read_table(tmp_path / "frontier.parquet")) == []
    assert not list((tmp_path / "plots").iterdir())


def test_a_damaged_trial_is_named(rows: list[TrialRow], tmp_path: Path):
    bad = tmp_path / "trials/glister-0.1-s1/rounds/0000/selection.parquet"
    bad.write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"glister-0\.1-s1.*selection\.parquet"):
        write(tmp_path, rows)


def test_a_real_frontier_is_reported_whole(whole: Sweep, tmp_path: Path):
    small = replace(whole, folder=tmp_path / "frontier")
    shutil.copytree(whole.folder, small.folder)
    found = small.rows()
    page = write(small.folder, found, settings=small.settings)
    check_files(small.folder, CHARTS)
    assert "adaptive-random-equal-time" in page.text
    assert "max_drop: 1.0" in page.text  # the whole config
    for row in found:
        assert row.row in page.text
