"""Every wait of the cluster's code has a deadline: read from the source, no Ray."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from raysubset import cluster
from raysubset.cluster.group import COLLECTIVE_PATIENCE, make_trainer
from tests.cluster.crews import resources, room

SOURCES = sorted(Path(cluster.__file__).parent.glob("*.py"))
OF_RAY = ("get", "wait")
BARE = ("join", "result", "wait", "acquire")
"""Without an argument, these wait for ever: of threads, futures, events and locks."""
BOUNDED = {
    # (file, what waits) -> what bounds it
    ("last_epoch.py", "self._sending.result()"): "its thread gives up after CARRY_S",
    ("mailbox.py", "self.news.wait()"): "asyncio.wait_for, around it",
    ("rank.py", "self._copying.result()"): "a copy from the device to the host",
    ("rank.py", "copied.result()"): "a copy from the device to the host",
    ("rank.py", "copying.result()"): "a copy from the device to the host",
    ("rank.py", "last.wait()"): "the thread of `_sending`, see above",
}


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Give every call of a method or of a module's function, with its text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node), node


def endless(source: str, file: str = "") -> list[str]:
    """Return what waits without a deadline."""
    found: list[str] = []
    for text, call in calls(source):
        assert isinstance(call.func, ast.Attribute)
        of, name = ast.unparse(call.func.value), call.func.attr
        if of == "ray" and name in OF_RAY:
            if not any(k.arg == "timeout" for k in call.keywords):
                found.append(text)
        elif name in BARE and not call.args and not call.keywords and (file, text) not in BOUNDED:
            found.append(text)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_f05_every_wait_has_a_deadline(path: Path):
    assert endless(path.read_text(), path.name) == []


def test_every_wait_that_is_bounded_by_something_else_is_still_there():
    there = {(p.name, text) for p in SOURCES for text, _ in calls(p.read_text())}
    assert set(BOUNDED) <= there


def test_f05_a_collective_has_a_deadline_after_the_drivers_own(tmp_path: Path):
    asked = resources(call_timeout_s=7)
    trainer = make_trainer({"mailbox": None}, room(workers=2), asked, tmp_path)
    assert trainer.backend_config.timeout_s == COLLECTIVE_PATIENCE * 7 > 7


@pytest.mark.parametrize(
    "source", ["ray.get(ref)", "ray.wait(refs, num_returns=2)", "thread.join()", "done.wait()"]
)
def test_a_wait_without_a_deadline_is_found(source: str):
    assert endless(source) == [source]
