"""What cannot be chosen from is refused before any work, with the value, the cause, the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import raysubset as rs
from raysubset.errors import (
    BudgetError,
    ConfigError,
    DataError,
    ModelError,
    RaySubsetError,
    RoomError,
    TrainingDiverged,
)
from tests.in_loop.cases import TRAIN, VAL, AsPair, Items, Net, made

X, Y = TRAIN


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(*TRAIN, strict=True)


class NoHead(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).softmax(1)


class Sequences(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, None].expand(-1, 4, -1)


class SeveralHeads(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * 0 + self.fc(x[:, :1].expand(-1, 8)) * 0


def with_label(value: Any, row: int = 3) -> Any:
    y = Y.clone() if isinstance(value, int) else Y.to(value)
    if isinstance(value, int):
        y[row] = value
    return X, y


def with_nan(*rows: int) -> Any:
    x = X.clone()
    x[list(rows), 2] = torch.nan
    return x, Y


def chosen(train: Any = TRAIN, val: Any = VAL, model: Any = None, **options: Any) -> Any:
    return rs.select(model or made(), train, val, **{"batch_size": 16, **options})


BAD: dict[str, tuple[type[RaySubsetError], list[str], Callable[[], Any]]] = {
    "fraction 0": (BudgetError, ["fraction=0", "(0, 1]"], lambda: chosen(fraction=0.0)),
    "per cent": (BudgetError, ["did you mean 0.1"], lambda: chosen(fraction=10)),
    "budget": (BudgetError, ["budget=91", "pool of 90"], lambda: chosen(budget=91)),
    "empty train": (DataError, ["train_set is empty"], lambda: chosen((X[:0], Y[:0]))),
    "empty val": (DataError, ["val_set is empty"], lambda: chosen(val=[])),
    "stream": (DataError, ["train_set is a Stream", "map-style"], lambda: chosen(Stream())),
    "loader": (
        DataError,
        ["val_set is a DataLoader", "val_set=loader.dataset"],
        lambda: chosen(val=DataLoader(Items(VAL, "tuple"))),
    ),
    "None": (DataError, ["val_set is a NoneType"], lambda: chosen(val=None)),
    "lengths": (DataError, ["(90, 6)", "(89,)", "same number"], lambda: chosen((X, Y[1:]))),
    "no label": (
        DataError,
        ["train_set", "without a label", "labels="],
        lambda: chosen(Items(TRAIN, "bare")),
    ),
    "two labels": (
        DataError,
        ["label, y", "label_key="],
        lambda: chosen([{"x": x, "y": 0, "label": 0} for x in X]),
    ),
    "label_key": (
        DataError,
        ["label_key='kind'", "pixel_values, labels"],
        lambda: chosen(Items(TRAIN, "dict"), label_key="kind"),
    ),
    "above": (DataError, ["label 3 at id 3", "0..2"], lambda: chosen(with_label(3))),
    "below": (DataError, ["label -1 at id 80"], lambda: chosen(with_label(-1, 80))),
    "in val": (
        DataError,
        ["val_set has label 7"],
        lambda: chosen(val=(VAL[0], torch.full_like(VAL[1], 7))),
    ),
    "floats": (DataError, ["float32", "whole numbers"], lambda: chosen(with_label(torch.float32))),
    "truths": (DataError, ["torch.bool"], lambda: chosen(with_label(torch.bool))),
    "multi-label": (DataError, ["shape (16, 3)"], lambda: chosen((X, Y[:, None].expand(-1, 3)))),
    "words": (DataError, ["of str"], lambda: chosen([(x, "cat") for x in X])),
    "labels": (DataError, ["labels has shape (3,)"], lambda: chosen(labels=[0, 1, 2])),
    "labels of words": (DataError, ["labels"], lambda: chosen(labels=np.array(["a"] * 90))),
    "ragged": (
        DataError,
        ["ids 0-15 of train_set", "collate_fn"],
        lambda: chosen([(torch.zeros(i % 3 + 1), 0) for i in range(90)]),
    ),
    "unreadable": (
        DataError,
        ["ids 80-89 of train_set", "ZeroDivisionError"],
        lambda: chosen(Breaks(TRAIN, "tuple")),
    ),
    "unreadable in a loader": (
        DataError,
        ["ids 80-89 of train_set", "ZeroDivisionError"],
        lambda: chosen(Breaks(TRAIN, "tuple"), num_workers=1),
    ),
    "objects": (DataError, ["type object"], lambda: chosen((np.array([None] * 90), Y))),
    "shape": (ModelError, ["(16, 5)", "items"], lambda: chosen((X[:, :5], Y))),
    "shape of val": (
        ModelError,
        ["(16, 5) of val_set"],
        lambda: chosen(val=(VAL[0][:, :5], VAL[1])),
    ),
    "names": (
        ModelError,
        ["forward takes x", "a, b"],
        lambda: chosen([{"a": x, "b": x, "y": 0} for x in X]),
    ),
    "no module": (ModelError, ["a function"], lambda: chosen(model=lambda x: x)),
    "no head": (ModelError, ["no nn.Linear", 'head="NAME"'], lambda: chosen(model=made(NoHead))),
    "a head that is none": (ModelError, ["head='body.3'"], lambda: chosen(head="body.3")),
    "unknown head": (ModelError, ["head='fd'", "fc"], lambda: chosen(head="fd")),
    "twice": (ModelError, ["fc"], lambda: chosen(model=made(SeveralHeads), head="fc")),
    "sequences": (ModelError, ["(16, 4, 3)"], lambda: chosen(model=made(Sequences))),
    "which output": (ModelError, ["several", "adapter="], lambda: chosen(model=made(AsPair))),
    "adapter": (
        ModelError,
        ["adapter failed with KeyError", "0: (16, 3)"],
        lambda: chosen(model=made(AsPair), adapter=lambda out: {}["logits"]),
    ),
    "adapter's answer": (
        ModelError,
        ["adapter made a tuple"],
        lambda: chosen(model=made(AsPair), adapter=lambda out: out),
    ),
    "meta": (ModelError, ["meta device"], lambda: chosen(model=nn.Linear(6, 3, device="meta"))),
    "script": (ModelError, ["TorchScript"], lambda: chosen(model=torch.jit.ScriptModule())),
    "nan at first": (TrainingDiverged, ["ids [1, 5]"], lambda: chosen(with_nan(1, 5))),
    "nan later": (
        TrainingDiverged,
        ["2 rows of train_set", "[81, 85]"],
        lambda: chosen(with_nan(81, 85)),
    ),
    "strategy": (ConfigError, ["strategy='glister'"], lambda: chosen(strategy="glister")),
    "seed": (ConfigError, ["seed=-1"], lambda: chosen(seed=-1)),
    "round": (ConfigError, ["round=0.5"], lambda: chosen(round=0.5)),
    "batch_size": (ConfigError, ["batch_size=0"], lambda: chosen(batch_size=0)),
    "autocast": (ConfigError, ["autocast='bf16'"], lambda: chosen(autocast="bf16")),
    "ray": (ConfigError, ["ray=True", "auto, never, always"], lambda: chosen(ray=True)),
    "scorers": (ConfigError, ["scorers=0"], lambda: chosen(scorers=0)),
    "timeout_s": (ConfigError, ["timeout_s=0"], lambda: chosen(timeout_s=0)),
}


class Breaks(Items):
    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i) if i < 83 else 1 / 0


@pytest.mark.parametrize("what", BAD)
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_it_is_named_with_the_remedy(what: str):
    kind, words, call = BAD[what]
    with pytest.raises(kind) as caught:
        call()
    for word in words:
        assert word in str(caught.value)
    assert "--" not in str(caught.value), "an option of the command, in Python"


def test_ray_is_not_connected_to_by_asking():
    import ray

    if not ray.is_initialized():
        with pytest.raises(RoomError, match=r"ray\.init\(\) first"):
            chosen(ray="always")
        chosen()
        assert not ray.is_initialized()


class Counted(Items):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.read: list[int] = []

    def __getitem__(self, i: int) -> Any:
        self.read.append(i)
        return super().__getitem__(i)


@pytest.mark.parametrize("what", ["head", "val label", "fraction"])
def test_no_more_than_a_first_batch_is_read_before_a_refusal(what: str):
    train, bad_val = Counted(TRAIN, "tuple"), (VAL[0], VAL[1] + 9)
    with pytest.raises(RaySubsetError):
        if what == "head":
            chosen(train, head="nowhere")
        elif what == "fraction":
            chosen(train, fraction=2)
        else:
            chosen(train, bad_val)
    assert len(train.read) <= 32 and set(train.read) <= set(range(16))


@pytest.mark.parametrize("lazy", [nn.LazyLinear(3), nn.Sequential(nn.LazyBatchNorm1d())])
def test_a_model_that_has_no_weights_yet_is_refused_and_gets_none(lazy: nn.Module):
    with pytest.raises(ModelError, match="has no shape yet"):
        rs.select(lazy, TRAIN, VAL)
    assert any(nn.parameter.is_lazy(tensor) for tensor in lazy.parameters())


@pytest.mark.parametrize("length", [-1, "many", None])
def test_a_length_that_is_none_is_told(length: Any):
    class Odd(list[Any]):
        def __len__(self) -> int:
            return length

    with pytest.raises(DataError, match=r"len\(train_set\) failed"):
        rs.select(made(Net), Odd(), VAL)
