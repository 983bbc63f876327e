"""docs/reference.md is what its script writes, and has everything that is public."""

from __future__ import annotations

import re

import pytest

import raysubset
from docs import docstrings, reference
from raysubset.experiment import options
from tests.docs.pages import ROOT, Page


def test_the_committed_reference_is_what_the_script_writes():
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == reference.page(), "run: python docs/reference.py"


def test_it_has_every_public_name_option_and_command():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    from raysubset.cli import app

    headings = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert {f"rs.{name}" for name in raysubset.__all__} <= headings
    assert {f"raysubset {name}" for name in app if not name.startswith("-")} <= headings
    assert set(options()) == set(re.findall(r"^\| `([a-z][\w.]*)` \|", text, re.MULTILINE))


def test_whatever_is_public_says_what_it_is():
    lines = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").splitlines()
    at = [
        n for n, line in enumerate(lines) if line.startswith("#### ") or line.startswith("### rs.")
    ]
    for number, following in zip(at, [*at[1:], len(lines)], strict=True):
        prose = "\n".join(lines[number + 1 : following]).split("```")[::2]  # outside fences
        assert "".join(prose).strip(), f"{lines[number]} has no docstring"


def test_a_default_is_told_without_addresses_and_in_one_order():
    given = {"c", "a", "b"}
    assert docstrings.told_value(given) == docstrings.told_value(frozenset(given))
    assert docstrings.told_value(given) == "{'a', 'b', 'c'}"
    assert docstrings.told_value(len) == "len"
    assert docstrings.told_value(object()) == "..."
    assert docstrings.told_value(raysubset.Glister()) == "Glister()"
    assert docstrings.told_value(raysubset.Glister(normalize=True)) == "Glister(normalize=True)"


def test_it_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch):
    before = reference.page()
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    assert reference.page() == before


def test_its_text_fences_are_closed():
    assert Page("docs/reference.md").blocks
