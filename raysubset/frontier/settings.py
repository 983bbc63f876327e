"""What a frontier compares, beside the experiment itself. Plain values; no torch in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from raysubset.errors import ConfigError
from raysubset.experiment import StrategyName
from raysubset.learn.settings import Settings
from raysubset.refusals import brief, unknown

MIN_SEEDS = 3
"""Below this, means are printed and nothing is decided."""
Fraction = Annotated[float, Field(gt=0, le=1)]


def _listed(value: Any) -> Any:
    """Read "0.1,0.3" as a list; YAML and Python give lists themselves."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, (int, float)) else value


def _one_or_more(value: Any) -> Any:
    """Read one text as a list of one."""
    return (value,) if isinstance(value, str) else value


class FrontierSettings(Settings):
    """Which runs a frontier is made of, and what is asked of them."""

    fractions: Annotated[tuple[Fraction, ...], BeforeValidator(_listed)] = (0.05, 0.1, 0.3, 0.5)
    """Shares of the pool, for instance 0.05,0.1,0.3,0.5."""

    strategies: Annotated[tuple[StrategyName, ...], BeforeValidator(_listed)] = (
        "glister",
        "random",
    )
    """What is asked about; the controls run beside them."""

    seeds: Annotated[int, Field(ge=1, le=1000)] = 5
    """Runs per strategy and fraction, with seeds seed, seed + 1, ...; 3 are needed to decide."""

    max_drop: Annotated[float, Field(ge=0, lt=100)] | None = 1.0
    """Accuracy points below full that you can live with; none: means only, no decision."""

    controls: bool = True
    """Whether the controls run; without them the report says so first."""

    find: bool = False
    """Bisect the fractions towards the smallest within the drop, instead of running them all."""

    max_runs: Annotated[int, Field(ge=1)] | None = None
    """With find: stop when the next look would take more runs than this."""

    sweep: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = ()
    """FIELD=V1,V2,...: values that every row and fraction chooses from, on the tuning part."""

    tune_lr: Annotated[int, Field(ge=2, le=50)] | None = None
    """Choose every row's learning rate among so many, each twice the one before."""

    search: Literal["grid", "optuna"] = "grid"
    """grid: every combination; optuna: samples drawn by Optuna, from ranges LOW..HIGH too."""

    samples: Annotated[int, Field(ge=2, le=1000)] | None = None
    """With search optuna: how many candidates of every row and fraction are drawn."""

    early_stop: Literal["none", "asha"] = "none"
    """asha: stop candidates that fall behind the others of their row and fraction."""

    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of this machine costs, in your currency: adds a column of costs."""

    @model_validator(mode="before")
    @classmethod
    def _one_strategy_to_find(cls, values: Any) -> Any:
        """Look for GLISTER's fraction where a search names no strategy."""
        if isinstance(values, dict) and values.get("find") and "strategies" not in values:
            return {**values, "strategies": ("glister",)}
        return values

    @field_validator("fractions", mode="before")
    @classmethod
    def _no_per_cent(cls, value: Any) -> Any:
        """Give per cent its own answer: the commonest slip in this field."""
        for number in _numbers(_listed(value)):
            if 1 < number <= 100:
                raise ValueError(
                    f"must lie in (0, 1]; for {number:g} per cent did you mean {number / 100:g}?"
                )
        return value

    @model_validator(mode="after")
    def _refuse_nonsense(self) -> FrontierSettings:
        for name in ("fractions", "strategies"):
            values: tuple[Any, ...] = getattr(self, name)
            written = [f"{v:.12g}" if isinstance(v, float) else v for v in values]  # as in a name
            twice = sorted({v for v in written if written.count(v) > 1})
            if not values:
                raise ValueError(f"{name} is empty; give at least one, as in {_EXAMPLES[name]}")
            if twice:
                raise ValueError(f"{name} repeats {', '.join(twice)}; give each once")
        if "full" in self.strategies:
            raise ValueError("strategies need not name full: it is the reference and always runs")
        if self.max_drop is not None and self.seeds < MIN_SEEDS:
            raise ValueError(
                f"seeds={self.seeds} cannot decide whether a drop of {self.max_drop:g} points is "
                f"kept: one spread needs at least {MIN_SEEDS} runs; raise --seeds, or give "
                "--max-drop none for means only"
            )
        if self.find and self.max_drop is None:
            raise ValueError("find needs a drop to find a fraction for; give --max-drop")
        if self.find and len(self.strategies) > 1:
            raise ValueError(
                f"find looks for one strategy's fraction, not for {', '.join(self.strategies)}'s; "
                "give one with --strategies"
            )
        least = MIN_SEEDS * (3 if self.controls else 2)
        if self.max_runs is not None and self.find and self.max_runs < least:
            raise ValueError(
                f"max_runs={self.max_runs} does not reach the first look, which takes {least} runs "
                f"({MIN_SEEDS} seeds of full, the strategy and its control); raise --max-runs"
            )
        if self.max_runs is not None and not self.find:
            raise ValueError("max_runs bounds a search; add --find, or leave it out")
        return self

    @model_validator(mode="after")
    def _refuse_nonsense_about_tuning(self) -> FrontierSettings:
        tuned, drawn = bool(self.sweep or self.tune_lr), self.search == "optuna"
        if self.early_stop != "none" and not tuned:
            raise ValueError("early_stop stops candidates; add --tune-lr or --sweep")
        if drawn and not self.sweep:
            raise ValueError("search optuna needs --sweep, as in --sweep training.lr=0.001..0.3")
        if drawn and self.tune_lr:
            raise ValueError("tune_lr is a grid; with optuna give --sweep training.lr=0.001..0.3")
        if drawn != (self.samples is not None):
            raise ValueError("search optuna and samples go together, as in --samples 10")
        if tuned and self.find:
            raise ValueError(
                "find cannot be joined with --sweep or --tune-lr: every fraction that it looks at "
                "would cost as many runs again as there are candidates; tune a frontier of the "
                "fractions in question instead"
            )
        return self


def settings_of(values: Mapping[str, Any]) -> FrontierSettings:
    """Return the settings of plain values; a `ConfigError` names the option and the remedy."""
    try:
        return FrontierSettings.model_validate(dict(values))
    except ValidationError as error:
        lines = dict.fromkeys(_sentence(each) for each in error.errors())
        raise ConfigError("\n".join(lines)) from None


def _sentence(error: Any) -> str:
    message = error["msg"].removeprefix("Value error, ")
    message = f"{message[0].lower()}{message[1:]}"
    if not error["loc"]:
        return message  # about several options, which it names itself
    option = str(error["loc"][0]).replace("_", "-")
    if error["type"] == "extra_forbidden":
        return unknown(option, [n.replace("_", "-") for n in FrontierSettings.model_fields], "--")
    return f"--{option} {brief(error['input'])}: {message}"


_EXAMPLES = {"fractions": "--fractions 0.1,0.3", "strategies": "--strategies glister,random"}


def _numbers(values: Any) -> list[float]:
    """Return those of the values that are numbers, however they are written."""
    found: list[float] = []
    for value in values if isinstance(values, Sequence) else ():
        try:
            found.append(float(value))
        except (TypeError, ValueError, OverflowError):
            continue
    return found
