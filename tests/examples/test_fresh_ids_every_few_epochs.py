"""The example runs as it stands, and does what it says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fresh_ids_every_few_epochs.py"


@pytest.mark.parametrize("strategy", ["glister", "adaptive-random"])
def test_each_choice_is_fresh(strategy: str):
    main: Any = runpy.run_path(str(EXAMPLE))["main"]
    score, chosen = main(["--strategy", strategy, "--epochs", "9", "--every", "3"])
    assert [s.round for s in chosen] == [0, 1, 2]
    assert len({s.ids.tobytes() for s in chosen}) == 3
    assert all(len(s) == s.num_pool // 10 == len(set(s.ids.tolist())) for s in chosen)
    assert score > 0.3, "ten classes: it has learned nothing"
