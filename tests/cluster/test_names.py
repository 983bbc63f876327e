"""What the dashboard shows reads like prose, and gives no secret away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray

from raysubset.cluster.blocks import Blocks
from raysubset.cluster.names import run_id, score_task, train_name, weights_of
from raysubset.learn.scoring import PartName, RowRange, ranges_of
from raysubset.learn.weights import pack
from tests.cluster.crews import ready


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/mnt/runs/demo", "demo"),
        ("/mnt/runs/demo/", "demo"),
        ("/mnt/what?not#here", "what?not#here"),  # a folder may be called so; a URI's query may not
        ("s3://bucket/runs/demo", "demo"),
        ("s3://key:secret@bucket/runs/demo?token=secret#secret", "demo"),
        ("s3://key:secret@bucket", "bucket"),
        ("gs://bucket/?endpoint=http://user:secret@host/path", "bucket"),
        ("", "run"),
    ],
)
def test_a_run_is_called_by_its_folder_and_never_by_a_secret(folder: str, name: str):
    assert run_id(folder) == name
    assert "secret" not in run_id(folder)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("pool", "score:round-7:rows-4096-8191"),
        ("validation", "score:round-7:validation-rows-4096-8191"),
    ],
)
def test_a_scoring_task_is_named_by_its_round_and_rows(part: PartName, name: str):
    rows = RowRange(part=part, index=1, ids=np.arange(4096, 8192))
    assert score_task("score:round-7", rows) == name


def test_weights_say_the_round_that_scores_with_them_where_a_run_made_them():
    assert weights_of("/mnt/runs/demo:6") == {"run": "demo", "round": 7}
    assert weights_of("select:b2ef56859c5fe9a7") == {"run": "select"}


def test_ray_train_can_make_a_folder_of_any_runs_name():
    assert "/" not in train_name("digits of the 1st / 2nd kind")
    assert train_name("digits-glister-0.1-s0-1") == "digits-glister-0.1-s0-1"


class Spy:
    """An actor handle that notes what its tasks are called."""

    def __init__(self, actor: Any, names: list[str]) -> None:
        self.actor, self.names = actor, names

    def __getattr__(self, method: str) -> Any:
        return _Named(getattr(self.actor, method), self.names)


class _Named:
    def __init__(self, method: Any, names: list[str]) -> None:
        self.method, self.names = method, names

    def options(self, **options: Any) -> Any:
        self.names.append(options["name"])
        return self.method.options(**options)


@pytest.mark.ray
def test_every_range_of_a_round_is_a_task_of_its_name(
    three_scorers: Any, monkeypatch: pytest.MonkeyPatch
):
    names: list[str] = []
    monkeypatch.setattr(three_scorers, "actors", [Spy(a, names) for a in three_scorers.actors])
    problem = ready(1).problem
    ranges = [
        *ranges_of("validation", problem.parts.validation.id_N, problem.scoring_batch),
        *ranges_of("pool", problem.parts.pool.id_N, problem.scoring_batch),
    ]
    flat = pack(problem.build()[0].state_dict())
    located = Blocks(problem.parts, problem.scoring_batch).located(ranges)
    three_scorers.score(
        "run:6", flat, located, embeddings=True, progress=lambda *_: None, stage="score:round-7"
    )
    assert sorted(names) == sorted(score_task("score:round-7", rows) for rows in ranges)
    assert len(set(names)) == len(ranges)


@pytest.mark.ray
def test_ray_knows_scorers_and_the_mailbox_by_their_prose(crew_of_two: Any, three_scorers: Any):
    ray.get([actor.warm.remote(three_scorers.problem) for actor in three_scorers.actors])
    known = _shown_names()
    assert {f"raysubset-scorer-{i} run" for i in range(3)} <= known
    assert "raysubset-mailbox run" in known


def _shown_names() -> set[str]:
    """Return what Ray's control store calls living actors, which is what its dashboard shows."""
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    table = state._connect_and_get_accessor().get_actor_table(None, None)
    generated: Any = gcs_pb2  # its names are made at run time
    found = [generated.ActorTableData.FromString(each) for each in table]
    return {each.repr_name for each in found}
