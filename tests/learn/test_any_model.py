"""Any module with a final Linear: its factors are autograd's gradients of that layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from raysubset.core.factors import GradientFactors, residual_of
from raysubset.errors import ModelError
from raysubset.learn.full_head import FullHead
from raysubset.learn.head import Head, find_head, linear_of
from raysubset.learn.logits import answer_with_logits, two_classes
from raysubset.learn.models import build_model
from tests.learn import awkward_models

OWN = "tests.learn.awkward_models"
GREY, COLOUR, TABLE, TOKENS = (1, 8, 8), (3, 32, 32), (7,), (12,)
# name, shape, adapter, where the head is found
MODELS: list[tuple[str, tuple[int, ...], str | None, str]] = [
    ("mlp", TABLE, None, "7"),
    ("torchvision:resnet18", COLOUR, None, "fc"),
    (f"{OWN}:small_convnext", COLOUR, None, "classifier.2"),
    (f"{OWN}:small_vit", GREY, None, "heads.head"),
    ("timm:resnet10t", GREY, None, "fc"),
    ("timm:test_vit", COLOUR, None, "head"),
    ("examples.own_text_model:build", TOKENS, None, "classifier"),
    (f"{OWN}:WithDict", GREY, None, "head"),
    (f"{OWN}:WithOddDict", GREY, f"{OWN}:scores_of", "head"),
    (f"{OWN}:WithTuple", TABLE, None, "head"),
    (f"{OWN}:WithNames", TABLE, None, "head"),
    (f"{OWN}:WithObject", TABLE, None, "head"),
    (f"{OWN}:OneLogit", TABLE, None, "head"),
    (f"{OWN}:OneFlatLogit", TABLE, None, "head"),
]


def sample(in_shape: tuple[int, ...]) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    if in_shape == TOKENS:
        return torch.randint(0, 1000, (5, *in_shape), generator=draw).float()
    return torch.randn(5, *in_shape, generator=draw)


def built(name: str, in_shape: tuple[int, ...], adapter: str | None) -> tuple[nn.Module, Head]:
    classes = 2 if "Logit" in name else 4
    model = build_model(name, in_shape=in_shape, num_classes=classes, seed=0)
    answer_with_logits(model, num_classes=classes, adapter=adapter)
    return model, find_head(model, sample(in_shape), num_classes=classes)


def gradients(
    model: nn.Module, head: Head, batch: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """Return each example's gradient of the head, one backward pass each. (C, H+1) each."""
    linear, found = linear_of(model.eval().requires_grad_(False), head), list[Tensor]()
    linear.requires_grad_(True)
    for index, row in enumerate(batch.split(1)):
        model.zero_grad()
        loss_of(model(row), torch.tensor([index % head.num_classes])).backward()
        assert linear.weight.grad is not None and linear.bias.grad is not None
        found.append(torch.cat([linear.weight.grad, linear.bias.grad[:, None]], 1))
    return found


def factors(model: nn.Module, head: Head, batch: Tensor) -> GradientFactors:
    with FullHead(model.eval(), head) as full:
        model(batch)
    label = torch.arange(len(batch)) % head.num_classes
    residual = residual_of(full.logits_BC, label)
    return GradientFactors.from_residuals(residual, full.embedding_BH, label)


def expanded(factors: GradientFactors) -> Tensor:
    one = torch.ones(factors.num_examples, 1)
    return factors.residual_NC[:, :, None] * torch.cat([factors.embedding_NH, one], 1)[:, None]


@pytest.mark.parametrize(("name", "in_shape", "adapter", "where"), MODELS)
def test_factors_are_autograds_gradients_of_the_head(name, in_shape, adapter, where):
    model, head = built(name, in_shape, adapter)
    assert head.name == where
    mine = expanded(factors(model, head, sample(in_shape)))
    wanted = torch.stack(gradients(model, head, sample(in_shape), cross_entropy))
    assert wanted.abs().max() > 0.01
    if head.one_logit:
        assert wanted.shape[1] == 1  # its own row; the other of the two is the negative
        torch.testing.assert_close(mine[:, :1], -wanted, rtol=1e-4, atol=1e-5)
        mine = mine[:, 1:]
    # float32: a backbone's sums in a batch of 5 against batches of 1
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["OneLogit", "OneFlatLogit"])
def test_one_logit_has_the_gradient_of_its_sigmoid_cross_entropy(name: str):
    model, head = built(f"{OWN}:{name}", TABLE, None)
    own = getattr(awkward_models, name)(TABLE, 2)
    own.load_state_dict(model.state_dict())

    def sigmoid_loss(z: Tensor, label: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(z.reshape(-1), label.float())

    wanted = torch.stack(gradients(own, head, sample(TABLE), sigmoid_loss))
    mine = expanded(factors(model, head, sample(TABLE)))[:, 1:]
    torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["OneLogit", "OneFlatLogit"])
def test_one_logit_is_the_two_class_model_whose_first_row_is_zero(name: str):
    model, head = built(f"{OWN}:{name}", TABLE, None)
    twin = awkward_models.Body(TABLE, 2)
    state = dict(model.state_dict())
    state["head.weight"] = torch.cat([torch.zeros(1, 12), state["head.weight"]])
    state["head.bias"] = torch.cat([torch.zeros(1), state["head.bias"]])
    twin.load_state_dict(state)
    theirs = factors(twin, find_head(twin, sample(TABLE)), sample(TABLE))
    mine = factors(model, head, sample(TABLE))
    torch.testing.assert_close(mine.residual_NC, theirs.residual_NC)
    assert torch.equal(mine.embedding_NH, theirs.embedding_NH)
    z, label = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    torch.testing.assert_close(
        cross_entropy(two_classes(z), label),
        binary_cross_entropy_with_logits(z[:, 0], label.float()),
    )


@pytest.mark.parametrize(("name", "in_shape", "adapter", "where"), MODELS)
def test_the_state_has_the_models_own_names(name, in_shape, adapter, where):
    plain = build_model(name, in_shape=in_shape, num_classes=4, seed=0)
    model, _ = built(name, in_shape, adapter)
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    ("outer", "adapter"), [("WithDict", None), ("WithOddDict", f"{OWN}:scores_of")]
)
def test_an_adapted_model_gives_the_bits_of_the_plain_one(outer: str, adapter: str | None):
    model, head = built(f"{OWN}:{outer}", GREY, adapter)
    plain, own = built(f"{OWN}:Body", GREY, None)
    assert head == own
    mine, theirs = (factors(m, head, sample(GREY)) for m in (model, plain))
    assert torch.equal(mine.residual_NC, theirs.residual_NC)
    assert torch.equal(mine.embedding_NH, theirs.embedding_NH)


def test_auxiliary_outputs_of_training_are_left_out_of_the_loss():
    name = "torchvision:googlenet"
    model, head = built(name, (3, 64, 64), None)
    assert head.name == "fc"
    logits = model.train()(sample((3, 64, 64)))
    assert logits.shape == (5, 4)
    logits.sum().backward()
    assert model.aux1.fc2.weight.grad is None and model.fc.weight.grad is not None


@pytest.mark.parametrize(
    ("name", "adapter", "parts"),
    [
        ("WithOddDict", None, ["features: (5, 12), scores: (5, 4)", "several", "--model.adapter"]),
        ("WithDict", f"{OWN}:first_of", ["KeyError: 0", "a dict (features: (5, 12)", "first_of"]),
        ("WithDict", f"{OWN}:nothing_of", ["made a str", "must return the logits"]),
        ("WithDict", f"{OWN}:PATCH", ["of type int, not a function"]),
        ("WithDict", f"{OWN}:score_of", ["has no 'score_of' (did you mean 'scores_of'?)"]),
        ("WithDict", "scores_of", ["model.adapter='scores_of' lacks a part"]),
        ("OneLogit", None, ["one output for each example", "4 classes", "regression", "width, 4"]),
        ("OneFlatLogit", None, ["one output for each example", "4 classes"]),
    ],
)
def test_what_cannot_be_read_as_logits_is_told_with_its_shapes(name, adapter, parts):
    model = build_model(f"{OWN}:{name}", in_shape=TABLE, num_classes=4, seed=0)
    with pytest.raises(ModelError) as error:
        answer_with_logits(model, num_classes=4, adapter=adapter)
        find_head(model, sample(TABLE), num_classes=4)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "in_shape", "parts"),
    [
        ("timm:resnet8", GREY, ["timm:resnet8 is not among the", "did you mean 'resnet"]),
        ("torchvision:fcn_resnet50", COLOUR, ["fcn_resnet50 is not among the 80 models"]),
        ("torchvision:resnet18", GREY, ["takes images of 3 channels, and these have 1", "timm:"]),
        ("timm:resnet18", TABLE, ["needs images", "shape (7,)"]),
        ("torchvision:vit_b_16", (3, 30, 30), ["could not build it with", "image_size=30"]),
    ],
)
def test_a_published_model_that_does_not_fit_is_refused(name, in_shape, parts):
    with pytest.raises(ModelError) as error:
        build_model(name, in_shape=in_shape, num_classes=4, seed=0)
    for part in parts:
        assert part in str(error.value)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ModelError, match="uv sync --extra timm"):
        build_model("timm:resnet18", in_shape=COLOUR, num_classes=4, seed=0)
