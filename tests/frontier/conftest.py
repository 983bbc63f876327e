"""One finished frontier for all tests of this folder: a dozen trials take seconds."""

from __future__ import annotations

import pytest

from raysubset.frontier.sweep import Sweep, run_sweep
from tests.frontier.sweeps import begin, here, sweep


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A frontier run to its end, not reported yet; a test that writes takes a copy."""
    ready = sweep(tmp_path_factory.mktemp("frontier") / "whole")
    begin(ready, resume=False)
    run_sweep(ready, here(ready))
    return ready
