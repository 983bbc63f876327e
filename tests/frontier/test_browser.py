"""The report as people see it: in light, in the dark, on a narrow screen and on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raysubset.report.palette import DARK, LIGHT
from tests.frontier.rows import rows_of_plan
from tests.frontier.test_page import write, write_trials
from tests.report.browser import beyond_the_edge, chromium, looked_at, printed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    folder, rows = tmp_path_factory.mktemp("browser"), rows_of_plan()
    write_trials(folder, rows, classes=["an overlong name of a class " * 4, *"abcdefghi"])
    write(folder, rows)
    return folder / "report.html"


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_on_the_paper_of_the_scheme_with_its_ink(
    page: Path, tmp_path: Path, dark: bool
):
    colours = DARK if dark else LIGHT
    pixels = looked_at(page, tmp_path / "page.png", dark=dark)
    assert pixels[2, 2].tolist() == rgb(colours["paper"])
    distance = np.abs(pixels.astype(int) - rgb(colours["ink"])).sum(-1)
    assert (distance < 30).sum() > 500  # text stands there, and in its colour


@pytest.mark.parametrize("width", [1100, 500])
def test_nothing_lies_beyond_the_edge(page: Path, tmp_path: Path, width: int):
    assert beyond_the_edge(page, tmp_path / "copy.html", width=width) == "fits"


def test_it_prints(page: Path, tmp_path: Path):
    assert 1 <= printed(page, tmp_path / "page.pdf") <= 30
