"""From the names in an experiment to the values behind them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from raysubset.errors import ConfigError

if TYPE_CHECKING:
    from raysubset.core.filters import Filter
    from raysubset.experiment import SelectionSettings
    from raysubset.strategies.picks import Picks
    from raysubset.strategies.regularizers import Regularizer
    from raysubset.strategies.strategy import Strategy

_CALL = re.compile(r"^([a-z_]+)(?:\(([^()]*)\))?$")


def parse_call(text: str, known: dict[str, int]) -> tuple[str, list[float]]:
    """Return ("block", [33.0]) for "block(33)"; `known` maps names to their number of values."""
    match = _CALL.match(text.strip())
    forms = ", ".join(f"{name}(VALUE)" if count else name for name, count in known.items())
    if not match or match[1] not in known:
        raise ValueError(f"must be one of {forms}")
    try:
        values = [float(v) for v in match[2].split(",")] if match[2] else []
    except ValueError:
        raise ValueError(f"must hold a number, as in {forms}") from None
    if len(values) != known[match[1]] or not all(map(math.isfinite, values)):
        raise ValueError(f"must be one of {forms}")
    return match[1], values


def picks_of(text: str) -> Picks:
    """Return the value of `selection.glister.picks`."""
    from raysubset.strategies.picks import Block, Blocks, Exact, Stochastic

    name, values = parse_call(text, {"exact": 0, "block": 1, "blocks": 1, "stochastic": 1})
    if name == "exact":
        return Exact()
    if name == "stochastic":
        return Stochastic(values[0])
    if not values[0].is_integer():
        raise ConfigError(f"picks={text}: {name} takes a whole number.")
    return Block(int(values[0])) if name == "block" else Blocks(int(values[0]))


def regularizer_of(text: str) -> Regularizer | None:
    """Return the value of `selection.glister.regularizer`."""
    from raysubset.strategies.regularizers import Diversity, FacilityLocation, RandomFill

    known = {"none": 0, "facility_location": 1, "diversity": 1, "random": 1}
    name, values = parse_call(text, known)
    if name == "none":
        return None
    kinds = {"facility_location": FacilityLocation, "diversity": Diversity, "random": RandomFill}
    return kinds[name](values[0])


def strategy_of(name: str, selection: SelectionSettings) -> Strategy:
    """Return the strategy of a phase behind the selection's quotas.

    GLISTER's `candidates` are drawn by the pool before it scores, so that the ids which cannot
    be chosen cost no forward pass; the strategy itself then chooses from all it is given.
    """
    from raysubset.strategies.full import Full
    from raysubset.strategies.glister import Glister
    from raysubset.strategies.uniform import AdaptiveRandom, Random

    if name in ("full", "proxy"):
        return Full()
    if name == "random":
        return Random(balance=selection.balance)
    if name == "adaptive-random":
        return AdaptiveRandom(balance=selection.balance)
    own = selection.glister
    return Glister(
        gradient=own.gradient,
        step=own.step,
        step_size=own.step_size,
        picks=picks_of(own.picks),
        balance=selection.balance,
        normalize=own.normalize,
        regularizer=regularizer_of(own.regularizer),
    )


def filters_of(names: tuple[str, ...]) -> tuple[Filter, ...]:
    """Return the filters of `selection.filters`, in their order."""
    from raysubset.core.filters import ExactDuplicates

    return tuple({"duplicates": ExactDuplicates()}[name] for name in names)
