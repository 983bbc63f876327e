"""raysubset: which of my examples are worth training on, and how few are enough?

Importing this package imports neither ray nor torch nor torchvision: public names are lazy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raysubset.core.factors import GradientFactors as GradientFactors
    from raysubset.core.filters import ExactDuplicates as ExactDuplicates
    from raysubset.core.ground_set import LocalGroundSet as LocalGroundSet
    from raysubset.core.ground_set import ShardedGroundSet as ShardedGroundSet
    from raysubset.core.lookahead import Lookahead as Lookahead
    from raysubset.core.observations import Observations as Observations
    from raysubset.errors import RaySubsetError as RaySubsetError
    from raysubset.experiment import Experiment as Experiment
    from raysubset.in_loop import select as select
    from raysubset.sampler import SubsetSampler as SubsetSampler
    from raysubset.selector.subset_selector import SubsetSelector as SubsetSelector
    from raysubset.strategies.full import Full as Full
    from raysubset.strategies.glister import Glister as Glister
    from raysubset.strategies.picks import Block as Block
    from raysubset.strategies.picks import Blocks as Blocks
    from raysubset.strategies.picks import Exact as Exact
    from raysubset.strategies.picks import Stochastic as Stochastic
    from raysubset.strategies.regularizers import Diversity as Diversity
    from raysubset.strategies.regularizers import FacilityLocation as FacilityLocation
    from raysubset.strategies.regularizers import RandomFill as RandomFill
    from raysubset.strategies.selection import Selection as Selection
    from raysubset.strategies.uniform import AdaptiveRandom as AdaptiveRandom
    from raysubset.strategies.uniform import Random as Random

__version__ = "0.1.0"

_HOME = {
    "GradientFactors": "core.factors",
    "Lookahead": "core.lookahead",
    "LocalGroundSet": "core.ground_set",
    "ShardedGroundSet": "core.ground_set",
    "Observations": "core.observations",
    "ExactDuplicates": "core.filters",
    "Glister": "strategies.glister",
    "Full": "strategies.full",
    "Random": "strategies.uniform",
    "AdaptiveRandom": "strategies.uniform",
    "Exact": "strategies.picks",
    "Block": "strategies.picks",
    "Blocks": "strategies.picks",
    "Stochastic": "strategies.picks",
    "FacilityLocation": "strategies.regularizers",
    "Diversity": "strategies.regularizers",
    "RandomFill": "strategies.regularizers",
    "Selection": "strategies.selection",
    "SubsetSelector": "selector.subset_selector",
    "Experiment": "experiment",
    "select": "in_loop",
    "RaySubsetError": "errors",
    "SubsetSampler": "sampler",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]  # lazy names


def __getattr__(name: str) -> object:
    """Import a public name where it lives, the first time it is asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'raysubset' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"raysubset.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(set(globals()) | set(_HOME))
