"""Every code block of the README and of docs/ runs; what cannot is followed to where it begins."""

from __future__ import annotations

import contextlib
import doctest
import random
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import raysubset as rs
from raysubset.experiment import Experiment
from raysubset.learn.problem import torch_threads
from tests.docs.commands import commands, follow, ours, run_here, simple
from tests.docs.pages import ROOT, Block, Page, pages

REASONS = {
    "it takes minutes or hours",
    "it needs a cluster or an address of yours",
    "it needs data of yours",
    "it installs or downloads",
}
LANGUAGES = {"python", "bash", "pycon", "text", "yaml"}
PAGES = [page for page in pages() if any(b.language in ("python", "bash") for b in page.blocks)]
INLINE = [
    pytest.param(text, id=f"{page.name}:{line}")
    for page in pages()
    for line, text in page.inline_code
    if text.startswith(("raysubset ", "uv run raysubset ", "python -m "))
]
BLOCKS = [block for page in pages() for block in page.blocks]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """Work in an empty folder with the repository's jobs, and leave random states as they were."""
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    modules, path = {*sys.modules}, [*sys.path]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # what a page may draw from
    with torch.random.fork_rng(devices=[]), torch_threads(1):  # on a busy machine, one is faster
        yield tmp_path
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    sys.path[:] = path
    for name in {*sys.modules} - modules:  # what a page wrote and named
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_one_after_the_other(
    page: Page, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in page.blocks:
        with told(block):
            if block.language == "bash":
                run_bash(block, monkeypatch, elsewhere)
            elif block.language == "python" and block.not_run:
                compile(block.text, block.place, "exec")
            elif block.language == "python":
                exec(compile(block.text, block.place, "exec"), names)


def run_bash(block: Block, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Run our commands of a block; follow them where the block is not run."""
    head, _, instead = block.comment.partition(":")
    for words in commands(block):
        called = ours(words)
        if block.not_run:
            if called:
                follow(called, monkeypatch, place)
            continue
        assert called and called[0] == "raysubset", f"{words} runs nothing of ours: say `not run:`"
        run_here(called[1], instead if head == "run with" else "")


@pytest.mark.parametrize("text", INLINE)
def test_a_command_inside_prose_is_accepted(
    text: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
):
    called = ours(simple(text))
    assert called
    follow(called, monkeypatch, elsewhere)


@contextlib.contextmanager
def told(block: Block) -> Generator[None]:
    """Name the block in whatever goes wrong in it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the block at {block.place}")
        raise


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_its_language_and_a_known_reason_where_it_is_not_run(block: Block):
    assert block.language in LANGUAGES
    head = block.comment.partition(":")[0]
    if head == "not run":
        assert block.language in ("python", "bash") and block.not_run in REASONS
    elif head == "run with":
        assert block.language == "bash"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "pycon"], ids=lambda block: block.place
)
def test_the_example_of_a_docstring_gives_what_it_shows(block: Block, elsewhere: Path):
    names = {name: getattr(rs, name) for name in rs.__all__}
    names |= {"rs": rs, "np": np, "torch": torch, "DataLoader": DataLoader}
    session = doctest.DocTestParser().get_doctest(block.text, names, block.place, block.page, 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session).failed == 0


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "yaml"], ids=lambda block: block.place
)
def test_an_experiment_in_yaml_is_accepted(block: Block, tmp_path: Path):
    path = tmp_path / "experiment.yaml"
    path.write_text(block.text)
    assert Experiment.of(Experiment.read(path)) != Experiment()


def test_every_reason_is_needed():
    assert {block.not_run for block in BLOCKS} - {""} == REASONS


def test_the_tutorial_runs_whole():
    blocks = Page("docs/tutorial.md").blocks
    assert not [block.place for block in blocks if block.not_run]
    words = [words for b in blocks if b.language == "bash" for words in commands(b)]
    called = [found[1][0] for each in words if (found := ours(each))]
    assert {*called} >= {*("compare", "frontier", "run", "explain", "export", "report")}
