"""What the doctor says of room: at once, after others, or on nodes that are still to come."""

from __future__ import annotations

from typing import Any

import pytest

from raysubset.cluster.autoscaler import Autoscaler
from raysubset.cluster.examining_room import Around, check_room, judge
from raysubset.cluster.room import Nodes, plan_room
from raysubset.experiment import Experiment, ResourceSettings, nest

GPU: dict[str, float] = {"CPU": 8, "GPU": 1}
HEAD: dict[str, float] = {"CPU": 0}
SCALER = Autoscaler(could_start=[GPU] * 2, launching={"gpu_spot": 2}, pending={}, failed={})


@pytest.mark.parametrize(
    ("standing", "free", "scaler", "status", "told"),
    [
        ([HEAD, GPU, GPU], [HEAD, GPU, GPU], None, "ok", "take 2 GPUs of 2"),
        ([HEAD, GPU, GPU], [HEAD, GPU, {"CPU": 8}], None, "warning", "of which 1 are free now"),
        ([HEAD], [HEAD], SCALER, "warning", "2 nodes of gpu_spot: 2 launching"),
    ],
)
def test_a_plan_that_fits_is_judged_by_what_stands_and_what_is_free(
    standing: Nodes, free: Nodes, scaler: Any, status: str, told: str
):
    nodes = [*standing, *(scaler.could_start if scaler else [])]
    room = plan_room(ResourceSettings(workers=2, scorers=1), nodes)
    found = judge(room, Around(nodes=nodes, standing=standing, free=free, scaler=scaler))
    assert found.status == status
    assert told in found.found


def test_on_this_machine_more_ranks_than_cores_fail_with_the_sentence_of_the_run():
    asked = Experiment.of(nest({"resources.workers": 4000}))
    found, plan, _ = check_room(asked, 0)
    assert found.status == "failed" and "resources.workers=4000" in found.found
    assert plan.scorers == 0


def test_ranks_that_are_auto_are_settled_by_what_is_there():
    found, plan, settled = check_room(Experiment.of({}), 0)
    assert found.status == "ok"
    assert settled.resources.workers == plan.workers == 2
    one = check_room(Experiment.of({}), 1)[1]
    assert (one.workers, one.device) == (1, "cuda")


def test_selecting_beside_training_fails_where_no_gpu_is_left_for_a_scorer():
    asked = Experiment.of(nest({"selection.overlap": True}))
    assert check_room(asked, 2)[0].status == "failed"  # two ranks take both
    assert "selection.overlap=true" in check_room(asked, 1)[0].found
    assert check_room(asked, 0)[0].status == "ok"
