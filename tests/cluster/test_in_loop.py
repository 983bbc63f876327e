"""rs.select by actors: the ids and gains of one process, to the bit."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.utils.data import TensorDataset

import raysubset as rs
from raysubset.errors import CrewLost, DataError, RoomError
from tests.in_loop.cases import TRAIN, VAL, Items, Jittered, Net, Noisy, made, same

PATIENCE = {"timeout_s": 960.0, "batch_size": 4}  # twelve ranges of the pool, four of validation


def here(*given: Any, **options: Any) -> rs.Selection:
    return rs.select(*given, **{**PATIENCE, "ray": "never", **options})


@pytest.mark.ray
def test_two_actors_choose_what_one_process_chooses(ray_session: None):
    """Datasets and models that draw at random: who reads what, and when, must not matter."""
    from tests.cluster.crews import living, until

    before = living("OutsideActor")
    given = (made(Noisy), Jittered(TRAIN, "tuple"), TensorDataset(*VAL))
    mine = rs.select(*given, ray="always", scorers=2, **PATIENCE)
    assert mine.facts["scorers"] == 2
    assert same(mine, here(*given))
    until(lambda: living("OutsideActor") <= before, "scorers are still there")


class Unsendable(Items):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.lock = threading.Lock()


class Open(Net):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Late(Items):
    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i) if i < 50 else 1 / 0


@pytest.mark.ray
def test_what_cannot_be_sent_is_named_and_can_be_scored_here(ray_session: None):
    for given, name in (
        ((made(), Unsendable(TRAIN, "tuple"), VAL), "train_set"),
        ((made(), TRAIN, Unsendable(VAL, "tuple")), "val_set"),
        ((made(Open), TRAIN, VAL), "model"),
    ):
        with pytest.raises(DataError, match=rf'^{name} cannot be pickled .*ray="never"'):
            rs.select(*given, scorers=1, **PATIENCE)
        assert len(here(*given)) == 9


@pytest.mark.ray
def test_an_error_of_a_row_comes_back_as_it_is_here(ray_session: None):
    given = (made(), Late(TRAIN, "tuple"), VAL)
    messages: list[str] = []
    for ray in ("always", "never"):
        with pytest.raises(DataError) as caught:
            rs.select(*given, ray=ray, scorers=1, **PATIENCE)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "ids 48-51 of train_set" in messages[0]


@pytest.mark.ray
def test_more_scorers_than_the_cluster_holds_are_refused(ray_session: None):
    with pytest.raises(RoomError, match=r"64 scorers need 64 CPUs.*scorers="):
        rs.select(made(), TRAIN, VAL, scorers=64, **PATIENCE)


@pytest.mark.ray
def test_a_full_cluster_leaves_the_work_to_this_process(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
):
    from raysubset.cluster import outside

    monkeypatch.setattr(outside, "available_resources_per_node", lambda: {"node": {"CPU": 0.0}})
    chosen = rs.select(made(), TRAIN, VAL, **PATIENCE)
    assert chosen.facts["scorers"] == 0
    assert same(chosen, here(made(), TRAIN, VAL))


@pytest.mark.ray
def test_a_strategy_without_factors_starts_no_actor(ray_session: None):
    chosen = rs.select(None, TRAIN, VAL, strategy=rs.AdaptiveRandom(), ray="always")
    assert chosen.facts["scorers"] == 0


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("strategy", [rs.Glister(), rs.Glister(candidates=3, gradient="bias")])
def test_neither_count_nor_order_of_arrival_nor_losses_change_a_bit(
    count: int, strategy: Any, monkeypatch: pytest.MonkeyPatch
):
    """What is not real: processes. Calls end in any order, now and then lost."""
    from tests.cluster.test_any_scorers import Calls

    given = (made(Noisy), Jittered(TRAIN, "tuple"), VAL)
    twin = here(*given, strategy=strategy)
    for seed in range(3):
        calls = Calls(seed, lost=0.3 if seed else 0.0)
        mine = by_fakes(monkeypatch, calls, count, given, strategy)
        assert same(mine, twin)
        assert mine.facts["scoring_retries"] == calls.losses
        assert bool(calls.losses) == bool(seed)


def by_fakes(
    patch: pytest.MonkeyPatch, calls: Any, count: int, given: Any, strategy: Any
) -> rs.Selection:
    from raysubset import in_loop
    from raysubset.cluster import one_pass, outside
    from raysubset.cluster import scorers as scorers_module
    from tests.cluster.crews import resources, room
    from tests.learn.ranks import CPU

    for module in (scorers_module, one_pass):
        patch.setattr(module, "ray", calls)
    patch.setattr(one_pass, "REST_S", 0.0)
    patch.setattr(outside, "device_of_actor", lambda: CPU)
    patch.setattr(outside, "carried", lambda ref: ref.value())

    def by_these(asked: Any, work: Any, choice: Any, **_: Any) -> Any:
        place, patience = room(workers=2, scorers=count), resources(max_failures=99)
        scorers = scorers_module.Scorers(
            calls.put(asked), place, patience, "select", outside.OutsideActor
        )
        scorers.wait_until_ready()
        return outside.score_and_choose_with(scorers, asked, work, choice, lambda *_: None)

    patch.setattr(in_loop, "score_and_choose_here", by_these)
    try:
        return here(*given, strategy=strategy)
    finally:
        patch.undo()


def test_messages_about_options_of_the_command_speak_of_arguments():
    from raysubset.cluster.one_pass import REMEDY
    from raysubset.cluster.outside import in_python

    told = in_python(CrewLost(f"scorers died 4 times. {REMEDY}"))
    assert "--" not in told and "batch_size=" in told and "scorers=" in told
    lost = in_python(CrewLost("scorer 0 could not build: ModuleNotFoundError: mine"))
    assert "runtime_env" in lost


def test_a_model_on_a_device_travels_without_it(monkeypatch: pytest.MonkeyPatch):
    """A second copy of the weights is made on the host alone; ties and what is frozen stay."""
    from raysubset.cluster import outside
    from raysubset.learn.outside.rows import both_rows
    from raysubset.learn.outside.scorer import Arithmetic, Outside

    model: Any = made()
    model.tied = nn.Linear(8, 3)
    model.tied.weight = model.fc.weight
    model.body[0].weight.requires_grad_(requires_grad=False)
    pool, validation = both_rows(TRAIN, VAL, None, None, collate=None, label_key=None, seed=0)
    whole = Outside(
        model=model,
        adapter=None,
        head=None,
        pool=pool,
        validation=validation,
        batch_size=4,
        seed=0,
        arithmetic=Arithmetic.here(None, 1),
    )
    monkeypatch.setattr(outside, "devices_of", lambda _: [Elsewhere])
    copy: Any = outside.portable(whole).model
    assert copy is not model and copy.tied.weight is copy.fc.weight
    assert [p.requires_grad for p in copy.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    for name, value in model.state_dict().items():
        assert np.array_equal(copy.state_dict()[name].numpy(), value.numpy())


class Elsewhere:
    type = "cuda"


@pytest.mark.parametrize("why", ["client", "places", "no gpu"])
def test_a_model_that_ray_cannot_serve_is_scored_here_or_refused(
    why: str, monkeypatch: pytest.MonkeyPatch
):
    from types import SimpleNamespace

    from raysubset.cluster import outside

    cpu, cuda = SimpleNamespace(type="cpu"), SimpleNamespace(type="cuda")
    devices = {"client": [cpu], "places": [cpu, cuda], "no gpu": [cuda]}[why]
    monkeypatch.setattr(outside, "devices_of", lambda _: devices)
    monkeypatch.setattr(outside.client, "is_connected", lambda: why == "client")
    monkeypatch.setattr(outside, "all_nodes", lambda _: [{"CPU": 8.0}])
    model: Any = SimpleNamespace(model=made())
    asked = outside.settings("auto", 60.0, made())
    assert outside.room_here(model, asked=asked, wanted="auto") is None
    with pytest.raises(RoomError, match='ray="never"'):
        outside.room_here(model, asked=asked, wanted="always")
