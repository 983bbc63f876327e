"""Experiment: the only config. Frozen, validated; YAML and the command line give the same value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from raysubset.errors import ConfigError
from raysubset.learn.settings import (
    MOST,
    Count,
    DataSettings,
    ModelSettings,
    Settings,
    TrainingSettings,
)
from raysubset.refusals import LineOf, told
from raysubset.refusals import did_you_mean as did_you_mean
from raysubset.tracking.settings import TrackingSettings
from raysubset.yaml_files import Lines
from raysubset.yaml_files import read_yaml as read_yaml

StrategyName = Literal[
    "glister",
    "random",
    "adaptive-random",
    "full",
    "full-compressed",
    "full-validation-compressed",
    "validation-only",
    "random-validation",
]
LONGEST_S = 1e9
"""31 years: more than a clock of the system can wait for is refused."""
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]
_LATER = (
    *("data.key_column", "data.drop", "data.categorical", "data.split", "data.hub_config"),
    *("data.hub_revision", "data.layout", "data.labels_key"),
    *("model.adapter", "model.inputs", "model.frozen"),
)
"""Fields that came after runs were made; at their defaults they are no part of a digest."""
AUTO_RANKS = 2
"""What `resources.workers=auto` is, unless there is one GPU only."""
WHOLE_POOL = ("adaptive-random", "full-compressed", "full-validation-compressed")
"""What sees more than K ids, which `selection.goal=smaller` rules out."""


def _fraction(value: object) -> object:
    """Give per cent its own answer: the commonest slip in this field."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else 0.0
    except (ValueError, OverflowError):
        return value
    if 1 < number <= 100:
        raise ValueError(
            f"must lie in (0, 1]; for {number:g} per cent did you mean {number / 100:g}?"
        )
    return value


def _picks(text: str) -> str:
    from raysubset.named import picks_of

    try:
        picks_of(text)
    except ConfigError as error:
        raise ValueError(f"is refused: {error}") from None
    return text


def _regularizer(text: str) -> str:
    from raysubset.named import parse_call

    known = {"none": 0, "facility_location": 1, "diversity": 1, "random": 1}
    name, values = parse_call(text, known)
    if values and (values[0] < 0 or (name == "random" and values[0] > 1)):
        raise ValueError("needs LAM of at least 0, or SHARE in [0, 1]")
    return text


def _step_size(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return float(value) if abs(value) < 2**63 else value


class GlisterSettings(Settings):
    """GLISTER's own options."""

    gradient: Literal["last_layer", "bias"] = "last_layer"
    """last_layer; bias keeps the residual only (CORDS's default)."""

    step: Literal["mean", "sum"] = "mean"
    """mean: a full budget is one step along the subset's mean gradient; sum: step_size a pick."""

    step_size: Annotated[
        Literal["auto"] | Annotated[float, Field(gt=0)], BeforeValidator(_step_size)
    ] = "auto"
    """The look-ahead's step; auto: the one with the smallest validation loss on a fixed grid."""

    picks: Annotated[str, AfterValidator(_picks)] = "exact"
    """exact, block(SIZE), blocks(COUNT) or stochastic(EPSILON)."""

    normalize: bool = False
    """Rank by the cosine instead of the inner product."""

    regularizer: Annotated[str, AfterValidator(_regularizer)] = "none"
    """none, facility_location(LAM), diversity(LAM) or random(SHARE)."""


class SelectionSettings(Settings):
    """What is chosen, how much of it and how often."""

    strategy: StrategyName = "glister"
    """glister; controls: adaptive-random, random, full, full-compressed (full at equal compute),
    full-validation-compressed (pool and validation rows, as many visits), validation-only,
    random-validation (a random subset and the validation rows, as many visits)."""

    goal: Literal["faster", "smaller"] = "faster"
    """faster: every epoch visits the fraction, the pool stays (saves compute; papers: adaptive).
    smaller: keep one fraction, delete the rest, train from scratch (saves storage and labels;
    papers: static)."""

    proxy_epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Goal smaller: epochs over the whole pool of the proxy, the model that the choice reads."""

    fraction: Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1)] = 0.1
    """The share of the pool that an epoch visits."""

    select_every: Count = 10
    """Epochs between selections."""

    warm_start: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the epochs replaced by full-pool epochs with as many visits, at the start."""

    balance: Literal["validation", "pool", "equal", "none"] = "validation"
    """Class quotas, for every strategy alike: the shares of validation, the pool, or uniform."""

    filters: tuple[Literal["duplicates"], ...] = ()
    """What is dropped from the pool before any strategy: duplicates (exact ones)."""

    candidates: Annotated[float, Field(ge=1)] = 1.0
    """1: choose from all; m: score and choose from a fresh uniform sample of m * K ids."""

    batch_size: Count = 256
    """Examples per scoring call."""

    overlap: bool = False
    """Select for the next round beside a round's last epoch, at the weights at its start (--local,
    or dedicated scorers): hides the selection's time, with a choice that is an epoch older."""

    glister: GlisterSettings = GlisterSettings()

    @model_validator(mode="after")
    def _refuse_mixed_goals(self) -> SelectionSettings:
        """Refuse what would see more than the ids that goal smaller keeps."""
        if self.goal == "smaller" and self.strategy in WHOLE_POOL:
            raise ValueError(
                f"goal=smaller keeps {self.fraction:g} of the pool and deletes the rest, and "
                f"strategy {self.strategy} visits all of it; use random, or goal=faster"
            )
        if self.goal == "smaller" and self.warm_start:
            raise ValueError(
                f"goal=smaller trains from scratch, so warm_start={self.warm_start:g} would be "
                "thrown away; set it to 0 (proxy_epochs trains the model that chooses)"
            )
        return self


class ResourceSettings(Settings):
    """Where it runs."""

    workers: Literal["auto"] | Count = "auto"
    """Training ranks (DDP), a whole GPU each. Another number is another run: same curve, not the
    same ids. auto: 2, or 1 where there is one GPU; settled before the run begins, and kept."""

    scorers: Literal["auto"] | Count = "auto"
    """Scoring actors; any number gives the same ids. auto: one on every spare whole GPU; 2 on
    CPUs."""

    placement: Literal["auto", "actors", "crew"] = "auto"
    """Who scores: dedicated actors, the training crew in place, or actors where there is room."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a whole GPU per rank where there is any (too few are refused), else CPU."""

    threads_per_rank: Count = 1
    """torch threads of every process that trains, scores or selects (sums depend on it)."""

    selection_memory_mb: Count = 4096
    """What `select --embeddings` holds at most of the pool's embeddings and gradient factors; above
    it they lie in a temporary folder (TMPDIR), and block picks choose from there: the same ids."""

    start_timeout_s: Seconds = 60.0
    """How long the crew may wait for its places, and then for its first sign of life."""

    autoscaler_timeout_s: Seconds = 900.0
    """How long it may wait instead while an autoscaler can start the nodes that are missing."""

    call_timeout_s: Seconds = 600.0
    """How long one scoring call, or silence of a training rank, may last."""

    max_failures: Annotated[int, Field(ge=0, le=MOST)] = 3
    """How many times a lost training group, or scorer, is started again."""

    keep_checkpoints: Count = 2
    """How many of the newest rounds keep their checkpoint."""

    checkpoint_every_s: Annotated[float, Field(ge=0, le=LONGEST_S)] = 10.0
    """Within a round, write the state after an epoch at most this often; 0: after every epoch. It
    is what a kill can cost, beside the epoch in progress."""

    @property
    def ranks(self) -> int:
        """The number of training ranks; auto is what it is without a GPU until it is settled."""
        return AUTO_RANKS if self.workers == "auto" else self.workers

    def settled(self, gpus: int) -> ResourceSettings:
        """Return these settings with `workers` a number, for a place with this many whole GPUs."""
        if self.workers != "auto":
            return self
        ranks = min(AUTO_RANKS, gpus) if gpus and self.device != "cpu" else AUTO_RANKS
        return self.model_copy(update={"workers": ranks})


class Experiment(Settings):
    """Everything that a run depends on."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    selection: SelectionSettings = SelectionSettings()
    training: TrainingSettings = TrainingSettings()
    resources: ResourceSettings = ResourceSettings()
    tracking: TrackingSettings = TrackingSettings()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The seed of everything: parts, weights, order, augmentation, selection."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Experiment:
        """Return the experiment of nested values; a `ConfigError` names the option and remedy."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(sentences(error)) from None

    @classmethod
    def read(cls, path: str | Path) -> dict[str, Any]:
        """Return the nested values of a YAML file, checked as an experiment."""
        values = read_yaml(path)
        try:
            cls.model_validate(values)
        except ValidationError as error:
            why = sentences(error, Lines(path).of)
            raise ConfigError(f"experiment file {path}: {why}") from None
        return values

    def to_yaml(self) -> str:
        """Return the resolved config, every field spelled out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of what decides a run; see `deciding`."""
        flat, unset = flatten(self.deciding), flatten(Experiment().model_dump(mode="json"))
        kept = {k: v for k, v in flat.items() if k not in _LATER or v != unset[k]}
        text = json.dumps(nest(kept), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def deciding(self) -> dict[str, Any]:
        """The config without what no result depends on: where it reports, what lies on disk."""
        return self.model_dump(mode="json", exclude={"tracking": True, "data": {"memory_mb"}})

    def differences(self, other: Experiment) -> list[str]:
        """Return "section.option: a -> b" for everything that differs, of `deciding`."""
        mine, theirs = flatten(self.deciding), flatten(other.deciding)
        keys = [k for k in mine | theirs if mine.get(k) != theirs.get(k)]
        return [f"{key}: {mine.get(key)} -> {theirs.get(key)}" for key in keys]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as {"section.option": value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return {"section.option": value} as nested values."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, option = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[option] = value
    return nested


def options(section: type[BaseModel] = Experiment, prefix: str = "") -> dict[str, Any]:
    """Return every option as {"section.option": pydantic field}."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= options(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field
    return found


def sentences(error: ValidationError, line_of: LineOf | None = None) -> str:
    """Return what pydantic refused of an experiment: option, value, remedy; see `refusals.told`."""
    return told(error, list(options()), line_of)
