"""The statistics need neither PyTorch nor Ray, nor anything else of raysubset."""

import pkgutil
import subprocess
import sys

import raysubset.evidence

HEAVY = ("torch", "torchvision", "ray", "pyarrow", "sklearn", "matplotlib", "pydantic")


def test_the_statistics_import_only_numpy_scipy_and_the_errors():
    modules = [f"raysubset.evidence.{m.name}" for m in pkgutil.iter_modules(evidence_path())]
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"own = [m for m in sys.modules if m.startswith('raysubset.')]\n"
        "own = [m for m in own if not m.startswith('raysubset.evidence')]\n"
        f"print(own, [m for m in {HEAVY} if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['raysubset.errors'] []"


def evidence_path() -> list[str]:
    return list(raysubset.evidence.__path__)
