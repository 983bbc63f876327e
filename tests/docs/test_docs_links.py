"""Links of the README and of docs/ lead somewhere; every page is reached."""

from __future__ import annotations

import os

import pytest

from tests.docs.pages import ROOT, Page, pages

LINKS = [
    (page.name, line, target)
    for page in pages()
    for line, target in page.links
    if "://" not in target
]


@pytest.mark.parametrize(("page", "line", "target"), LINKS)
def test_a_link_leads_to_a_file_and_to_a_heading_of_it(page: str, line: int, target: str):
    path, _, anchor = target.partition("#")
    name = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
    assert (ROOT / name).exists(), f"{page}:{line}: there is no {name}"
    if anchor:
        assert anchor in Page(name).anchors, f"{page}:{line}: {name} has no heading #{anchor}"


def test_links_are_relative_and_stay_inside():
    for page, line, target in LINKS:
        path = os.path.normpath(os.path.join(os.path.dirname(page), target.partition("#")[0]))
        assert not target.startswith("/") and not path.startswith(".."), f"{page}:{line}: {target}"


def test_every_page_of_docs_is_in_its_index_and_every_picture_on_a_page():
    docs = ROOT / "docs"
    listed = {target.partition("#")[0] for _, target in Page("docs/README.md").links}
    assert {path.name for path in docs.glob("*.md")} - {"README.md"} <= listed
    shown = {os.path.basename(target) for _, _, target in LINKS}
    assert {path.name for path in docs.rglob("*.svg")} <= shown
