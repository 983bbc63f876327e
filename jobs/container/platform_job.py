"""What a managed training platform tells a container: folders, hosts and hyperparameters.

Variables come first (a script-mode toolkit sets them), then the files and folders that the
platform itself lays out below /opt/ml, which are there without a toolkit too:

    SM_CHANNEL_TRAIN          /opt/ml/input/data/train          (also VALIDATION, TUNING, TEST)
    SM_HPS                    /opt/ml/input/config/hyperparameters.json
    SM_HOSTS SM_CURRENT_HOST  /opt/ml/input/config/resourceconfig.json
    SM_MODEL_DIR              /opt/ml/model
    SM_OUTPUT_DATA_DIR        /opt/ml/output/data
    SM_CHECKPOINT_DIR         /opt/ml/checkpoints
    SAGEMAKER_BASE_DIR        another root than /opt/ml
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysubset.errors import ConfigError
from raysubset.experiment import Experiment, did_you_mean, nest, options

ROOT = "/opt/ml"
CHANNELS = {
    "train": ("train", "training"),  # "training" is what an SDK calls a single, unnamed input
    "validation": ("validation", "val"),
    "tuning": ("tuning",),
    "test": ("test", "testing"),
    "token": ("token",),
}
"""What a channel is for, and the names it may have."""

PLAIN = {
    "fraction": "selection.fraction",
    "strategy": "selection.strategy",
    "epochs": "training.epochs",
    "batch_size": "training.batch_size",  # selection has one too
    "model": "model.name",
}
"""Short names, as on the command line; every option also answers to its own last part."""

OF_THE_PLATFORM = ("sagemaker_", "_tuning_")
"""Hyperparameters that a platform adds for itself."""


@dataclass(frozen=True, kw_only=True)
class PlatformJob:
    """One training job, as one of its hosts sees it.

    Attributes:
        channels: what each input is for -> its folder.
        hyperparameters: as given, still text where the platform makes everything text.
        hosts: all hosts, in the order that all of them agree on; the first one leads.
        host: this one.
        name: the job's own name or ARN; "" where the platform tells none.
        model: where the platform takes the model from.
        output: where it takes everything else from.
        checkpoints: what it keeps while the job runs, and gives back to a restarted one.
        failure: the file whose text it shows as the reason of a failure.
    """

    channels: Mapping[str, Path]
    hyperparameters: Mapping[str, Any]
    hosts: tuple[str, ...]
    host: str
    name: str
    model: Path
    output: Path
    checkpoints: Path
    failure: Path

    @property
    def leads(self) -> bool:
        """Whether this host runs the experiment."""
        return self.host == self.hosts[0]

    @property
    def run_folder(self) -> Path:
        """The run's folder: a restarted job finds it, and goes on."""
        return self.checkpoints / "run"


def read_job(environ: Mapping[str, str], words: Sequence[str] = ()) -> PlatformJob:
    """Return the job that variables, files and words (`train`, or `--name value`) describe.

    Raises:
        ConfigError: something of it is not what the platform's own format says.
    """
    root = Path(environ.get("SAGEMAKER_BASE_DIR", ROOT))
    config = root / "input" / "config"
    hosts, host = _hosts(environ, _json_of(config / "resourceconfig.json"))
    given = environ.get("SM_HPS")
    told = _json_of(config / "hyperparameters.json") if given is None else _parsed(given, "SM_HPS")
    return PlatformJob(
        channels=_channels(environ, root / "input" / "data"),
        hyperparameters={**_pairs(words), **told},
        hosts=hosts,
        host=host,
        name=environ.get("TRAINING_JOB_ARN") or environ.get("TRAINING_JOB_NAME", ""),
        model=Path(environ.get("SM_MODEL_DIR", root / "model")),
        output=Path(environ.get("SM_OUTPUT_DATA_DIR", root / "output" / "data")),
        checkpoints=Path(environ.get("SM_CHECKPOINT_DIR", root / "checkpoints")),
        failure=failure_file(environ),
    )


def failure_file(environ: Mapping[str, str]) -> Path:
    """Return the file for the reason of a failure; it must be known before anything else is."""
    root = Path(environ.get("SAGEMAKER_BASE_DIR", ROOT))
    return Path(environ.get("SM_OUTPUT_DIR", root / "output")) / "failure"


def experiment_of(job: PlatformJob, gpus: int) -> Experiment:
    """Return the experiment of a job's hyperparameters and channels.

    Args:
        job: the job.
        gpus: how many GPUs each host has. Without `workers` among the hyperparameters there is a
            training rank per GPU, or per host where there is none.

    Raises:
        ConfigError: an unknown or impossible hyperparameter, with its remedy.
    """
    known = list(options())
    flat: dict[str, Any] = {"resources.workers": len(job.hosts) * max(1, gpus)}
    for name, value in job.hyperparameters.items():
        if not name.startswith(OF_THE_PLATFORM):
            flat[option_of(name, known)] = _plain(value)
    for part, option in _PARTS.items():
        if (folder := job.channels.get(part)) is not None:
            _refuse_twice(option, flat.get(option), part)
            flat[option] = str(folder)
    if flat.get("data.path") is None and flat.get("data.format") is None:
        raise ConfigError(
            "there is no train channel, so nothing to learn from; give the job an input named "
            "train, or the hyperparameter data.format=digits for a trial."
        )
    if (labels := flat.get("data.labels")) is not None and "train" in job.channels:
        flat["data.labels"] = str(job.channels["train"] / str(labels))  # an absolute one stays
    return Experiment.of(nest(flat))


def _refuse_twice(option: str, given: Any, part: str) -> None:
    if given is not None:
        raise ConfigError(
            f"hyperparameter {option}={given} and the input channel {part} name the same rows; "
            "give one of them."
        )


def option_of(name: str, known: Sequence[str]) -> str:
    """Return the "section.option" that a hyperparameter means.

    Raises:
        ConfigError: none, or more than one.
    """
    word = name.replace("-", "_")
    if word in known:
        return word
    if word in PLAIN:
        return PLAIN[word]
    same = [option for option in known if option.rpartition(".")[2] == word]
    if len(same) == 1:
        return same[0]
    if same:
        raise ConfigError(f"hyperparameter {name} may mean {' or '.join(same)}; write one of them.")
    raise ConfigError(
        f"unknown hyperparameter {name}{did_you_mean(word, [*PLAIN, *known])} The others are "
        "the options of `raysubset run --help`."
    )


_PARTS = {"train": "data.path"} | {p: f"data.{p}" for p in ("validation", "tuning", "test")}


def _plain(value: Any) -> Any:
    """Return a value in the form that an option takes, however often it was made text.

    Platforms hand everything over as text, and some SDKs write that text as JSON first: 0.1 comes
    as "0.1", and glister as '"glister"'. Numbers become text, which every option reads.
    """
    if isinstance(value, str) and (value == "null" or value[:1] in ('"', "[", "{")):
        try:
            return _plain(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _channels(environ: Mapping[str, str], data: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for part, names in CHANNELS.items():
        named = [environ.get(f"SM_CHANNEL_{name.upper()}") for name in names]
        laid_out = [str(data / name) for name in names if (data / name).is_dir()]
        if folder := next((f for f in [*named, *laid_out] if f), None):
            found[part] = Path(folder)
    return found


def _hosts(environ: Mapping[str, str], told: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    listed = _parsed(environ["SM_HOSTS"], "SM_HOSTS") if "SM_HOSTS" in environ else None
    hosts = sorted(listed if listed is not None else told.get("hosts", ["localhost"]))
    host = environ.get("SM_CURRENT_HOST") or told.get("current_host") or hosts[0]
    if host not in hosts:
        raise ConfigError(f"this host, {host}, is not among the job's hosts {hosts}.")
    return tuple(hosts), host


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Return {name: value} of "--name value" and "--name=value"; platforms also say `train`."""
    pairs: dict[str, str] = {}
    queue = [word for word in words if word != "train"]
    while queue:
        name, equals, value = queue.pop(0).partition("=")
        if not name.startswith("--") or not (equals or queue):
            raise ConfigError(f"unknown word {name}; give hyperparameters as --name value.")
        pairs[name.removeprefix("--")] = value if equals else queue.pop(0)
    return pairs


def _json_of(path: Path) -> Any:
    return _parsed(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else {}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}.") from None
