"""The pictures of docs/: all of them can be drawn, and all that is drawn is committed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from docs.figures import draw
from tests.docs.pages import ROOT


def test_the_script_draws_the_committed_pictures_and_no_others(tmp_path: Path):
    draw.main(tmp_path)
    committed = {path.name for path in (ROOT / "docs" / "figures").glob("*.svg")}
    assert {path.name for path in tmp_path.iterdir()} == committed
    for path in tmp_path.iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
