"""Tests of this folder need an NVIDIA GPU, and are skipped where there is none."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import torch

from raysubset.learn.numerics import settled
from raysubset.learn.settings import TrainingSettings


@pytest.fixture(autouse=True)
def process_as_it_was() -> Generator[None]:
    """Give the process back: a deterministic learner settles all of it."""
    with settled(TrainingSettings()):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked gpu on a machine without one."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
