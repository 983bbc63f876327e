from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import RunFolderError
from raysubset.records import read_history
from raysubset.report.pictures import data_uri, pictures_of
from raysubset.report.record import read_run, stage_seconds
from raysubset.report.run_report import write_report
from tests.report.conftest import Runs
from tests.report.page_checks import Page, check_files, check_self_contained

EVIL = "<script>alert(1)</script>"


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_classes(run: Path, *names: str) -> None:
    """Rename the first classes of a run."""
    path = run / "fingerprint.json"
    known = json.loads(path.read_text())["classes"]
    edit_json(path, classes=[*names, *known[len(names) :]])


def report(run: Path, **how: Any) -> Page:
    write_report(run, **how)
    page = Page(run / "report.html")
    check_self_contained(page)
    return page


def test_the_numbers_are_those_of_the_ledger(glister_run: Path):
    page = report(glister_run)
    result = json.loads((glister_run / "result.json").read_text())
    pool = json.loads((glister_run / "fingerprint.json").read_text())["pool"]
    markdown = (glister_run / "report.md").read_text()
    for said in (
        f"{100 * result['test_accuracy']:.1f} %",
        f"{100 * result['validation_accuracy']:.1f} %",
        f"of {result['test_examples']:.0f} test examples",
        f"{result['visits']:,} example visits",
        f"{result['distinct']:,} of {pool:,} ids",
        f"{result['distinct']:,} ids chosen at least once, {pool - result['distinct']:,} never.",
        f"{result['speed_up']:.2f}x",
    ):
        assert said in page.text
        assert said in markdown


def test_the_largest_memory_of_each_process_is_told_with_what_is_its_own(glister_run: Path):
    path = glister_run / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["peak_bytes"] = {"driver": 2**30 * (1 + number), "rank_0": 2**30}
        line["private_bytes"] = {"rank_0": 2**28}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    last = max(n for n, line in enumerate(lines) if line["kind"] == "round")
    text = report(glister_run).text
    assert f"peak memory, driver {1 + last}.00 GiB" in text
    assert "peak memory, rank 0 1.00 GiB, 0.25 GiB of it not shared" in text


def test_the_rounds_are_those_of_the_history(glister_run: Path):
    page = report(glister_run)
    for epochs in ("0 random 0-1", "1 glister 2-3", "2 glister 4-5"):
        assert epochs in page.text
    for line in read_history(glister_run):
        if line["kind"] == "round" and line["strategy"] == "glister":
            bound = f"{np.floor(100 * line['share_of_optimum']):.0f} %"
            assert re.search(rf"{line['modelled_loss_after']:.3g} {bound}", page.text)
            assert f"{100 * line['validation_accuracy']:.1f} %" in page.text


def test_seconds_by_stage_add_up_to_the_result(runs: Runs):
    for outcome in runs.outcomes:
        record = read_run(runs.folders[outcome.strategy])
        per_round = [stage_seconds(line) for line in record.rounds]
        for stage in ("scoring", "greedy", "training", "other"):
            total = sum(seconds[stage] for seconds in per_round)
            if stage == "other":  # no round waits for the last one's commit; the run does
                result = json.loads((runs.folders[outcome.strategy] / "result.json").read_text())
                total += result["seconds_last_commit"]
            assert total == pytest.approx(getattr(outcome, f"seconds_{stage}"))


def test_charts_stand_in_files_and_in_the_page(glister_run: Path):
    page = report(glister_run)
    check_files(glister_run, {"accuracy", "seconds", "timeline", "classes", "glister"})
    labels = [values.get("aria-label") for tag, values in page.tags if tag == "svg"]
    assert len(labels) == 5
    assert all(labels)


def test_a_page_follows_light_dark_and_print(glister_run: Path):
    page = report(glister_run)
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source
    body = page.source.split("</style>", 1)[1]
    assert "var(--blue)" in body
    assert not re.search(r"(fill|stroke): #[0-9a-f]{6}", body), "a colour that no theme can change"


def test_equal_runs_give_equal_pages(glister_run: Path):
    names = ("report.html", "report.md", "plots/accuracy.svg", "plots/classes.svg")
    write_report(glister_run)
    first = [(glister_run / name).read_bytes() for name in names]
    write_report(glister_run)
    assert [(glister_run / name).read_bytes() for name in names] == first


def test_f27_class_names_from_the_data_are_text_and_nothing_else(glister_run: Path):
    names = (EVIL, "$x_{$", "a|b`c`", '" onload="x', "\u6c49\u5b57", "line\nbreak\x00", "x" * 5000)
    with_classes(glister_run, *names)
    edit_json(glister_run / "fingerprint.json", name=EVIL)
    page = report(glister_run)
    assert EVIL in page.text
    assert "<script" not in page.source.lower()
    assert "<script" not in (glister_run / "report.md").read_text().lower()
    check_files(glister_run, {"accuracy", "seconds", "timeline", "classes", "glister"})


@pytest.mark.parametrize("strategy", ["adaptive-random", "full-compressed"])
def test_every_strategy_has_a_report(copy_of: Callable[[str], Path], strategy: str):
    run = copy_of(strategy)
    page = report(run)
    check_files(run, {"accuracy", "seconds", "timeline", "classes"})
    assert "modelled loss" not in page.text


def test_a_run_without_selections_reports_fine(glister_run: Path):
    for path in glister_run.glob("rounds/*"):
        shutil.rmtree(path)
    page = report(glister_run)
    assert "No selection stands in this run folder." in page.text
    check_files(glister_run, {"accuracy", "seconds", "timeline", "glister"})


def test_pruned_checkpoints_and_missing_pieces_do_not_matter(glister_run: Path):
    for path in glister_run.glob("rounds/*/checkpoint"):
        shutil.rmtree(path)
    for name in ("environment.json", "parts.parquet"):
        (glister_run / name).unlink(missing_ok=True)
    page = report(glister_run)
    assert "ids chosen at least once" in page.text


def test_a_run_that_is_not_finished_says_so(glister_run: Path):
    (glister_run / "result.json").unlink()
    page = report(glister_run)
    assert "Not finished: 3 of 3 rounds are done" in page.text
    assert "validation accuracy" in page.text


def test_a_run_that_has_just_begun_says_so(glister_run: Path):
    shutil.rmtree(glister_run / "rounds")
    for name in ("result.json", "history.jsonl"):
        (glister_run / name).unlink()
    page = report(glister_run)
    assert "Not finished: 0 of 3 rounds are done" in page.text
    check_files(glister_run, set())


def test_the_most_chosen_ids_are_shown_with_their_pictures(glister_run: Path, runs: Runs):
    page = report(glister_run, pictures=pictures_of(runs.pool))
    images = [values for tag, values in page.tags if tag == "img"]
    assert len(images) == 20


def test_pictures_are_looked_up_by_id(runs: Runs):
    pictures = pictures_of(runs.pool)
    assert pictures is not None
    id_ = int(runs.pool.id_N[7])
    assert (pictures[id_] == runs.pool.content[7]).all()
    assert len(pictures) == runs.pool.num_examples == len(list(pictures))
    absent = int(runs.pool.id_N[-1]) + 1
    assert absent not in pictures


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (3, 5, 9), (4, 300, 200)])
def test_any_image_becomes_a_small_png(shape: tuple[int, ...]):
    address = data_uri(np.zeros(shape, dtype=np.uint8))
    assert address.startswith("data:image/png;base64,iVBOR")
    assert len(address) < 2000


def test_a_person_s_own_names_of_rows_are_shown(glister_run: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = glister_run / "parts.parquet"
    table = pq.read_table(path)
    keys = pa.array([f"folder/{EVIL}/{i}.png" for i in range(table.num_rows)])
    pq.write_table(table.set_column(table.schema.get_field_index("key"), "key", keys), path)
    page = report(glister_run)
    assert f"folder/{EVIL}/" in page.text


def test_notes_of_the_environment_and_overshooting_are_told(glister_run: Path):
    edit_json(glister_run / "environment.json", notes=["12 of 200 pool rows are duplicates"])
    history = glister_run / "history.jsonl"
    text = re.sub(r'"share_of_optimum": [0-9.]+', '"share_of_optimum": -0.25', history.read_text())
    history.write_text(text)
    page = report(glister_run)
    assert "12 of 200 pool rows are duplicates" in page.text
    assert "overshot in 2 rounds (1, 2)" in page.text
    assert "-25 %" in page.text


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(glister_run: Path):
    (glister_run / "result.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"result\.json is not JSON"):
        write_report(glister_run)
