"""A node goes, with training ranks and a scorer on it: another takes over, and nothing changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.many_nodes import facts
from tests.cluster.removed_node import OPTIONS
from tests.small_runs import play, prepared

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_f03_a_removed_node_with_ranks_and_a_scorer_changes_nothing(tmp_path: Path):
    # In another process, because this one may have a Ray already.
    told = subprocess.run(
        [sys.executable, "-m", "tests.cluster.removed_node", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=500,
        env={k: v for k, v in os.environ.items() if not k.startswith("RAYSUBSET_TEST")},
    )
    lines = [line for line in told.stdout.splitlines() if line.startswith("SEEN ")]
    assert lines, told.stdout[-2000:] + told.stderr[-4000:]
    seen = json.loads(lines[-1].removeprefix("SEEN "))
    assert seen["removed"]
    play(prepared(**OPTIONS), tmp_path / "twin")
    twin = facts(tmp_path / "twin")
    assert len(twin["ids"]) > 2 and len(twin["states"]) == 2 * len(twin["ids"])
    assert {what: seen[what] for what in twin} == json.loads(json.dumps(twin))
