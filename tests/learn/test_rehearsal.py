"""What fails only in training is told before any work, and looking changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.rehearsal import rehearse

SAMPLE = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Right in evaluation mode; in training mode it does what it is given."""

    def __init__(self, in_training: Callable[[Tensor], object] = lambda logits: logits) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.head = nn.Linear(4, 3)
        self.in_training = in_training

    def forward(self, x: Tensor) -> object:
        logits = self.head(self.body(x))
        return self.in_training(logits) if self.training else logits


class Noted(Net):
    """A state that is no tensor."""

    def get_extra_state(self) -> object:
        return {"note": 1}

    def set_extra_state(self, state: object) -> None:
        pass


def with_attribute(name: str, value: object) -> Net:
    net = Net()
    setattr(net, name, value)
    return net


def with_expanded_buffer() -> Net:
    net = Net()
    net.register_buffer("shared", torch.zeros(1).expand(4))
    return net


def raising(_: Tensor) -> object:
    raise ValueError("aux head missing")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Net(raising), r"fails in training mode .*\(2, 6\) with ValueError: aux head missing"),
        (Net(lambda logits: (logits, logits)), r"returns a tuple, not the logits of shape \(2, 3"),
        (Net(lambda logits: logits[:, :2]), r"a tensor of shape \(2, 2\), not .* \(2, 3\)"),
        (Net(lambda logits: logits.detach()), r"no gradient flows back"),
        (Noted(), r"'_extra_state', which is no tensor; .*get_extra_state"),
        (with_expanded_buffer(), r"does not load its own state .*expand\(\)"),
        (with_attribute("lock", threading.Lock()), r"cannot be copied .*locks and open files"),
    ],
)
def test_a_model_that_fails_only_in_training_is_refused(model: nn.Module, said: str):
    with pytest.raises(ModelError, match=said):
        rehearse(model, SAMPLE, num_classes=3)


@pytest.mark.parametrize("training", [True, False])
def test_a_rehearsal_leaves_nothing_behind(training: bool):
    torch.manual_seed(3)
    expected = torch.rand(2)
    model = Net().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    rehearse(model, SAMPLE, num_classes=3)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training is training
