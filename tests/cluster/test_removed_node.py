"""A node goes, with training ranks and a scorer on it: another takes over, and nothing changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.many_nodes import facts, seen_by
from tests.cluster.removed_node import OPTIONS
from tests.small_runs import play, prepared

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_f03_a_removed_node_with_ranks_and_a_scorer_changes_nothing(tmp_path: Path):
    seen = seen_by("tests.cluster.removed_node", tmp_path)
    assert seen["removed"]
    play(prepared(**OPTIONS), tmp_path / "twin")
    twin = facts(tmp_path / "twin")
    assert len(twin["ids"]) > 2 and len(twin["states"]) == 2 * len(twin["ids"])
    assert {what: seen[what] for what in twin} == json.loads(json.dumps(twin))
