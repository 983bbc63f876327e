from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.verifying.runs import finished


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report; whoever changes it puts it back."""
    return finished(tmp_path_factory.mktemp("whole") / "run")
