"""Models as people write them: several outputs, one logit, frozen parts; and adapters for them."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

Pair = namedtuple("Pair", ["features", "logits"])  # as torchvision writes them
Shape = tuple[int, ...]
PATCH = 4


class Body(nn.Module):
    """Two layers with names; what comes out is made by a subclass."""

    def __init__(self, in_shape: Shape, num_classes: int, width: int = 12) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), width), nn.Tanh())
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(x))


class WithDict(Body):
    """Returns a dict whose logits are called so."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {"features": features, "logits": self.head(features)}


class WithOddDict(Body):
    """Returns a dict in which nothing is called logits."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        return {"features": features, "scores": self.head(features)}


class WithTuple(Body):
    """Returns a tuple of one tensor, as a Hugging Face model without a loss."""

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return (super().forward(x), None)


class WithNames(Body):
    """Returns a named tuple in training, logits alone in evaluation."""

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        logits = self.head(features)
        return Pair(features, logits) if self.training else logits


@dataclass
class Answer:
    """What a model of somebody's own class returns."""

    loss: Tensor | None
    logits: Tensor


class WithObject(Body):
    """Returns an object."""

    def forward(self, x: Tensor) -> Answer:
        return Answer(loss=None, logits=super().forward(x))


class OneLogit(Body):
    """One logit for two classes, (B, 1)."""

    def __init__(self, in_shape: Shape, num_classes: int) -> None:
        super().__init__(in_shape, 1)


class OneFlatLogit(OneLogit):
    """One logit for two classes, (B,)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)


def scores_of(output: dict[str, Tensor]) -> Tensor:
    """Return the logits of `WithOddDict`."""
    return output["scores"]


def first_of(output: Any) -> Any:
    """Fail on a dict."""
    return output[0]


def nothing_of(output: Any) -> str:
    """Return no tensor."""
    return "logits"


def small_vit(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return torchvision's ViT for small images."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=in_shape[1],
        patch_size=PATCH,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=num_classes,
    )
    if in_shape[0] != 3:
        model.conv_proj = nn.Conv2d(in_shape[0], 16, kernel_size=PATCH, stride=PATCH)
    nn.init.normal_(model.heads.head.weight, std=0.1)  # torchvision's zeros would hide mistakes
    return model


def small_convnext(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return torchvision's ConvNeXt, two blocks of it."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    model = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=num_classes)
    model.features[0][0] = nn.Conv2d(in_shape[0], 8, kernel_size=4, stride=4)
    return model


def frozen_itself(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return a model whose owner froze all but the head."""
    model = Body(in_shape, num_classes)
    model.body.requires_grad_(False)
    return model


def normed(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return a model with BatchNorm and dropout before its head."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(in_shape), 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(24, num_classes),
    )


def moving(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return a model frozen by its owner, whose BatchNorm statistics go on moving."""
    model = normed(in_shape, num_classes)
    for parameter in list(model.parameters())[:-2]:
        parameter.requires_grad_(False)
    return model


class Drawing(nn.Module):
    """Draws in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x)


def drawing(in_shape: Shape, num_classes: int) -> nn.Module:
    """Return a frozen model that gives something else each time."""
    body = nn.Linear(prod(in_shape), 12).requires_grad_(False)
    return nn.Sequential(nn.Flatten(), body, Drawing(), nn.Linear(12, num_classes))


class Tied(nn.Module):
    """A head whose weight another layer has too."""

    def __init__(self, in_shape: Shape, num_classes: int) -> None:
        super().__init__()
        self.up = nn.Linear(prod(in_shape), num_classes)
        self.back = nn.Linear(num_classes, num_classes)
        self.head = nn.Linear(num_classes, num_classes)
        self.back.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.back(self.up(x.flatten(1))))
