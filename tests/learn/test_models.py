"""Laws of the models: built by name, from a seed, and leaving nothing else changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from raysubset.errors import ModelError
from raysubset.learn.models import build_model, has_batch_norm

SHIPPED = [
    ("convnet", (1, 8, 8)),
    ("convnet", (3, 64, 64)),
    ("mlp", (13,)),
    ("mlp", (1, 8, 8)),
    ("resnet18", (3, 32, 32)),
    ("resnet18", (1, 8, 8)),
]


def build(name: str, in_shape: tuple[int, ...] = (1, 8, 8), seed: int = 0) -> nn.Module:
    return build_model(name, in_shape=in_shape, num_classes=4, seed=seed)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that writes a module to the working directory and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    names: list[str] = []

    def write(source: str) -> str:
        name = f"mynet_{tmp_path.name}_{len(names)}"
        (tmp_path / f"{name}.py").write_text(source)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("name", "in_shape"), SHIPPED)
def test_a_model_gives_one_row_of_logits_per_example(name: str, in_shape: tuple[int, ...]):
    model = build(name, in_shape)
    assert model(torch.randn(3, *in_shape)).shape == (3, 4)
    assert has_batch_norm(model)


@pytest.mark.parametrize("side", [1, 8, 9, 28, 33, 64])
def test_the_convnet_takes_any_side(side: int):
    assert (
        build("convnet", (2, side, side + 1))
        .eval()(torch.randn(2, 2, side, side + 1))
        .isfinite()
        .all()
    )


@pytest.mark.parametrize(("name", "in_shape"), SHIPPED[1:5:3] + SHIPPED[2:3])
def test_the_seed_alone_decides_the_weights(name: str, in_shape: tuple[int, ...]):
    first = build(name, in_shape).state_dict()
    torch.manual_seed(99)
    again, other = build(name, in_shape).state_dict(), build(name, in_shape, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("convnet")
    assert torch.equal(torch.rand(3), expected)


def test_auto_takes_the_model_that_suits_the_shape():
    shapes = {(7,): "mlp", (1, 28, 28): "convnet", (3, 31, 64): "convnet", (3, 32, 32): "resnet18"}
    for in_shape, name in shapes.items():
        assert size(build("auto", in_shape)) == size(build(name, in_shape))


def test_resnet18_keeps_the_resolution_in_its_stem():
    model = build("resnet18", (3, 32, 32))
    assert model.conv1.stride == (1, 1)
    assert model.conv1.kernel_size == (3, 3)
    assert isinstance(model.maxpool, nn.Identity)
    assert size(build_model("resnet18", in_shape=(3, 32, 32), num_classes=10, seed=0)) == 11_173_962


def test_the_convnet_has_about_a_hundred_thousand_parameters():
    assert 80_000 < size(build("convnet")) < 120_000


def test_only_batch_norm_counts_as_batch_norm():
    assert has_batch_norm(nn.Sequential(nn.SyncBatchNorm(3)))
    assert not has_batch_norm(nn.Sequential(nn.GroupNorm(1, 3), nn.LayerNorm(3)))


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_a_shipped_model_learns_the_digits(name: str):
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(digits.target)
    model = build_model(name, in_shape=(1, 8, 8), num_classes=10, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for epoch in range(4):
        order = torch.randperm(1400, generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(64):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    correct = model.eval()(x[1400:]).argmax(1) == y[1400:]
    assert correct.float().mean() > 0.9  # 10 classes; measured 0.96 (convnet), 0.93 (mlp)


def test_importing_the_module_imports_neither_torchvision_nor_ray():
    code = (
        "import sys, raysubset.learn.models, raysubset.learn.head, raysubset.learn.augment, "
        "raysubset.learn.normalize, raysubset.learn.recipe; "
        "sys.exit('torchvision' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_answered_with_the_closest_and_the_list():
    with pytest.raises(ModelError) as error:
        build("resnet8")
    for part in ("'resnet8'", "did you mean 'resnet18'", "auto, convnet, mlp", "module:factory"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["resnet18", "convnet"])
def test_an_image_model_refuses_a_table(name: str):
    with pytest.raises(ModelError, match=r"needs images .* shape \(7,\); use model.name='mlp'"):
        build(name, (7,))


LINEAR = "from torch import nn\nfrom math import prod\n"


@pytest.mark.parametrize(
    "source",
    [
        "def build(num_classes, in_shape): return nn.Linear(prod(in_shape), num_classes)",
        "def build(*, num_classes): return nn.Linear(64, num_classes)",
        "def build(width=2, *, in_shape): return nn.Linear(prod(in_shape), 4)",
        "def build(): return nn.Linear(64, 4)",
        "def build(**options): return nn.Linear(64, options['num_classes'])",
        "class build(nn.Linear):\n  def __init__(self, num_classes): super().__init__(64, 4)",
    ],
)
def test_a_factory_in_the_working_directory_gets_the_keywords_it_accepts(mynet, source: str):
    path = list(sys.path)
    name = f"{mynet(LINEAR + source)}:build"
    model, again = build(name), build(name)
    assert isinstance(model, nn.Linear)
    assert model.weight.shape == (4, 64)
    assert torch.equal(model.weight, again.weight)
    assert sys.path == path


def test_a_factory_may_import_its_neighbours_when_it_is_called(mynet):
    neighbour = mynet(LINEAR + "def make(n): return nn.Linear(64, n)")
    name = mynet(
        f"def build(num_classes):\n  import {neighbour} as n\n  return n.make(num_classes)"
    )
    assert isinstance(build(f"{name}:build"), nn.Linear)


def test_a_factory_of_an_installed_package_works():
    model = build("torchvision.models:squeezenet1_0", (3, 32, 32))
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("source", "attribute", "parts"),
    [
        ("def build(): return [1, 2]", "build", ["returned list ([1, 2])", "torch.nn.Module"]),
        ("def build(): return None", "build", ["returned NoneType"]),
        ("def build(num_classes): return 1 / 0", "build", ["(num_classes=4)", "ZeroDivisionError"]),
        ("def build(depth): pass", "build", ["called with ()", "'depth'", "needs a default"]),
        ("def build(): raise SystemExit(3)", "build", ["SystemExit: 3"]),
        ("def build_net(): pass", "biuld_net", ["no 'biuld_net'", "did you mean 'build_net'"]),
        ("build = 7", "build", ["of type int, not a factory"]),
        ("from torch import nn\nbuild = nn.ReLU()", "build", ["of type ReLU, not a factory"]),
        ("from torch import nn\ndef build(): return nn.LazyLinear(3)", "build", ["lazy layers"]),
        ("raise ValueError('no weights')", "build", ["importing", "ValueError: no weights"]),
        ("import sys; sys.exit(2)", "build", ["SystemExit: 2"]),
        ("import nosuchpackage", "build", ["No module named 'nosuchpackage'"]),
        ("def build(:", "build", ["SyntaxError"]),
    ],
)
def test_a_broken_factory_is_named_with_its_cause(mynet, source: str, attribute: str, parts):
    module = mynet(source)
    with pytest.raises(ModelError) as error:
        build(f"{module}:{attribute}")
    for part in (f"{module}:{attribute}", *parts):
        assert part in str(error.value)


def test_a_missing_module_is_named_with_the_place_where_it_may_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as error:
        build("nosuchmodule:build")
    for part in ("'nosuchmodule'", "installed or stand in the working directory", str(tmp_path)):
        assert part in str(error.value)


@pytest.mark.parametrize("name", [":build", "mynet:", ":"])
def test_half_a_factory_name_is_refused(name: str):
    with pytest.raises(ModelError, match="lacks a part; write module:factory"):
        build(name)
