"""The settings of what is learned: data, model, training. Plain values; no torch in here.

Every field's docstring is its help text on the command line.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raysubset.redaction import holds_credentials, unprintable

MOST = 2**31 - 1
"""Above every count that a run can have; products of two fit the 64 bits of ids and bytes."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Format = Literal[
    "auto",
    "digits",
    "cifar10",
    "parquet-images",
    "image-folder",
    "tabular",
    "hf",
    "numpy",
    "factory",
]
Layout = Literal["auto", "NHWC", "NCHW"]


class Settings(BaseModel):
    """A frozen section of the experiment: unknown keys are refused, floats must be finite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true for 1; YAML's bare on and off are the words where an option has them."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if not isinstance(value, bool) or annotation is bool:
            return value
        if "on" in get_args(annotation):
            return "on" if value else "off"
        raise ValueError("must not be true or false; give a value of the option's own kind")

    @field_validator("*", mode="before")
    @classmethod
    def _names_can_be_written(cls, value: Any) -> Any:
        """Refuse what ends a path early, forges a line, or cannot be written down."""
        if isinstance(value, str) and (odd := unprintable(value)):
            raise ValueError(
                f"must not hold control characters or broken text (here {odd!a}); rename it"
            )
        return value


def _no_credentials(text: str) -> str:
    """Refuse an address with a user, a password or a token in it."""
    if holds_credentials(text):
        raise ValueError(
            "must hold no credentials, because options are written down; keep them in the "
            "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "GOOGLE_APPLICATION_CREDENTIALS, AZURE_CLIENT_ID ...); an @ in a name is written %40"
        )
    return text


Text = Annotated[str, AfterValidator(_no_credentials)]


def _share_or_path(value: Any) -> Any:
    """Read a number however it is written; a text that is none is a path."""
    try:
        share = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        return value
    if share is not None and not 0 < share < 1:
        hint = f"; did you mean {share / 100:g}?" if 1 <= share < 100 else ""
        raise ValueError(f"must be a share in (0, 1), or a path{hint}")
    return value if share is None else share


Part = Annotated[float | Text | None, BeforeValidator(_share_or_path)]


def _split_names(value: Any) -> Any:
    """Read COLUMN,COLUMN or a list of such; a comma inside double quotes divides nothing."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        return value
    names = (name.strip() for item in items for name in re.findall(r'\s*("[^"]*"|[^,]+)', item))
    return tuple(dict.fromkeys(name for name in names if name))


Names = Annotated[tuple[Text, ...], BeforeValidator(_split_names)]


class DataSettings(Settings):
    """What is learned from."""

    path: Text | None = None
    """A Parquet file or folder, an image folder (a class per folder), a CSV file, .npz or .npy, a
    folder of Hugging Face's save_to_disk: by path or URI (s3, gs, abfs, file); hf:NAME on its hub
    (uv sync --extra hf), or module:factory of your own map-style datasets."""

    format: Format = "auto"
    """What stands at the path; auto looks. Without a path: digits, or cifar10 (downloaded)."""

    split: Text | None = None
    """The split of a Hugging Face dataset with the train rows (default: train, or the only one)."""

    hub_config: Text | None = None
    """Which config of a dataset on the Hugging Face hub that has several."""

    hub_revision: Text | None = None
    """Branch, tag or commit of a dataset on the Hugging Face hub (default: its newest)."""

    layout: Layout = "auto"
    """Where the channels of arrays of images stand (numpy, module:factory); auto: by the shape."""

    labels: Text | None = None
    """A file (Parquet, CSV, npy, npz) whose row i labels train row i, in place of the data's own
    labels; FILE:COLUMN names its column too."""

    labels_key: Text | None = None
    """The column of that file with the rows' keys (paths of images): labels are joined by it."""

    label_column: Text | None = None
    """The column of the labels (default: label)."""

    validation_label_column: Text | None = None
    """A column with trusted labels, for the rows held out of the train rows (not for the pool)."""

    key_column: Text | None = None
    """A column with your own name of each row (text or integers, unique): no feature; it stands in
    ledger, explain, export and report. Default: an image's path, else the row's number."""

    drop: Names = ()
    """Columns of a table to leave out, such as identifiers: COLUMN,COLUMN."""

    categorical: Names = ()
    """Columns of a table that are categories though they hold integers: COLUMN,COLUMN. Text always
    is; all other numbers are standardised."""

    validation: Part = None
    """The part that drives the selection: a path, or the share of the train rows (default 0.1)."""

    tuning: Part = None
    """A part for choosing options by their score: a path or a share (default: none)."""

    test: Part = None
    """The part that reports: a path, or a share (default: the data's own test part, else 0.2)."""

    test_seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Which rows are test rows, where they are split off: by this seed (default: the run's own)."""

    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a bad row (unreadable image, missing label or value, NaN) does: stop the run before any
    work, or be skipped: never chosen nor trained on, counted, and listed in skipped.csv. At most
    half of the rows. --on-bad-sample is the same option."""

    limit: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    """Keep at most this many train rows (and test rows), drawn by seed: a quicker look."""

    memory_mb: Literal["auto"] | Count = "auto"
    """What the images of a part may take in memory; more lie in a file without a name below TMPDIR,
    and give the same run. auto: half of what this machine or its container has."""

    @model_validator(mode="after")
    def _digits_without_a_path(self) -> Self:
        """Name the embedded data where nothing is named, so that the resolved config says it."""
        if self.path is None and self.format == "auto":
            # Not as a field that was set: an option beside a file says nothing of its format.
            object.__setattr__(self, "format", "digits")
        return self

    def of_sources(self) -> dict[str, Any]:
        """Return what decides which rows there are, before they are split by seed."""
        return self.model_dump(exclude={"test_seed"})


REGISTRIES = ("timm", "torchvision")


def is_of_registry(name: str) -> bool:
    """Return whether a name is that of a published model, timm:NAME or torchvision:NAME."""
    return name.partition(":")[0] in REGISTRIES and ":" in name


class ModelSettings(Settings):
    """What learns."""

    name: Text = "auto"
    """resnet18, convnet, mlp, auto (by the data), timm:NAME, torchvision:NAME, or module:factory
    for your own nn.Module."""

    head: Text | None = None
    """The final nn.Linear by name, for instance classifier.3; found where not given."""

    adapter: Text | None = None
    """module:function that takes what your model returns and gives the logits; needed only where
    it returns several tensors and none of them is called logits."""

    inputs: Literal["normalised", "raw"] = "normalised"
    """What the model is given: values with mean 0 and spread 1 over the pool, or, raw, the data's
    own numbers as float32 (pixels 0..255, token ids)."""

    frozen: bool = False
    """Train the head alone: every other weight stays, and so do BatchNorm's statistics. Scoring
    then reads the embeddings of the first time again."""


class TrainingSettings(Settings):
    """How it learns: SGD with Nesterov momentum, warm-up and cosine over example visits."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Epochs; each visits the budget once (the whole pool for strategy full)."""

    batch_size: Count = 32
    """Examples per step, over all ranks."""

    lr: Annotated[float, Field(gt=0)] = 0.05
    """The peak learning rate."""

    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum."""

    nesterov: bool = True
    """Nesterov's form of the momentum (needs momentum above 0)."""

    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty on the weights."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """The share of all example visits over which the learning rate rises from 0."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing of the training loss; selection always uses the plain cross-entropy."""

    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Clip the gradient to this norm; off by default."""

    augment: Literal["auto", "none", "crop", "crop_flip"] = "auto"
    """Per-example augmentation, in training only; auto: crop for grey images, + flip for colour."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast type; auto: bf16 on GPUs that have it, fp16 on other GPUs; on a CPU that has bf16,
    for a run of minutes or more, what is measured to be quicker, once and then kept; else fp32."""

    channels_last: Literal["auto", "on", "off"] = "auto"
    """Memory layout of images; auto: on for GPUs; on a CPU as for precision, else off."""

    compile: bool = False
    """Train through torch.compile; scoring and evaluation stay eager. Needs a C++ compiler."""

    deterministic: bool = False
    """The same bits from every run on GPUs too, at some speed; CPU runs have them anyway."""
