"""What `import raysubset` costs, and what its names are."""

import subprocess
import sys

import pytest

import raysubset

HEAVY = ("torch", "torchvision", "ray", "numpy", "pyarrow", "sklearn", "pydantic")


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_importing_raysubset_imports_nothing_heavy():
    code = f"import sys, raysubset; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_the_algebra_imports_neither_ray_nor_torchvision():
    code = (
        "import sys, raysubset as rs; rs.Glister, rs.AdaptiveRandom, rs.LocalGroundSet;"
        "print([m for m in ('ray', 'torchvision', 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("name", raysubset.__all__)
def test_every_public_name_is_found_and_listed(name):
    assert getattr(raysubset, name).__name__ == name
    assert name in dir(raysubset)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Glisten'"):
        _ = raysubset.Glisten
