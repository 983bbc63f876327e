"""Several nodes: where everything lands, what one of them does not see, and what is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.many_nodes import seen_by
from tests.small_runs import play, prepared

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
MOUNT = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs; nodes of a machine can only differ in what they see as root."""
    allowed = shutil.which("unshare") and subprocess.run(MOUNT, capture_output=True).returncode == 0
    if not allowed:
        pytest.skip("this user may not mount: a node that does not see a folder cannot be made")
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def seen(root: Path) -> dict[str, Any]:
    """What a cluster of its own saw; in another process, because this one has a Ray already."""
    return seen_by("tests.cluster.many_nodes", root)


def gpus_of(places: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return how many of these processes stand on each GPU."""
    return Counter((place["node"], gpu) for place in places for gpu in place["gpus"])


def newest_ranks(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ranks; a rank that was killed has left its note too."""
    return [place for place in places if place["rank"] is not None]


def test_the_same_is_learned_whether_ranks_see_the_run_folder_or_not(seen: dict[str, Any]):
    shared = seen["runs"]["seen"]
    assert len(shared["ids"]) > 2 and all(shared["states"])
    assert seen["runs"]["hidden-from-a"] == shared  # a rank died in these two, and was restored
    assert seen["runs"]["hidden-from-b"] == shared
    assert shared["hidden"] == []


def test_more_nodes_and_scorers_of_their_own_change_no_id(seen: dict[str, Any], tmp_path: Path):
    twin = play(prepared(**TWIN), tmp_path / "twin")[1]
    for run in seen["runs"].values():
        assert run["ids"] == twin.ids
        assert run["gains"] == twin.gains


def test_ranks_that_hold_every_gpu_score_in_place(seen: dict[str, Any]):
    assert seen["crew"] == "crew"
    assert all(place["rank"] is not None for place in seen["two"])
    assert {place["node"] for place in seen["two"]} == {
        n for n, g in seen["nodes"].items() if g == 1
    }


def test_ranks_and_scorers_stand_on_a_whole_gpu_each(seen: dict[str, Any]):
    assert seen["actors"] == ["actors", 2]
    places = seen["four"]
    assert sorted(p["rank"] for p in newest_ranks(places)) == [0, 1]
    assert len(places) == 4
    held = gpus_of(places)
    assert len(held) == 4 and set(held.values()) == {1}
    assert Counter(p["node"] for p in places) == {n: g for n, g in seen["nodes"].items() if g}


def test_f35_one_gpu_takes_one_rank_and_two_are_refused(seen: dict[str, Any]):
    assert "2 training ranks need 2 GPUs, and the cluster has 1" in seen["one_gpu"]
    assert seen["one_gpu_auto"] == "crew"


def test_f32_other_software_than_the_drivers_is_named_on_every_node(seen: dict[str, Any]):
    assert seen["same"] == "nothing was refused"
    assert seen["other"].count(", 0.9.0 at the driver") == 2  # nodes A and B
    assert seen["other"].startswith("driver and nodes have different software: torch ")


def test_f35_what_is_missing_is_told_in_time_by_node(seen: dict[str, Any]):
    assert "needs 2 GPUs for 2 ranks" in seen["missing"]
    assert "within 2 s; free: " in seen["missing"]
    assert "1 CPUs, 1 GPUs" in seen["missing"]


TWIN: dict[str, Any] = {
    "model__name": "tests.cluster.marked:marked",
    "selection__batch_size": 16,
    "resources__keep_checkpoints": 9,
}
