"""From the words of a command line, and an experiment file, to an experiment."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from raysubset.errors import ConfigError, RunFolderError
from raysubset.experiment import Experiment
from raysubset.experiment import options as every_option
from raysubset.files import LOCK
from raysubset.own_code import refuse_stored_code
from raysubset.redaction import redacted, unprintable
from raysubset.storage.staging import shown, staged

if TYPE_CHECKING:
    from raysubset.preparation import Prepared

SHORT = {
    "--strategy": "--selection.strategy",
    "--fraction": "--selection.fraction",
    "--epochs": "--training.epochs",
    "--on-bad-sample": "--data.on_bad_row",
}
BUILT_IN_DATA = ("digits", "cifar10")

Options = Annotated[Experiment | None, Parameter(name="*")]
RunDir = Annotated[
    str | None,
    Parameter(
        name="--run-dir",
        help="The folder of the run, or a URI (s3, gs, abfs, file); default: a new one in runs/.",
    ),
]
File = Annotated[str | None, Parameter(help="An experiment in YAML; options win over it.")]
Resume = Annotated[bool, Parameter(negative="", help="Continue after the last finished round.")]
Local = Annotated[
    bool,
    Parameter(negative="", help="One process, without Ray: the same ids; best for small data."),
]
RunFolder = Annotated[str, Parameter(help="The folder of a run, or its URI.")]


@contextmanager
def worked_in(run_dir: str | None) -> Generator[Path | None]:
    """Give the local folder of a --run-dir, which may be a URI; None where none was given.

    What is written there is in the store when this ends well; `staging.shown` gives the URI back.

    Raises:
        RunFolderError: an address that cannot be used, before any work.
    """
    if not run_dir:
        yield None
        return
    if odd := unprintable(run_dir):
        raise RunFolderError(
            f"--run-dir={redacted(run_dir)!a} must not hold control characters or broken text "
            f"(here {odd!a}); choose another name."
        )
    with staged(run_dir) as folder:
        yield folder


def resolve(
    file: str | None, given: Experiment | None, run_dir: Path | None, *, resume: bool, local: bool
) -> Experiment:
    """Return the experiment of a file and the options given; options win.

    A run that is resumed without a file starts from its own stored experiment; and what was auto
    when it began is what it became then, on whatever machine it goes on. One that was killed
    before it had said whose folder it is begins by its options.
    """
    asked = resume and file is None and not (given is not None and _died_at_once(run_dir))
    stored = Experiment.read(_stored(run_dir)) if asked else None
    if stored is not None and run_dir is not None:
        refuse_stored_code(stored, given, shown(run_dir))
    experiment = resolve_over({}, file, given, stored)
    if resume and (path := _begun(run_dir)):
        experiment = as_begun(experiment, Experiment.of(Experiment.read(path)))
    return settle(experiment, local=local)


def as_begun(experiment: Experiment, begun: Experiment) -> Experiment:
    """Return the experiment with what is auto as it became when the run was begun."""
    resources, training = experiment.resources, experiment.training
    if resources.workers == "auto":
        resources = resources.model_copy(update={"workers": begun.resources.workers})
    names = ("precision", "channels_last")
    became = {n: getattr(begun.training, n) for n in names if getattr(training, n) == "auto"}
    training = training.model_copy(update=became)
    return experiment.model_copy(update={"resources": resources, "training": training})


def with_measured_numbers(prepared: Prepared, run_dir: Path | None, *, local: bool) -> Prepared:
    """Return the run with its precision and layout decided, where that is for this CPU to say.

    Not where a folder was begun (it stands there), on GPUs, and on a cluster, whose nodes may be
    other machines than this one: there auto is what it is without a measurement.
    """
    from raysubset.preparation import on_gpus_here, with_numbers

    if _begun(run_dir) or on_gpus_here(prepared.experiment):
        return prepared
    if not local:
        from raysubset.cluster.session import on_a_cluster

        if on_a_cluster():
            return prepared
    return with_numbers(prepared)


def settle(experiment: Experiment, *, local: bool) -> Experiment:
    """Return the experiment with a number for its ranks: as many as fit where it runs."""
    if experiment.resources.workers != "auto":
        return experiment
    if local:
        from raysubset.preparation import settled_here

        return settled_here(experiment)
    from raysubset.cluster.session import settled_on_ray

    return settled_on_ray(experiment)


def resolve_over(
    defaults: Mapping[str, Any],
    file: str | None,
    given: Experiment | None,
    stored: Mapping[str, Any] | None,
) -> Experiment:
    """Return the experiment of a command's defaults, a file (or what is stored), and options."""
    values = _merged(defaults, stored or (Experiment.read(file) if file is not None else {}))
    own = {} if given is None else given.model_dump(mode="json", exclude_unset=True)
    experiment = Experiment.of(_merged(values, own))
    data = experiment.data
    if data.path is None and data.format == "auto":
        section = data.model_copy(update={"format": "digits"})
        experiment = experiment.model_copy(update={"data": section})
    return experiment


TRUTHS = {f"--{name}" for name, field in every_option().items() if field.annotation is bool}
"""Options that are true or false, which may be followed by a word that says so."""


def long_forms(tokens: Sequence[str]) -> list[str]:
    """Return the tokens with the short forms written out."""
    words: list[str] = []
    queue = list(tokens)
    while queue:
        word, equals, value = queue.pop(0).partition("=")
        if word == "--data":
            if not equals:
                if not queue:
                    raise ConfigError("--data needs a value: digits, cifar10 or a path.")
                value = queue.pop(0)
            option = "--data.format" if value in BUILT_IN_DATA else "--data.path"
            words += [option, value]
        elif word in TRUTHS and not equals and queue and queue[0].lower() in ("true", "false"):
            words.append(f"{word}={queue.pop(0).lower()}")  # else cyclopts takes it for a file
        else:
            words.append(SHORT.get(word, word) + equals + value)
    return words


def _stored(folder: Path | None) -> Path:
    """Return the experiment that a folder was begun with: a run's, or a comparison's first."""
    if folder is None:
        raise ConfigError("--resume needs --run-dir, the folder of the run to continue.")
    path = _begun(folder)
    if path is None:
        raise RunFolderError(
            f"there is nothing to resume in {shown(folder)}; check --run-dir, or leave out "
            "--resume to begin there."
        )
    return path


def _died_at_once(folder: Path | None) -> bool:
    """Return whether a run was killed there before it had written its experiment."""
    if folder is None or _begun(folder) is not None:
        return False
    return (folder / LOCK).is_file() or (folder / "environment.json").is_file()


def begun_in(folder: Path | None, *, resume: bool) -> Path | None:
    """Return the folder of the run that goes on (a comparison's first one); None for a new one."""
    path = _begun(folder) if resume else None
    return None if path is None else path.parent


def _begun(folder: Path | None) -> Path | None:
    if folder is None:
        return None
    inner = (folder / name / "experiment.yaml" for name in ("glister", "random"))
    paths = (folder / "experiment.yaml", *inner, *sorted(folder.glob("*/experiment.yaml")))
    return next((path for path in paths if path.is_file()), None)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged
