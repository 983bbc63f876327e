"""Published models by name: `timm:NAME` and `torchvision:NAME`, with fresh weights.

Nothing is downloaded: the weights are drawn from the seed. To begin from published weights, write
a factory that loads them from a file of yours, and name it as module:factory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from raysubset.errors import ModelError
from raysubset.learn.factories import did_you_mean


def image_words(in_shape: tuple[int, ...]) -> dict[str, object]:
    """Return what published models call an image's channels and sides; {} for a table."""
    if len(in_shape) != 3:
        return {}
    channels, *sides = in_shape
    side = sides[0] if sides[0] == sides[1] else tuple(sides)
    return {"in_chans": channels, "img_size": side, "image_size": side}


def build_registered(name: str, in_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the model that a registry has under a name, for images of this shape.

    Its number of classes, and channels and image size where it takes them, are those of the data.

    Raises:
        ModelError: no such model, a package that is not installed, an example that is no image, or
            a size that the model refuses.
    """
    registry, _, own = name.partition(":")
    if len(in_shape) != 3:
        raise ModelError(
            f"model.name={name!r} needs images of shape (channels, height, width), and one "
            f"example has shape {in_shape}; use model.name='mlp'"
        )
    build, words = {"timm": _of_timm, "torchvision": _of_torchvision}[registry](own, in_shape)
    words["num_classes"] = num_classes
    try:
        model: object = build(**words)
    except Exception as error:  # what a registry's code raises for sizes that do not fit
        call = ", ".join(f"{key}={value}" for key, value in words.items())
        raise ModelError(
            f"model.name={name}: {registry} could not build it with ({call}): "
            f"{type(error).__name__}: {error}; choose a model for images of shape {in_shape}"
        ) from error
    assert isinstance(model, nn.Module), "a registry of models holds models"
    return model


_Found = tuple[Callable[..., Any], dict[str, Any]]


def _of_timm(name: str, in_shape: tuple[int, ...]) -> _Found:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise ModelError(
            f"model.name=timm:{name} needs timm, which is not installed here ({error}); "
            "`uv sync --extra timm`"
        ) from error
    base = name.partition(".")[0]  # timm's names may end in a tag of published weights
    known: list[str] = timm.list_models()
    _refuse_unknown("timm", base, known)
    words = image_words(in_shape)
    asked = {"pretrained": False, "in_chans": words["in_chans"]}
    # Only models whose weights depend on the image's size take one; the others refuse the word.
    config = timm.models.get_pretrained_cfg(base, allow_unregistered=False)
    if config is not None and config.fixed_input_size:
        asked["img_size"] = words["img_size"]
    return _named(timm.create_model, name), asked


def _named(build: Callable[..., Any], name: str) -> Callable[..., Any]:
    return lambda **words: build(name, **words)


def _of_torchvision(name: str, in_shape: tuple[int, ...]) -> _Found:
    from torchvision import models  # lazy: `import raysubset` stays free of torchvision

    _refuse_unknown("torchvision", name, models.list_models(module=models))
    if in_shape[0] != 3:
        raise ModelError(
            f"model.name=torchvision:{name} takes images of 3 channels, and these have "
            f"{in_shape[0]}; choose a timm:NAME, which takes any number, or a factory of your own"
        )
    words: dict[str, Any] = {"weights": None}
    if name.startswith("vit_"):
        words["image_size"] = image_words(in_shape)["image_size"]
    if name in ("googlenet", "inception_v3"):
        words["init_weights"] = True  # else they warn that their default will change
    if name.startswith("maxvit_"):
        words["input_size"] = in_shape[1:]
    return models.get_model_builder(name), words


def _refuse_unknown(registry: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ModelError(
            f"model.name={registry}:{name} is not among the {len(known):,} models of "
            f"{registry}{did_you_mean(name, known)}; see {registry}'s list of models"
        )
