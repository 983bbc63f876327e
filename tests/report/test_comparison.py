from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest

from raysubset.errors import RunFolderError
from raysubset.report.comparison import write_comparison
from raysubset.report.comparison_plots import wilson
from raysubset.report.verdict import verdict
from tests.report.conftest import Runs
from tests.report.page_checks import Page, check_files, check_self_contained


def test_the_verdict_stands_before_every_number(runs: Runs, tmp_path: Path):
    write_comparison(tmp_path / "compare", list(runs.folders.values()))
    page = Page(tmp_path / "compare/report.html")
    check_self_contained(page)
    check_files(tmp_path / "compare", {"test", "accuracy", "seconds"})
    record = json.loads((runs.folders["glister"] / "result.json").read_text())
    said = verdict(runs.outcomes, int(record["test_examples"]))
    before, shown, after = re.split(r'<p class="verdict">(.*?)</p>', page.source)
    assert html.unescape(re.sub(r"</?code>", "`", shown)) == said
    assert "<table" not in before
    assert "<table" in after
    markdown = (tmp_path / "compare/report.md").read_text().splitlines()
    assert markdown[2] == f"**{said}**"


def test_every_run_is_a_row_with_its_own_numbers(runs: Runs, tmp_path: Path):
    write_comparison(tmp_path, list(runs.folders.values()))
    markdown = (tmp_path / "report.md").read_text()
    for outcome in runs.outcomes:
        row = next(r for r in markdown.splitlines() if r.startswith(f"| {outcome.strategy} |"))
        assert f"| {100 * outcome.test_accuracy:.1f} % |" in row
        assert f"| {outcome.visits:,} | {outcome.distinct:,} |" in row


def test_runs_on_other_data_are_not_compared(
    runs: Runs, copy_of: Callable[[str], Path], tmp_path: Path
):
    other = copy_of("adaptive-random")
    path = other / "fingerprint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "0" * 64}))
    with pytest.raises(RunFolderError, match="other data"):
        write_comparison(tmp_path / "compare", [runs.folders["glister"], other])
    assert not (tmp_path / "compare").exists()


def test_an_unfinished_run_is_not_compared(glister_run: Path, tmp_path: Path):
    (glister_run / "result.json").unlink()
    with pytest.raises(RunFolderError, match="not finished"):
        write_comparison(tmp_path / "compare", [glister_run])
    with pytest.raises(RunFolderError, match="no run to compare"):
        write_comparison(tmp_path / "compare", [])


def test_drawing_leaves_matplotlib_as_it_was(runs: Runs, tmp_path: Path):
    before = dict(matplotlib.rcParams)
    write_comparison(tmp_path, [runs.folders["glister"]])
    assert dict(matplotlib.rcParams) == before


def test_wilson_s_interval_holds_its_share_and_stays_a_share():
    # Newcombe, Statistics in Medicine 17, 1998, table I: 81 of 263 and 0 of 20 by the score method
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    for accuracy in (0.0, 0.5, 1.0):
        low, high = wilson(accuracy, 359)
        assert 0 <= low <= accuracy <= high <= 1
