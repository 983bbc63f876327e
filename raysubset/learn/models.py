"""Models by name: three that ship, `auto`, registries, and `module:factory` for a person's own.

Every model is built on the CPU from a seed, and leaves all global random state as it was.
A shape is one example's: (channels, height, width) for images, (features,) for tables.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from raysubset.errors import ModelError
from raysubset.learn.factories import Named, did_you_mean, shorten
from raysubset.learn.registries import build_registered, image_words
from raysubset.learn.settings import is_of_registry

_RESNET_MIN_SIDE = 32  # below it, ResNet-18's three halvings leave less than 4 x 4
_CONV_WIDTHS = (32, 64, 128)
_MLP_WIDTH = 128


def build_model(name: str, *, in_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
    """Return a fresh model on the CPU, its weights a function of the arguments alone.

    `name` is one of "auto", "convnet", "mlp", "resnet18", "timm:NAME", "torchvision:NAME" or
    "module:factory".
    Raises ModelError for a name that is unknown, a model that does not fit `in_shape`, and a
    factory that cannot be imported or called or that gives no `nn.Module`.
    """
    build = _builder(name, in_shape)
    # fork_rng keeps the CPU's stream; torch.manual_seed would also reseed CUDA, which it does not
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return build(in_shape, num_classes)


def resolved_name(name: str, in_shape: tuple[int, ...]) -> str:
    """Return the name that "auto" stands for with this data; other names stay."""
    return _auto_name(in_shape) if name == "auto" else name


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether any layer normalises over the batch, and so needs 2 rows to train."""
    return any(isinstance(module, _BatchNorm) for module in model.modules())


_Builder = Callable[[tuple[int, ...], int], nn.Module]


def _builder(name: str, in_shape: tuple[int, ...]) -> _Builder:
    """Return the function that builds the model called `name`."""
    if is_of_registry(name):
        return lambda shape, classes: build_registered(name, shape, classes)
    if ":" in name:
        return lambda shape, classes: _from_factory(name, shape, classes)
    if name == "auto":
        name = _auto_name(in_shape)
    if name not in _BUILDERS:
        known = sorted([*_BUILDERS, "auto"])
        raise ModelError(
            f"model.name={name!r} is not a model{did_you_mean(name, known)}; "
            f"choose {', '.join(known)}, timm:NAME, torchvision:NAME, or module:factory for your "
            "own"
        )
    return _BUILDERS[name]


def _auto_name(in_shape: tuple[int, ...]) -> str:
    """Return the shipped model that suits the shape."""
    if len(in_shape) != 3:
        return "mlp"
    return "convnet" if min(in_shape[1:]) < _RESNET_MIN_SIDE else "resnet18"


def _resnet18(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return ResNet-18 with the CIFAR stem: 3x3 at stride 1, no max-pool (He et al., CVPR 2016)."""
    _require_image("resnet18", in_shape)
    from torchvision.models import resnet18  # lazy: `import raysubset` stays free of torchvision

    model = resnet18(weights=None, num_classes=num_classes)
    model.conv1 = nn.Conv2d(in_shape[0], 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.add_module("maxpool", nn.Identity())
    return model


def _convnet(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return three conv-BN-ReLU blocks, a global average pool and a head: about 94k parameters."""
    _require_image("convnet", in_shape)
    layers: list[nn.Module] = []
    channels = in_shape[0]
    for width in _CONV_WIDTHS:
        if layers:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # ceil: a side of 1 stays 1
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)
    )


def _mlp(in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return two hidden layers with BatchNorm and ReLU over the flattened example."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(in_shape)
    for _ in range(2):
        layers += [
            nn.Linear(width, _MLP_WIDTH, bias=False),
            nn.BatchNorm1d(_MLP_WIDTH),
            nn.ReLU(inplace=True),
        ]
        width = _MLP_WIDTH
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


_BUILDERS: dict[str, _Builder] = {"convnet": _convnet, "mlp": _mlp, "resnet18": _resnet18}


def _require_image(name: str, in_shape: tuple[int, ...]) -> None:
    """Refuse a shape that is not (channels, height, width)."""
    if len(in_shape) != 3:
        raise ModelError(
            f"model.name={name!r} needs images of shape (channels, height, width), and one "
            f"example has shape {in_shape}; use model.name='mlp'"
        )


def _from_factory(name: str, in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return what the person's `module:factory` builds. Runs their code, by design."""
    named = Named.of(name, option="model.name", error=ModelError, example="mynet:build")
    with named.importable():
        factory = named.imported()
        if isinstance(factory, nn.Module) or not callable(factory):
            raise ModelError(
                f"{named}: it is of type {type(factory).__name__}, "
                f"not a factory; name a class, or a function that builds and returns the model"
            )
        offered = {"num_classes": num_classes, "in_shape": in_shape, **image_words(in_shape)}
        model = named.called(factory, offered)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model.name={name!r}: the factory returned {type(model).__name__} "
            f"({shorten(repr(model))}), not a torch.nn.Module; return the model itself"
        )
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ModelError(
            f"model.name={name!r}: the model has lazy layers, whose weights would be drawn outside "
            f"the seed; give their sizes"
        )
    return model
