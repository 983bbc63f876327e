"""Dedicated scorers choose what one process chooses, however many they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysubset.errors import RoomError
from raysubset.experiment import ResourceSettings
from tests.cluster.crews import blocks, ready, some_of
from tests.small_runs import play

THERE = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 2.0}]


@pytest.fixture(scope="module")
def run(marks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the problem that the scorers hold."""
    folder = tmp_path_factory.mktemp("select") / "run"
    play(ready(2), folder)
    return folder


@pytest.mark.ray
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("round_", [0, 1])
def test_any_number_of_scorers_chooses_what_one_process_and_the_run_chose(
    three_scorers: Any, run: Path, count: int, round_: int
):
    from raysubset.cluster.selecting import select_with
    from raysubset.selecting.here import select_here
    from tests.selecting.points import at, same, same_choice

    point = at(run / "rounds" / f"{round_:04d}")
    scorers = some_of(three_scorers, count)
    chosen = select_with(scorers, blocks(), point, lambda *_: None)
    assert same(chosen, select_here(point))
    assert same_choice(chosen, run / "rounds" / f"{round_ + 1:04d}")


@pytest.mark.ray
@pytest.mark.slow
def test_the_command_starts_scorers_and_ends_them(ray_session: None, tmp_path: Path):
    import ray

    from raysubset.cli import call
    from tests.cluster.crews import living, until

    draw = np.random.default_rng(2)
    np.savez(
        tmp_path / "e.npz",
        embeddings=draw.normal(size=(200, 8)),
        labels=np.arange(200) % 4,
        weight=draw.normal(size=(4, 8)),
        bias=np.zeros(4),
    )
    before = living("GradientActor")
    words = ["select", "--embeddings", str(tmp_path / "e.npz"), "--selection.batch_size", "16"]
    there = ["--resources.scorers", "2", "--resources.start_timeout_s", "240"]
    code, by_actors = call([*words, *there, "--run-dir", str(tmp_path / "actors")])
    assert code == 0 and ray.is_initialized()
    until(lambda: living("GradientActor") <= before, "scorers are still there")
    code, here = call([*words, "--local", "--run-dir", str(tmp_path / "here")])
    assert code == 0
    assert Path(by_actors["selection"]).read_bytes() == Path(here["selection"]).read_bytes()


def test_scorers_take_what_is_there_unless_a_number_is_asked_for():
    from raysubset.cluster.selecting import room_for_scorers

    def room(nodes: Any, **asked: Any) -> Any:
        return room_for_scorers(ResourceSettings(**asked), nodes)

    assert room([{"CPU": 1.0}]).scorers == 1
    on_gpu = room([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}])
    assert (on_gpu.device, on_gpu.scorers, on_gpu.gpus) == ("cuda", 1, 1)
    assert room(THERE).scorers == room(THERE, scorers=4).gpus == 4
    assert room(THERE, scorers=6, device="cpu").cpus == 6
    for asked, nodes in (
        ({"scorers": 5}, THERE),
        ({"scorers": 2}, [{"CPU": 1.0}]),
        ({"device": "cuda"}, [{"CPU": 8.0}]),
        ({"device": "cuda"}, [{"CPU": 8.0}, {"GPU": 1.0}]),
        ({"device": "cuda", "scorers": 1}, [{"CPU": 4.0, "GPU": 0.5}, {"CPU": 4.0, "GPU": 0.5}]),
        ({}, []),
    ):
        with pytest.raises(RoomError, match=r"lower --resources.scorers or add nodes"):
            room(nodes, **asked)
