"""A person's model and process are afterwards what they were."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import raysubset as rs
from raysubset.errors import RaySubsetError
from tests.in_loop.cases import TRAIN, VAL, Items, Jittered, Net, Noisy, made


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything of a model and of this process that a call could change."""
    modules = list(model.modules())
    return {
        "bytes": {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        "where": {k: v.data_ptr() for k, v in model.state_dict().items()},
        "versions": [p._version for p in model.parameters()],
        "modes": [m.training for m in modules],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules],
        "own": [sorted(vars(m)) for m in modules],
        "grads": [None if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()],
        "wanted": [p.requires_grad for p in model.parameters()],
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": [str(part) for part in np.random.get_state()],  # noqa: NPY002
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "products": torch.get_float32_matmul_precision(),
    }


class Counting(Net):
    """A buffer that every forward changes, whatever the mode, and a train() with a will."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.switched = 0

    def train(self, mode: bool = True) -> Any:
        self.switched = getattr(self, "switched", 0) + 1
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return super().forward(x)


def mixed(kind: type[Net] = Net) -> Any:
    """Return a model in the middle of somebody's training."""
    model = made(kind)
    model.body[1].eval()  # frozen statistics
    model.body[0].weight.requires_grad_(requires_grad=False)
    model.fc.register_forward_hook(lambda *_: None)
    nn.functional.cross_entropy(model(TRAIN[0]), TRAIN[1]).backward()
    return model


@pytest.mark.parametrize("kind", [Net, Noisy, Counting])
@pytest.mark.parametrize("train", [TRAIN, Jittered(TRAIN, "tuple")], ids=["arrays", "jittered"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_model_and_process_are_what_they_were(kind: Any, train: Any, num_workers: int):
    model = mixed(kind)
    before, switched = state_of(model), getattr(model, "switched", 0)
    rs.select(model, train, VAL, batch_size=32, num_workers=num_workers)
    assert state_of(model) == before
    assert getattr(model, "switched", 0) == switched, "its own train() was called"


class Fails(Net):
    """Fails at the third batch, in the midst of work."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: torch.Tensor) -> Any:
        self.seen += 1
        logits = super().forward(x)
        return logits if self.seen < 7 else logits * torch.nan


class Unreadable(Items):
    def __getitem__(self, i: int) -> Any:
        torch.rand(3)
        return super().__getitem__(i) if i < 70 else 1 / 0


def test_also_after_a_failure_in_the_midst_of_work():
    model = mixed(Fails)
    before = state_of(model)
    with pytest.raises(ZeroDivisionError):
        try:
            rs.select(model, Unreadable(TRAIN, "tuple"), VAL, batch_size=16)
        except RaySubsetError as error:
            assert error.__cause__ is not None
            raise error.__cause__ from None
    assert state_of(model) == before


def test_a_model_compiled_in_place_stays_compiled():
    model = made()
    model.compile(backend="eager")
    call = model._compiled_call_impl
    plain = rs.select(made(), TRAIN, VAL)
    assert rs.select(model, TRAIN, VAL).gains.tobytes() == plain.gains.tobytes()
    assert model._compiled_call_impl is call


def test_training_goes_on_as_if_nobody_had_asked():
    def trained(ask: bool) -> list[bytes]:
        torch.manual_seed(5)
        model = made()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(4):
            if ask:
                rs.select(model, Jittered(TRAIN, "tuple"), VAL)
            rows = torch.randperm(len(TRAIN[0]))[:32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(TRAIN[0][rows]), TRAIN[1][rows]).backward()
            optimizer.step()
        return [v.numpy().tobytes() for v in model.state_dict().values()]

    assert trained(ask=True) == trained(ask=False)
