"""People's own models on a real Ray: the ids, gains and weights of one process."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.crew import Crew
from raysubset.cluster.ray_run import Hands
from raysubset.cluster.scorers import Scorers
from raysubset.preparation import Prepared
from tests.cluster.crews import assert_same_learning, play_on, resources, room
from tests.small_runs import Left, play, prepared

pytestmark = pytest.mark.ray
OWN = "tests.learn.awkward_models"


@cache
def ready() -> Prepared:
    """An adapted model with an output that no loss reads, its backbone frozen, on two ranks."""
    return prepared(
        model__name=f"{OWN}:WithOddDict",
        model__adapter=f"{OWN}:scores_of",
        model__frozen=True,
        resources__workers=2,
        resources__start_timeout_s=240,
        resources__keep_checkpoints=9,
        selection__batch_size=8,
    )


@pytest.fixture(scope="module")
def hands(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Callable[[int], Hands]]:
    """Give a crew of two with this many scorers: none, or both of two."""
    problem = ready().problem
    ref, blocks = ray.put(problem.lean()), Blocks(problem.parts, problem.scoring_batch)
    crew = Crew(ref, room(workers=2), resources(), tmp_path_factory.mktemp("crew"))
    scorers = Scorers(ref, room(workers=2, scorers=2), resources())
    scorers.wait_until_ready()

    def of(count: int) -> Hands:
        place = room(workers=2, scorers=count)
        some: Any = scorers if count else None
        return Hands(room=place, blocks=blocks, crew=crew, scorers=some)

    yield of
    scorers.close()
    crew.close()


@pytest.mark.parametrize("count", [0, 2])
def test_an_adapted_frozen_model_on_ray_is_the_run_of_one_process(
    count: int, hands: Callable[[int], Hands], tmp_path: Path
):
    """With ranks that score in place, and with scorers; what was kept is told alike."""
    twin = play(ready(), tmp_path / "twin")[1]
    mine = play_on(hands(count), ready(), tmp_path / "ray")[1]
    assert_same_learning(mine, twin)
    assert told(mine) == told(twin)
    assert [forwarded for forwarded, _ in told(mine)[1:]] == [0.0] * (len(told(mine)) - 1)
    assert len(told(mine)) >= 2 and told(mine)[1][1] > 0


def told(left: Left) -> list[tuple[float, float]]:
    return [
        (line["examples_forwarded"], line["examples_remembered"])
        for line in left.history
        if line.get("examples_scored")
    ]
