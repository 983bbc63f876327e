"""The command line. Names become values here; heavy imports wait until a command needs them."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter
from pydantic import ValidationError
from rich.console import Console

from raysubset.errors import ConfigError, RaySubsetError, RunFolderError, Stopped
from raysubset.experiment import Experiment, did_you_mean, options, sentences

if TYPE_CHECKING:
    from raysubset.engine import Outcome
    from raysubset.preparation import Prepared
    from raysubset.screen import Screen

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 75
SHORT = {
    "--strategy": "--selection.strategy",
    "--fraction": "--selection.fraction",
    "--epochs": "--training.epochs",
}
BUILT_IN_DATA = ("digits", "cifar10")

app = App(
    name="raysubset",
    help="Which of my examples are worth training on, and how few are enough?",
    help_epilogue=(
        "Short forms: --data (digits, cifar10 or a path), --strategy, --fraction, --epochs, "
        "--seed, --run-dir. Without --data: scikit-learn's digits."
    ),
    version_flags=["--version"],
)
Options = Annotated[Experiment | None, Parameter(name="*")]
RunDir = Annotated[
    str | None,
    Parameter(name="--run-dir", help="The folder of the run; default: a new one under runs/."),
]
File = Annotated[str | None, Parameter(help="An experiment in YAML; options win over it.")]
Resume = Annotated[bool, Parameter(negative="", help="Continue after the last finished round.")]
Local = Annotated[
    bool,
    Parameter(negative="", help="One process, without Ray: the same ids; best for small data."),
]
RunFolder = Annotated[str, Parameter(help="The folder of a run.")]


@app.command
def compare(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    run_dir: RunDir = None,
    resume: Resume = False,
    local: Local = False,
) -> None:
    """Train a strategy, adaptive random and full at equal compute on one seed; say who wins."""
    from raysubset.cluster.comparing import check_comparison, folder_of, plan_comparison, runner
    from raysubset.preparation import new_run_folder, prepare
    from raysubset.report.comparison import write_comparison
    from raysubset.report.table import rows_of, text_table
    from raysubset.report.verdict import verdict

    first = prepare(resolve(file, experiment, run_dir, resume=resume))
    runs = plan_comparison(first)
    name = f"{first.identity['name']}-compare"
    folder = Path(run_dir).absolute() if run_dir else new_run_folder(first.experiment, name)
    check_comparison(runs, folder, resume=resume)
    console = Console()
    _announce(console, first, folder)
    outcomes: list[Outcome] = []
    with _stoppable(folder), runner(first, folder, local=local) as run_one:
        for each in runs:
            with _screen(console).showing(each.experiment.selection.strategy) as watch:
                outcomes.append(run_one(each, folder_of(each, folder), resume, watch))
    _report_each(runs, folder)
    write_comparison(folder, [folder_of(each, folder) for each in runs])
    console.print("\n" + text_table(rows_of(outcomes)), highlight=False, soft_wrap=True)
    line = verdict(outcomes, first.identity["parts"]["test"])
    console.print(f"\n{line}", highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


@app.command
def run(
    file: File = None,
    /,
    *,
    experiment: Options = None,
    run_dir: RunDir = None,
    resume: Resume = False,
    local: Local = False,
) -> tuple[Any, Path]:  # cyclopts evaluates annotations, and Outcome would import torch
    """Train one strategy, round after round."""
    resolved = resolve(file, experiment, run_dir, resume=resume)
    return run_one(resolved, run_dir, resume, local=local)


@app.command(name="explain")
def explain_(
    run_folder: RunFolder,
    /,
    *,
    id: Annotated[int, Parameter(help="The example's global row number.")],
) -> None:
    """Say in which rounds an id was chosen, at which rank and gain."""
    from raysubset.answers import explain

    found = explain(run_folder, id)
    name = f" ({found.key})" if found.key else ""
    print(f"id {found.id}{name}: label {found.label}, part {found.part}")
    if found.dropped:
        print(f"dropped before every strategy: {found.dropped}")
    elif found.part != "pool":
        print(f"never a candidate: it is in {found.part}, and only the pool is chosen from")
    elif not found.choices:
        print(f"never chosen in {found.rounds} rounds")
    for choice in found.choices:
        gain = "not scored" if choice.gain is None else f"gain {choice.gain:.6g}"
        print(
            f"round {choice.round}: chosen by {choice.strategy} as number {choice.rank:,} of "
            f"{choice.budget:,}, {gain}, trained in epochs {choice.epochs}"
        )


@app.command(name="export")
def export_(
    run_folder: RunFolder,
    /,
    *,
    format: Annotated[
        Literal["txt", "csv", "json", "parquet"],
        Parameter(help="txt: an id per line; the others with rank, label, gain and weight too."),
    ] = "txt",
    round: Annotated[
        int | None, Parameter(help="Which round, the number of its folder; default: the last.")
    ] = None,
    output: Annotated[
        str | None,
        Parameter(help="The file; default: ids-round-<n>.<format> in the run folder."),
    ] = None,
) -> None:
    """Write the chosen ids of a round, in the order of choice."""
    from raysubset.answers import export

    print(export(run_folder, format, round_=round, output=output))


def run_one(
    experiment: Experiment, run_dir: str | None, resume: bool, *, local: bool
) -> tuple[Outcome, Path]:
    """Run one experiment with a person looking on; return its outcome and folder."""
    from raysubset.preparation import check_folder, new_run_folder, prepare
    from raysubset.report.table import rows_of, text_table

    prepared = prepare(experiment)
    folder = (
        Path(run_dir).absolute()
        if run_dir
        else new_run_folder(experiment, prepared.identity["name"])
    )
    check_folder(prepared, folder, resume=resume)
    console = Console()
    _announce(console, prepared, folder)
    with _stoppable(folder), _screen(console).showing(experiment.selection.strategy) as watch:
        outcome = _runner(local)(prepared, folder, resume=resume, watch=watch)
    _report_each([prepared], folder)
    console.print("\n" + text_table(rows_of([outcome])), highlight=False, soft_wrap=True)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    return outcome, folder


def resolve(
    file: str | None, given: Experiment | None, run_dir: str | None, *, resume: bool
) -> Experiment:
    """Return the experiment of a file and the options given; options win.

    A run that is resumed without a file starts from its own stored experiment.
    """
    values: dict[str, Any] = {}
    if file is not None:
        values = Experiment.read(file)
    elif resume:
        values = Experiment.read(_stored(run_dir))
    own = {} if given is None else given.model_dump(mode="json", exclude_unset=True)
    experiment = Experiment.of(_merged(values, own))
    data = experiment.data
    if data.path is None and data.format == "auto":
        section = data.model_copy(update={"format": "digits"})
        experiment = experiment.model_copy(update={"data": section})
    return experiment


def _stored(run_dir: str | None) -> Path:
    """Return the experiment that a folder was begun with: a run's, or a comparison's first."""
    if not run_dir:
        raise ConfigError("--resume needs --run-dir, the folder of the run to continue.")
    folder = Path(run_dir)
    inner = (folder / name / "experiment.yaml" for name in ("glister", "random"))
    for path in (folder / "experiment.yaml", *inner, *sorted(folder.glob("*/experiment.yaml"))):
        if path.is_file():
            return path
    raise RunFolderError(f"there is nothing to resume in {folder}; check --run-dir.")


def main(tokens: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted, 75 terminated."""
    sys.exit(call(sys.argv[1:] if tokens is None else tokens)[0])


def call(tokens: Sequence[str]) -> tuple[int, Any]:
    """Return (exit code, what the command returned); errors are sentences, not tracebacks."""
    try:
        value = app(
            long_forms(tokens),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except cyclopts.CycloptsError as error:
        return _fail(_told(error), 2)
    except RaySubsetError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted.", EXIT_INTERRUPTED)
    return 0, value


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
        else:
            words.append(SHORT.get(word, word) + equals + value)
    return words


def _told(error: cyclopts.CycloptsError) -> str:
    """Return a parser's error in our words."""
    if isinstance(error.__cause__, ValidationError):
        return sentences(error.__cause__)
    if isinstance(error, cyclopts.UnknownOptionError):
        word = str(error.token.keyword or error.token.value).removeprefix("--")
        known = [*options(), "data", "strategy", "fraction", "epochs", "run-dir", "resume", "local"]
        return f"unknown option --{word}{did_you_mean(word, known).replace('mean ', 'mean --')}"
    return str(error)


def _fail(message: str, code: int) -> tuple[int, None]:
    print(f"error: {message}", file=sys.stderr)
    return code, None


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged


def _runner(local: bool) -> Callable[..., Outcome]:
    if local:
        from raysubset.local_run import run_local

        return run_local
    from raysubset.cluster.ray_run import run_ray

    return run_ray


def _announce(console: Console, prepared: Prepared, folder: Path) -> None:
    from raysubset.report.table import heading

    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
    told = heading(prepared.experiment, prepared.identity)
    console.print(told, highlight=False, markup=False, soft_wrap=True)
    for note in prepared.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def _report_each(runs: Sequence[Prepared], folder: Path) -> None:
    from raysubset.report.pictures import pictures_of
    from raysubset.report.run_report import write_report

    for each in runs:
        name = each.experiment.selection.strategy
        path = folder / name if (folder / name / "experiment.yaml").is_file() else folder
        write_report(path, pictures_of(each.problem.parts.pool))


def _screen(console: Console) -> Screen:
    from raysubset.screen import Screen

    return Screen(console)


@contextlib.contextmanager
def _stoppable(folder: Path) -> Generator[None]:
    """Own SIGTERM and Ctrl-C: end in good order and print how to go on."""

    def terminate(*_: object) -> None:
        raise _Terminated("terminated.")

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (KeyboardInterrupt, _Terminated, Stopped) as error:
        command = shlex.join(["raysubset", *sys.argv[1:]])
        if "--run-dir" not in command:
            command += f" --run-dir {shlex.quote(os.path.relpath(folder))}"
        if "--resume" not in command:
            command += " --resume"
        stopped = _Terminated if isinstance(error, _Terminated) else Stopped
        raise stopped(
            "stopped; rounds whose checkpoint was committed are kept. To go on after the last of "
            f"them:\n  {command}"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(Stopped):
    """SIGTERM: a scheduler wants its machine back; the run can be resumed."""

    exit_code = EXIT_TERMINATED


if __name__ == "__main__":
    main()
