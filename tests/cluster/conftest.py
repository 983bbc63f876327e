"""One Ray and few crews for all tests of this folder: a crew takes 10-30 s to start."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports ray: no token, no telemetry, no `uv run` around every worker.
for _name, _value in {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "OMP_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(_name, _value)
os.environ.pop("RAY_ADDRESS", None)

MARKS, DRIVER = "RAYSUBSET_TEST_MARKS", "RAYSUBSET_TEST_DRIVER"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that end a shared crew last."""
    items.sort(key=lambda item: any("last_of" in name for name in _fixtures(item)))


def _fixtures(item: pytest.Item) -> list[str]:
    return list(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def marks() -> Generator[Path]:
    """The folder in which a test writes what the model of `marked.py` is to do wrong."""
    folder = Path(tempfile.mkdtemp(prefix="marks-", dir="/tmp"))
    os.environ |= {MARKS: str(folder), DRIVER: str(os.getpid())}
    yield folder
    del os.environ[MARKS], os.environ[DRIVER]
    shutil.rmtree(folder)


@pytest.fixture
def mark(marks: Path) -> Generator[Callable[..., None]]:
    """Write a mark; none is left after the test."""

    def write(name: str, after: int = 0) -> None:
        (marks / name).write_text(str(after))

    yield write
    for left in marks.iterdir():
        left.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def ray_session(marks: Path) -> Generator[None]:
    """A Ray of its own, of 10 logical CPUs: ranks, scorers and the driver wait for each other."""
    import ray

    folder = tempfile.mkdtemp(prefix="rs-", dir="/tmp")  # short: a socket's path has 107 bytes
    for attempts_left in (2, 1, 0):
        try:
            ray.init(
                address="local",
                num_cpus=10,
                include_dashboard=False,
                object_store_memory=200 * 2**20,
                log_to_driver=False,
                logging_level="error",
                _temp_dir=folder,
            )
            break
        except Exception:  # Ray gives itself 30 s to start, and raises a plain Exception
            if not attempts_left:
                raise
            ray.shutdown()
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def problem_ref(ray_session: None) -> Any:
    """The marked problem without its rows, put once."""
    import ray

    from tests.cluster.crews import ready

    return ray.put(ready().problem.lean())


@pytest.fixture(scope="session")
def crew_of_two(problem_ref: Any, tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """A crew of two ranks, which outlives the loss of some."""
    yield from _crew(problem_ref, tmp_path_factory.mktemp("crew"), workers=2, max_failures=9)


@pytest.fixture(scope="session")
def crew_of_one(problem_ref: Any, tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    """A crew of one rank, which does not outlive its loss."""
    yield from _crew(problem_ref, tmp_path_factory.mktemp("crew"), workers=1, max_failures=0)


@pytest.fixture
def last_of_two(crew_of_two: Any) -> Any:
    """The crew of two, for a test that ends it."""
    return crew_of_two


@pytest.fixture
def last_of_one(crew_of_one: Any) -> Any:
    """The crew of one, for a test that ends it."""
    return crew_of_one


@pytest.fixture(scope="session")
def three_scorers(problem_ref: Any) -> Generator[Any]:
    """Three scoring actors, which are started again when they are lost."""
    from raysubset.cluster.scorers import Scorers
    from tests.cluster.crews import resources, room

    scorers = Scorers(problem_ref, room(workers=2, scorers=3), resources(max_failures=9))
    scorers.wait_until_ready()
    yield scorers
    scorers.close()


def _crew(problem_ref: Any, storage: Path, *, workers: int, max_failures: int) -> Generator[Any]:
    from raysubset.cluster.crew import Crew
    from tests.cluster.crews import resources, room

    asked = resources(max_failures=max_failures)
    crew = Crew(problem_ref, room(workers=workers), asked, storage)
    yield crew
    crew.close()
