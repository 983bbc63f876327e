"""Laws of the head: found where it makes the output, captured, and the model left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from raysubset.errors import ModelError
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head, find_head
from raysubset.learn.models import build_model

SAMPLE = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers and a forward given as a function: enough to build every awkward model."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, x: Tensor):
        return self._forward(self, x)


def net(forward, **more: nn.Module) -> Net:
    torch.manual_seed(0)
    return Net(forward, **{"fc1": nn.Linear(6, 7), "fc2": nn.Linear(7, 3), **more})


def plain(self: Net, x: Tensor) -> Tensor:
    return self.fc2(self.fc1(x).relu())


class Scaled(nn.Linear):
    """A layer that is an nn.Linear by type alone."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


@pytest.mark.parametrize(
    ("name", "in_shape", "head"),
    [
        ("resnet18", (3, 16, 16), Head(name="fc", in_features=512, num_classes=4)),
        ("convnet", (1, 8, 8), Head(name="13", in_features=128, num_classes=4)),
        ("mlp", (6,), Head(name="7", in_features=128, num_classes=4)),
    ],
)
def test_the_head_of_a_shipped_model_is_found(name: str, in_shape: tuple[int, ...], head: Head):
    model = build_model(name, in_shape=in_shape, num_classes=4, seed=0)
    assert find_head(model, torch.randn(3, *in_shape), num_classes=4) == head


@pytest.mark.parametrize(
    "forward",
    [
        plain,
        lambda self, x: self.fc2(self.fc1(x)).clone(),
        lambda self, x: self.fc2(self.fc1(x)).to(torch.float64),
        lambda self, x: self.fc2(input=self.fc1(x)),
        lambda self, x: nn.functional.dropout(self.fc2(self.fc1(x)), training=self.training),
        lambda self, x: self.fc2(self.fc1(x)) * float("nan") if False else self.fc2(self.fc1(x)),
    ],
)
def test_the_head_is_the_layer_whose_output_is_the_models(forward):
    assert find_head(net(forward), SAMPLE) == Head(name="fc2", in_features=7, num_classes=3)


def test_the_order_of_definition_does_not_matter():
    model = Net(lambda self, x: self.a(self.b(x)), a=nn.Linear(3, 3), b=nn.Linear(6, 3))
    assert find_head(model, SAMPLE).name == "a"


def test_a_head_that_gives_nan_is_still_found():
    model = net(plain)
    nn.init.constant_(model.fc2.weight, float("nan"))
    assert find_head(model, SAMPLE).name == "fc2"


def test_the_very_output_beats_an_equal_one():
    model = net(lambda self, x: (self.fc3(self.fc1(x)), self.fc2(self.fc1(x)))[1])
    model.fc3 = copy.deepcopy(model.fc2)
    assert find_head(model, SAMPLE).name == "fc2"


def test_a_model_that_is_one_linear_layer_is_its_own_head():
    model = nn.Linear(6, 3)
    head = find_head(model, SAMPLE)
    assert head == Head(name="", in_features=6, num_classes=3)
    with FullHead(model, head) as full:
        model(SAMPLE)
    assert torch.equal(full.embedding_BH, SAMPLE)


def test_a_named_head_overrides_the_search():
    model = net(lambda self, x: plain(self, x).log_softmax(-1))
    assert find_head(model, SAMPLE, "fc2").name == "fc2"


class Restless(nn.Module):
    """A layer whose every forward, eval too, draws a number and rewrites a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        self.last = self.last + 2
        return x + 0 * torch.rand(1)


@pytest.mark.parametrize("broken", [False, True])
def test_the_search_leaves_the_model_as_it_was(broken: bool):
    model = net(lambda self, x: plain(self, self.bn(self.r(x))), r=Restless(), bn=nn.BatchNorm1d(6))
    model.bn.eval()  # frozen by its owner, while the rest trains
    before, last = copy.deepcopy(model.state_dict()), model.r.last
    modes = [module.training for module in model.modules()]
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    if broken:
        with pytest.raises(ModelError):
            find_head(model, torch.randn(5, 9, generator=torch.Generator()))
    else:
        find_head(model, SAMPLE)
    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.r.last is last
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("model", "head", "parts"),
    [
        (
            net(lambda s, x: plain(s, x).softmax(-1)),
            None,
            ["no nn.Linear makes", "(5, 3)", "fc1: Linear, fc2: Linear", "--model.head NAME"],
        ),
        (net(lambda s, x: plain(s, x).mul_(2)), None, ["no nn.Linear makes"]),
        (nn.Sequential(*[nn.ReLU() for _ in range(20)]), None, ["(8 more)", "19: ReLU"]),
        (nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2))), None, ["into (5, 2, 2)"]),
        (net(lambda s, x: plain(s, x).sum()), None, ["(5, 6) into ()", "one row per example"]),
        (net(lambda s, x: plain(s, x)[:1]), None, ["into (1, 3)", "(5, classes)"]),
        (net(lambda s, x: {"logits": plain(s, x)}), None, ["returns a dict, not a tensor"]),
        (nn.Linear(9, 3), None, ["shape (5, 6)", "mat1 and mat2", "in_shape=(6,)"]),
        (net(lambda s, x: s.fc2(s.fc1(x)) + 0 * s.fc2(s.fc1(x))), "fc2", ["called 2 times"]),
        (net(lambda s, x: nn.functional.linear(s.fc1(x), s.fc2.weight)), "fc2", ["called 0 times"]),
        (net(plain), "fc1", ["'fc1' gives 7 outputs", "3 columns"]),
        (net(plain), "fc3", ["'fc3' is not in the model", "did you mean 'fc", "fc1, fc2"]),
        (net(plain, act=nn.ReLU()), "act", ["'act' is a ReLU, not an nn.Linear", "fc1, fc2"]),
        (nn.Sequential(nn.ReLU()), "fc", ["nn.Linear layers: none"]),
        (net(plain, fc2=Scaled(7, 3)), None, ["Scaled", "not input @ weight.T + bias"]),
        (
            net(lambda s, x: s.fc2(s.fc1(x).unsqueeze(1)).squeeze(1)),
            "fc2",
            ["'fc2' takes an input of shape (5, 1, 7)", "pool over"],
        ),
    ],
)
def test_a_model_without_a_usable_head_is_told_why(model: nn.Module, head: str | None, parts):
    with pytest.raises(ModelError) as error:
        find_head(model, SAMPLE, head)
    for part in parts:
        assert part in str(error.value)


def test_equal_outputs_that_are_copied_leave_the_head_ambiguous():
    model = net(lambda self, x: (self.fc3(self.fc1(x)), self.fc2(self.fc1(x)))[1].clone())
    model.fc3 = copy.deepcopy(model.fc2)
    with pytest.raises(ModelError, match=r"fc2, fc3 all give .* ambiguous; .*--model.head NAME"):
        find_head(model, SAMPLE)
    assert find_head(model, SAMPLE, "fc2").name == "fc2"


def test_a_width_that_is_not_the_number_of_classes_names_both():
    with pytest.raises(ModelError, match=r"'fc2' gives 3 outputs, and the data has 10 classes"):
        find_head(net(plain), SAMPLE, num_classes=10)
