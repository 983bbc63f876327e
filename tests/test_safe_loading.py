"""No module can be made to run code by what it reads: looked up in its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(p for top in ("raysubset", "jobs") for p in (ROOT / top).rglob("*.py"))

NEVER = {
    **dict.fromkeys(("pickle", "cPickle", "_pickle", "cloudpickle", "dill"), ("load", "loads")),
    **dict.fromkeys(("marshal",), ("load", "loads")),
    **dict.fromkeys(("shelve",), ("open", "DbfilenameShelf", "Shelf")),
    **dict.fromkeys(("joblib", "hickle", "skops"), ("load",)),
    **dict.fromkeys(("pandas", "pd"), ("read_pickle",)),
    "yaml": ("load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"),
}
"""Module -> what of it runs the code that a file names."""
UNSAFE_NAMES = {"Unpickler", "UnsafeLoader", "FullLoader", "Loader", "CLoader"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}


def findings(tree: ast.AST) -> Iterator[str]:
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in NEVER.get((node.module or "").split(".")[-1], ()):
                    yield f"line {node.lineno}: from {node.module} import {alias.name}"
        if isinstance(node, (ast.Attribute, ast.Name)):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in UNSAFE_NAMES:
                yield f"line {node.lineno}: {name}"
        if isinstance(node, ast.Attribute):  # also where it is not called but handed on
            home = _dotted(node.value, names)
            if node.attr in NEVER.get(home, ()):
                yield f"line {node.lineno}: {home}.{node.attr}"
        if isinstance(node, ast.Call):
            yield from _bad_call(node, names)


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (local name, module) of imports, so that an alias hides nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    """Return the last part of the module that an expression stands for; "" for none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id).split(".")[-1]
    return node.attr if isinstance(node, ast.Attribute) else ""


def _bad_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    called, told = node.func, {k.arg: k.value for k in node.keywords}
    if isinstance(called, ast.Name) and called.id in BUILT_IN:
        yield f"line {node.lineno}: {called.id}()"
    if isinstance(called, ast.Name):
        home, _, name = names.get(called.id, "").rpartition(".")
    elif isinstance(called, ast.Attribute):
        home, name = _dotted(called.value, names), called.attr
    else:
        return
    if home == "torch" and name == "load" and not _is(told.get("weights_only"), True):
        yield f"line {node.lineno}: torch.load without weights_only=True"
    if home in ("torch.jit", "jit", "torch.hub", "hub") and name == "load":
        yield f"line {node.lineno}: {home}.load"
    if home in ("np", "numpy") and name in ("load", "loads"):
        if "allow_pickle" in told and not _is(told["allow_pickle"], False):
            yield f"line {node.lineno}: np.load with allow_pickle"
    if "allow_pickle" in told and not _is(told["allow_pickle"], False):
        yield f"line {node.lineno}: allow_pickle"


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_f24_no_module_loads_what_could_run_code():
    assert len(MODULES) > 200
    found = [
        f"{path.relative_to(ROOT)} {each}"
        for path in MODULES
        for each in findings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


BAD = [
    "import pickle\npickle.loads(b)",
    "import pickle as p\np.load(f)",
    "from pickle import loads",
    "import pickle\nread = pickle.load",
    "import pickle\npickle.Unpickler(f)",
    "from ray import cloudpickle\ncloudpickle.loads(b)",
    "import torch\ntorch.load(f)",
    "import torch\ntorch.load(f, weights_only=False)",
    "import torch\ntorch.load(f, weights_only=flag)",
    "from torch import load\nload(f)",
    "import torch\ntorch.jit.load(f)",
    "import torch\ntorch.hub.load(a, b)",
    "import yaml\nyaml.load(f)",
    "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)",
    "import yaml\nyaml.unsafe_load(f)",
    "from yaml import UnsafeLoader as Quiet\nx = yaml.UnsafeLoader",
    "import numpy as np\nnp.load(f, allow_pickle=True)",
    "import numpy\nnumpy.load(f, allow_pickle=flag)",
    "eval(text)",
    "exec(text)",
    "import marshal\nmarshal.loads(b)",
    "import shelve\nshelve.open(f)",
    "import joblib\njoblib.load(f)",
    "import pandas as pd\npd.read_pickle(f)",
]
GOOD = [
    "import torch\ntorch.load(f, weights_only=True)",
    "import numpy as np\nnp.load(f)",
    "import numpy as np\nnp.load(f, allow_pickle=False)",
    "import yaml\nyaml.safe_load(f)",
    "model.eval()",
    "import json\njson.loads(text)",
    "from safetensors.torch import load\nload(b)",
    "import re\nre.compile(text)",
]


@pytest.mark.parametrize("code", BAD)
def test_the_law_finds_what_it_forbids(code: str):
    assert list(findings(ast.parse(code)))


@pytest.mark.parametrize("code", GOOD)
def test_the_law_lets_pass_what_runs_nothing(code: str):
    assert not list(findings(ast.parse(code)))
