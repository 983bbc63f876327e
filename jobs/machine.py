"""What a machine is, and what it lacks; imports nothing heavy, so that it can say so first."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from raysubset.errors import ConfigError

NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "yaml": "PyYAML",
    "safetensors": "safetensors",
    "torchmetrics": "torchmetrics",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
}
"""import name -> package. Data other than digits needs no scikit-learn; Ray: without --local."""


def check_packages(*, local: bool, digits: bool) -> None:
    """Refuse a machine that lacks what every case imports, and say how to get it."""
    names = [name for name in NEEDED if digits or name != "sklearn"]
    names += [] if local else ["ray"]
    absent = [NEEDED.get(name, name) for name in names if find_spec(name) is None]
    if absent:
        without = "; or leave Ray out with --local" if "ray" in absent else ""
        raise ConfigError(
            f"not installed here: {', '.join(absent)}. "
            f"python3 -m pip install {' '.join(absent)}{without}"
        )


def remedy_for(error: ModuleNotFoundError) -> str:
    """Return what to do about a package that only some case imports."""
    package = str(error.name).partition(".")[0]
    package = NEEDED.get(package, package)
    return f"{package} is not installed here: python3 -m pip install {package}"


def machine() -> dict[str, Any]:
    """Return hardware, versions, and the time."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    told = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu}
    told |= {"memory_gb": round(_memory_bytes() / 1e9, 1), "system": platform.system()}
    names = ("raysubset", "torch", "torchvision", "ray", "numpy")
    return {
        **told,
        **{name: _version(name) for name in names},
        "python": platform.python_version(),
        "load": load(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def load() -> float:
    """Return how many processes wanted a core, over the last minute: a busy machine's is high."""
    return round(os.getloadavg()[0], 1)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a machine with plain torch can measure all but Ray
        return "none"
