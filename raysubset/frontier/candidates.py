"""The candidates of a frontier: which values of which fields every row and fraction may choose.

Pure: text of `--sweep` and `--tune-lr` in, checked values out, or a refusal with its remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from raysubset.errors import ConfigError
from raysubset.experiment import Experiment, did_you_mean, flatten, nest, options
from raysubset.frontier.overrides import Values
from raysubset.frontier.settings import FrontierSettings

MOST_CANDIDATES = 1000
LR = "training.lr"
_WIDE = 10.0  # a range over at least one power of ten is drawn by its logarithm
_OWN_WAY = {
    "selection.fraction": "is what a frontier compares; give --fractions",
    "selection.strategy": "is what a frontier compares; give --strategies",
    "selection.goal": "is one for the whole frontier; give --goal",
    "selection.balance": "tells the controls apart; give --selection.balance for all rows",
    "selection.filters": "tells the controls apart; give --selection.filters for all rows",
    "training.epochs": "is the length that all rows share; give --epochs",
    "seed": "pairs the trials; give --seeds",
}
_GLISTERS = (
    "selection.glister.",
    "selection.warm_start",
    "selection.candidates",
    "selection.proxy_epochs",
    "selection.select_every",
)
"""What only a strategy that scores looks at; for others every candidate would be the same run."""
_SECTIONS = {
    "data": "decides what is learned and measured, the same for all rows",
    "resources": "says where a trial runs, not what it learns",
    "tracking": "says who is told, not what is learned",
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One swept field.

    Attributes:
        field: of the experiment, for instance "training.lr".
        values: what may be chosen; of a range, its two ends.
        is_range: whether everything between two ends may be chosen.
        by_log: of a range: whether it is drawn by its logarithm.
        whole: of a range: whether only integers lie in it.
    """

    field: str
    values: tuple[Any, ...]
    is_range: bool = False
    by_log: bool = False
    whole: bool = False


def is_tuned(settings: FrontierSettings) -> bool:
    """Return whether a frontier tunes anything."""
    return bool(settings.sweep or settings.tune_lr)


def axes_of(base: Experiment, settings: FrontierSettings) -> tuple[Axis, ...]:
    """Return what is swept; nothing where nothing is.

    Raises:
        ConfigError: a field that cannot be swept or does not exist, or a value it refuses.
    """
    axes = [_axis(base, text, settings.search) for text in settings.sweep]
    if settings.tune_lr:
        axes.append(Axis(field=LR, values=tuple(rates(base.training.lr, settings.tune_lr))))
    names = [axis.field for axis in axes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"--sweep names {', '.join(twice)} twice; give its values in one list.")
    if settings.search == "grid":
        _refuse_many(axes)
    return tuple(axes)


def rates(own: float, count: int) -> list[float]:
    """Return so many learning rates around an own one, ascending, each twice the one before.

    An even count has one more below the own rate: too small a rate only learns slower.
    """
    return [own * 2.0**step for step in range(-(count // 2), count - count // 2)]


def grid_of(axes: Iterable[Axis]) -> list[Values]:
    """Return every combination of the axes' values, the last axis fastest; [{}] without axes."""
    axes = list(axes)
    names = [axis.field for axis in axes]
    return [dict(zip(names, one, strict=True)) for one in product(*(a.values for a in axes))]


def axes_for(strategy: str, axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Return the axes that mean something to a strategy: GLISTER's own options are GLISTER's."""
    own = strategy == "glister"
    return tuple(a for a in axes if own or not a.field.startswith(_GLISTERS))


def own_values(base: Experiment, fields: Iterable[str]) -> Values:
    """Return what the experiment itself says of these fields."""
    flat = flatten(base.model_dump(mode="json"))
    return {field: flat[field] for field in fields}


def changed(experiment: Experiment, values: Values) -> Experiment:
    """Return the experiment with these fields changed, validated as if a person had given them."""
    flat = flatten(experiment.model_dump(mode="json"))
    return Experiment.of(nest({**flat, **values}))


def _axis(base: Experiment, text: str, search: str) -> Axis:
    field, equals, listed = (part.strip() for part in text.removeprefix("--").partition("="))
    _refuse_field(field, base.selection.goal)
    if not equals or not listed:
        raise ConfigError(f"--sweep {text}: needs values, as in --sweep training.lr=0.01,0.1.")
    ends = _ends(listed)
    if ends and search != "optuna":
        raise ConfigError(
            f"--sweep {text}: a grid takes values, not a range; list them, as in "
            f"--sweep {field}=0.01,0.1, or draw from the range with --search optuna --samples 10."
        )
    if ends:
        return _range(base, field, text, ends)
    values = [_value(base, field, part.strip()) for part in listed.split(",") if part.strip()]
    if len(values) < 2 or any(values.count(value) > 1 for value in values):
        raise ConfigError(
            f"--sweep {text}: needs at least two different values to choose from; for one value "
            f"give --{field} VALUE."
        )
    return Axis(field=field, values=tuple(values))


def _range(base: Experiment, field: str, text: str, ends: tuple[str, str]) -> Axis:
    low, high = (_value(base, field, end) for end in ends)
    if not all(isinstance(v, (int, float)) for v in (low, high)) or low >= high:
        raise ConfigError(f"--sweep {text}: a range is LOW..HIGH with LOW below HIGH.")
    by_log = low > 0 and high / low >= _WIDE
    whole = isinstance(low, int)
    return Axis(field=field, values=(low, high), is_range=True, by_log=by_log, whole=whole)


def _ends(listed: str) -> tuple[str, str] | None:
    """Return ("0.001", "0.3") for "0.001..0.3"; None for what is no range of numbers."""
    low, dots, high = listed.partition("..")
    try:
        return (low, high) if dots and [float(low), float(high)] else None
    except ValueError:
        return None


def _value(base: Experiment, field: str, text: str) -> Any:
    """Return a value as the experiment reads it."""
    try:
        return own_values(changed(base, {field: text}), [field])[field]
    except ConfigError as error:
        if text.lower() in ("none", "null"):
            return own_values(changed(base, {field: None}), [field])[field]
        raise ConfigError(f"--sweep {field}: {error}") from None


def _refuse_field(field: str, goal: str) -> None:
    meant = {"selection.proxy_epochs": "smaller", "selection.warm_start": "faster"}
    if meant.get(field, goal) != goal:
        raise ConfigError(f"--sweep {field}: means nothing with --goal {goal}; leave it out.")
    section = field.partition(".")[0]
    if field in _OWN_WAY:
        raise ConfigError(f"--sweep {field}: {_OWN_WAY[field]}.")
    if section in _SECTIONS:
        raise ConfigError(
            f"--sweep {field}: {section} {_SECTIONS[section]}; give --{field} for the frontier."
        )
    known = options()
    if field not in known:
        near = did_you_mean(field, list(known))
        raise ConfigError(f"--sweep {field}: the experiment has no such field{near}.")


def _refuse_many(axes: Iterable[Axis]) -> None:
    count = len(grid_of(axes))
    if count > MOST_CANDIDATES:
        raise ConfigError(
            f"--sweep makes {count:,} candidates of every row and fraction; give fewer values, or "
            "draw some of them with --search optuna --samples 20."
        )
