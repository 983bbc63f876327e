"""What is chosen: the ids of a slow obvious twin, whatever form datasets and models have."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset

import raysubset as rs
from tests import oracles
from tests.in_loop.cases import (
    TRAIN,
    VAL,
    AsDict,
    AsObject,
    AsPair,
    C,
    Items,
    Jittered,
    N,
    Net,
    Noisy,
    TwoInputs,
    made,
    same,
)

PLAN = rs.Glister(step="sum", step_size=0.05, balance="none")
select = functools.partial(rs.select, fraction=0.1, batch_size=16)


@functools.cache
def expected() -> rs.Selection:
    return select(made(), TRAIN, VAL)


def seen_plainly(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """The head's inputs, by a hook in a plain forward of everything at once."""
    kept: list[torch.Tensor] = []
    hook = model.fc.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    with torch.no_grad():
        model.eval()(x)
    hook.remove()
    return kept[0].numpy()


@pytest.mark.parametrize("gradient", ["last_layer", "bias"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_ids_are_those_of_greedy_on_written_out_gradients(seed: int, gradient: Any):
    model = made(seed=seed)
    twin = oracles.Problem(
        embedding_NH=seen_plainly(model, TRAIN[0]),
        label_N=TRAIN[1].numpy(),
        ids_N=np.arange(N),
        embedding_VH=seen_plainly(model, VAL[0]),
        label_V=VAL[1].numpy(),
        weight_CH=model.fc.weight.detach().numpy(),
        bias_C=model.fc.bias.detach().numpy(),
    )
    ids, gains = oracles.greedy(twin, oracles.Plan(sizes=[1] * 9, step=0.05, gradient=gradient))
    plan = rs.Glister(step="sum", step_size=0.05, balance="none", gradient=gradient)
    chosen = rs.select(model, TRAIN, VAL, strategy=plan, batch_size=16)
    assert chosen.ids.tolist() == ids
    # float32 factors against float64 ones
    np.testing.assert_allclose(chosen.gains, gains, rtol=1e-4, atol=1e-6)
    assert chosen.labels.tolist() == TRAIN[1][chosen.ids].tolist()
    assert (len(chosen), chosen.num_pool, chosen.num_classes, chosen.round) == (9, N, C, 0)


def hugging_face(xy: Any) -> Any:
    from datasets import Dataset

    table = {"pixel_values": xy[0].numpy(), "label": xy[1].numpy(), "row": list(range(len(xy[0])))}
    return Dataset.from_dict(table).with_format("torch")


FORMS: dict[str, Callable[[], Any]] = {
    "tuple": lambda: select(made(), Items(TRAIN, "tuple"), Items(VAL, "tuple")),
    "list": lambda: select(made(), Items(TRAIN, "list"), Items(VAL, "list")),
    "python list": lambda: select(made(), [*Items(TRAIN, "tuple")], VAL),
    "dict": lambda: select(made(AsDict), Items(TRAIN, "dict"), Items(VAL, "dict")),
    "more": lambda: select(made(AsDict), Items(TRAIN, "more"), Items(VAL, "dict")),
    "dataclass": lambda: select(made(AsDict), Items(TRAIN, "dataclass"), Items(VAL, "dataclass")),
    "one other name": lambda: select(made(), Items(TRAIN, "dict"), Items(VAL, "dict")),
    "two inputs": lambda: select(made(TwoInputs), Items(TRAIN, "two"), Items(VAL, "two")),
    "float64": lambda: select(made(), Items(TRAIN, "numpy"), Items(VAL, "numpy")),
    "tensors": lambda: select(made(), TensorDataset(*TRAIN), TensorDataset(*VAL)),
    "numpy": lambda: select(made(), tuple(t.numpy() for t in TRAIN), VAL),
    "big-endian": lambda: select(made(), (TRAIN[0].numpy().astype(">f4"), TRAIN[1]), VAL),
    "subset": lambda: select(made(), Subset(Items(TRAIN, "tuple"), range(N)), VAL),
    "labels apart": lambda: select(
        made(), Items(TRAIN, "bare"), VAL[0], labels=TRAIN[1], val_labels=VAL[1].tolist()
    ),
    "labels count": lambda: select(
        made(), Items((TRAIN[0], 0 * TRAIN[1]), "tuple"), VAL, labels=TRAIN[1].numpy()
    ),
    "hugging face": lambda: select(made(AsDict), hugging_face(TRAIN), hugging_face(VAL)),
    "loader processes": lambda: select(made(), Items(TRAIN, "tuple"), VAL, num_workers=2),
    "collate_fn": lambda: select(
        made(),
        Items(TRAIN, "tuple"),
        Items(VAL, "tuple"),
        collate_fn=lambda items: {
            "x": torch.stack([x for x, _ in items]),
            "target": torch.tensor([y for _, y in items]),
        },
    ),
    "label_key": lambda: select(
        made(),
        [{"x": x, "y": 0, "kind": int(y)} for x, y in zip(*TRAIN, strict=True)],
        [{"x": x, "y": 0, "kind": int(y)} for x, y in zip(*VAL, strict=True)],
        label_key="kind",
    ),
    "evaluation mode": lambda: select(made().eval(), TRAIN, VAL),
    "object": lambda: select(made(AsObject), TRAIN, VAL),
    "adapter": lambda: select(made(AsPair), TRAIN, VAL, adapter=lambda pair: pair[0]),
    "named head": lambda: select(made(), TRAIN, VAL, head="fc"),
    "DataParallel": lambda: select(nn.DataParallel(made()), TRAIN, VAL),
    "compiled": lambda: select(torch.compile(made(), backend="eager"), TRAIN, VAL),
    "budget": lambda: select(made(), TRAIN, VAL, budget=9),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_model_or_dataset_changes_a_bit(form: str):
    assert same(FORMS[form](), expected())


def asks_the_others(*_: Any) -> None:
    raise AssertionError("a forward of the wrapper waits for the other ranks")


def test_a_model_of_a_training_rank_is_scored_alone(tmp_path: Path):
    """DistributedDataParallel is unwrapped: nobody waits for the other ranks."""
    from torch import distributed

    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(made())
        wrapped.register_forward_pre_hook(asks_the_others)
        compiled = torch.compile(wrapped, backend="eager")
        assert same(select(compiled, TRAIN, VAL, head="fc"), expected())
    finally:
        distributed.destroy_process_group()


def test_batches_are_let_go_as_they_are_scored():
    """What is kept of an example is its factors: few batches lie in memory at any time."""
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def collate(items: list[Any]) -> Any:
        nonlocal most
        x = torch.stack([x for x, _ in items])
        alive.append(weakref.ref(x))
        most = max(most, sum(ref() is not None for ref in alive))
        return x, torch.tensor([y for _, y in items])

    rows = Items(TRAIN, "tuple"), Items(VAL, "tuple")
    rs.select(made(), *rows, batch_size=4, collate_fn=collate)
    assert len(alive) > 30 and most <= 5  # one in work, and what the collector has yet to look at


def test_a_call_within_a_persons_own_contexts_is_the_same():
    model, wanted = made(), expected()  # not made within: such a model is another
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert same(select(model, TRAIN, VAL), wanted)


def test_batch_size_moves_no_more_than_rounding_does():
    """Products of other shapes round otherwise: gains agree to float32, and here the ids too."""
    for size in (1, 7, 90, 1000):
        other = select(made(), TRAIN, VAL, batch_size=size)
        assert other.ids.tolist() == expected().ids.tolist()
        np.testing.assert_allclose(other.gains, expected().gains, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [Net, Noisy])
def test_what_draws_at_random_draws_by_seed_and_round(kind: type[Net]):
    train = Jittered(TRAIN, "tuple")

    def chosen(**options: Any) -> rs.Selection:
        return select(made(kind), train, VAL, **options)

    first = chosen()
    torch.rand(3), np.random.rand(3)  # noqa: NPY002  # other states of the global generators
    assert same(chosen(), first)
    assert same(chosen(num_workers=2), first)
    assert not np.array_equal(chosen(seed=1).gains, first.gains)
    assert not np.array_equal(chosen(round=1).gains, first.gains)


def test_glisters_candidates_are_the_only_rows_that_are_scored():
    plan = rs.Glister(candidates=3, balance="none")
    chosen = select(made(), TRAIN, VAL, strategy=plan)
    assert chosen.facts["examples_scored"] == 27 + len(VAL[0])
    assert chosen.num_pool == N
    # the strategy's own draw out of the factors of all rows
    everything = factors(made())
    twin = plan.select(*everything, budget=9, key=rs_key(), epochs=range(1))
    assert chosen.ids.tolist() == twin.ids.tolist()


def rs_key() -> int:
    from raysubset.core.keys import derive_key

    return derive_key(0, "select")


def factors(model: nn.Module) -> tuple[rs.LocalGroundSet, rs.Lookahead]:
    head = model.fc.weight.detach(), model.fc.bias.detach()
    pool = rs.GradientFactors.from_embeddings(seen_plainly(model, TRAIN[0]), TRAIN[1], *head)
    look = rs.Lookahead.from_embeddings(seen_plainly(model, VAL[0]), VAL[1], *head)
    return rs.LocalGroundSet(pool), look


def test_one_logit_is_two_classes():
    train, val = ((x, (y > 0).long()) for x, y in (TRAIN, VAL))
    one, two = made(classes=1), made(classes=2)
    with torch.no_grad():
        two.load_state_dict(
            {
                **one.state_dict(),
                "fc.weight": torch.cat([torch.zeros(1, 8), one.fc.weight]),
                "fc.bias": torch.cat([torch.zeros(1), one.fc.bias]),
            }
        )
    mine, twin = select(one, train, val), select(two, train, val)
    assert mine.ids.tolist() == twin.ids.tolist()
    np.testing.assert_allclose(mine.gains, twin.gains, rtol=1e-5)
    flat = nn.Sequential(one, nn.Flatten(0))
    assert same(select(flat, train, val), mine)


def test_a_model_in_16_bits_is_scored_in_its_own_type():
    model = made().to(torch.bfloat16)
    chosen = select(model, TRAIN, VAL)
    assert np.isfinite(chosen.gains).all() and chosen.gains.dtype == np.float32
    wide = select(made(), TRAIN, VAL, autocast=torch.bfloat16)
    assert not np.array_equal(wide.gains, expected().gains)
    np.testing.assert_allclose(wide.gains[:3], expected().gains[:3], rtol=0.1)


def test_a_raysubset_dataset_is_read_as_a_run_reads_it():
    from raysubset.learn.settings import DataSettings
    from raysubset.learn.sources import load_sources

    train = load_sources(**DataSettings().of_sources(), seed=0).train
    part, val = train.at(np.arange(0, 400, 2)), train.at(np.arange(400, 500))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(-1, 1, 640).sin().reshape(10, 64))
        model[1].bias.zero_()
    chosen = rs.select(model, part, val, fraction=0.1)
    assert set(chosen.ids.tolist()) <= set(part.id_N.tolist())
    assert part.take(chosen.ids)[1].tolist() == chosen.labels.tolist()
    from raysubset.learn.normalize import fit_normalize

    normal = fit_normalize(part.content)
    plain = (normal(torch.from_numpy(part.content)), part.label_N)
    twin = rs.select(model, plain, (normal(torch.from_numpy(val.content)), val.label_N))
    assert chosen.ids.tolist() == part.id_N[twin.ids].tolist()
    assert chosen.gains.tobytes() == twin.gains.tobytes()


class Untouchable(Items):
    """Rows that nobody may read."""

    read: int = 0

    def __getitem__(self, i: int) -> Any:
        self.read += 1
        return super().__getitem__(i)


def test_a_strategy_without_factors_runs_no_model_and_reads_the_rows_it_chose():
    train, val = Untouchable(TRAIN, "tuple"), Untouchable(VAL, "tuple")
    chosen = rs.select(None, train, val, strategy=rs.AdaptiveRandom(), fraction=0.1)
    assert (train.read, val.read) == (9, 0)
    assert chosen.labels.tolist() == TRAIN[1][chosen.ids].tolist()
    train.read = 0
    again = rs.select(None, train, val, strategy=rs.AdaptiveRandom(), labels=TRAIN[1])
    assert (train.read, val.read) == (0, 0) and same(again, chosen)


def test_rounds_of_adaptive_random_visit_every_row_once_before_any_twice():
    rounds = [
        rs.select(None, TRAIN, VAL, strategy=rs.AdaptiveRandom(), round=r).ids for r in range(10)
    ]
    assert np.sort(np.concatenate(rounds)).tolist() == list(range(N))
    fixed = [rs.select(None, TRAIN, VAL, strategy=rs.Random(), round=r).ids for r in range(2)]
    assert fixed[0].tolist() == fixed[1].tolist()


@pytest.mark.parametrize("strategy", [rs.AdaptiveRandom, rs.Random, rs.Glister])
def test_quotas_come_from_the_labels(strategy: Any):
    chosen = rs.select(made(), TRAIN, VAL, strategy=strategy(balance="equal"), fraction=0.2)
    assert np.bincount(chosen.labels).tolist() == [6, 6, 6]
    assert chosen.labels.tolist() == TRAIN[1][chosen.ids].tolist()


def test_the_whole_pool_asks_no_model():
    for strategy in (rs.Glister(), rs.Random(balance="validation")):
        chosen = rs.select(None, TRAIN, VAL, 1.0, strategy)
        assert sorted(chosen.ids.tolist()) == list(range(N))
        assert chosen.labels.tolist() == TRAIN[1][chosen.ids].tolist()
