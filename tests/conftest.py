from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.small_runs import Left

# Before anything imports ray: a call without ray.init() is an error. Ray would connect to whatever
# Ray runs on this machine, another test's too, and end this process with it.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")


# Which half of `.ci/run` a folder's tests are of decides nothing but when it ends.
LOOPS = ("in_loop", "sampler")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in LOOPS:
            item.add_marker("loops")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it skip without it."""
    beside = os.environ.get("RAYSUBSET_SHARED") or str(Path(__file__).parents[2] / "shared")
    folder = Path(beside) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RAYSUBSET_SHARED to its parent folder")
    return folder


# The same examples in every run and no deadline: a shared machine must not decide what passes.
hypothesis.settings.register_profile(
    "raysubset", derandomize=True, deadline=None, database=None, max_examples=40
)
hypothesis.settings.load_profile("raysubset")


@pytest.fixture(scope="session")
def parity() -> Path:
    """The folder of CORDS's picks on real features; tests that need it skip without it."""
    beside = os.environ.get("RAYSUBSET_SHARED") or str(Path(__file__).parents[2] / "shared")
    folder = Path(beside) / "parity"
    if not folder.is_dir():
        pytest.skip(f"no parity vectors at {folder}; set RAYSUBSET_SHARED to its parent folder")
    return folder


@pytest.fixture(scope="session")
def kill() -> Generator[Callable[..., bool]]:
    """Start a run that dies on the way, a fork of the one process that imports everything."""
    from tests.killed_runs import reaper

    with reaper() as function:
        yield function


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """Give what an undisturbed small run left, made once for each of `small_runs.RUNS`."""
    from tests.small_runs import RUNS, play, prepared

    made: dict[str, Left] = {}

    def of(name: str) -> Left:
        if name not in made:
            _, made[name] = play(prepared(**RUNS[name]), tmp_path_factory.mktemp(name) / "run")
        return made[name]

    return of
