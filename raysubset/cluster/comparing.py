"""Compare: a strategy beside its controls, one after the other, by one crew."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from raysubset.cluster.ray_run import hands, run_on
from raysubset.engine import Outcome, Watch
from raysubset.errors import ConfigError, RunFolderError
from raysubset.files import KINDS
from raysubset.local_run import run_local
from raysubset.preparation import ON_VALIDATION, Prepared, check_folder, for_strategy
from raysubset.storage.staging import shown

CONTROLS = ("adaptive-random", "full-compressed")
STATIC_CONTROLS = ("random",)
RunOne = Callable[[Prepared, Path, bool, Watch], Outcome]


def plan_comparison(prepared: Prepared) -> list[Prepared]:
    """Return the run of the strategy, then of each control that it is not itself.

    Raises:
        ConfigError: a strategy that trains on other rows than the pool.
    """
    asked = prepared.experiment.selection.strategy
    if asked in ON_VALIDATION:
        raise ConfigError(
            f"--strategy {asked} trains on other rows than its controls, and a comparison is on "
            "the same rows; `raysubset run` runs it alone, `raysubset frontier` beside others."
        )
    smaller = prepared.experiment.selection.goal == "smaller"
    controls = STATIC_CONTROLS if smaller else CONTROLS
    names = [asked, *(name for name in controls if name != asked)]
    return [for_strategy(prepared, name) for name in names]


def check_comparison(runs: list[Prepared], folder: Path, *, resume: bool) -> None:
    """Refuse a used folder, or one of another kind, before anything starts.

    Raises:
        RunFolderError: what it holds; its report would be overwritten.
    """
    for name, what in KINDS.items():
        if (folder / name).is_file():
            raise RunFolderError(
                f"{shown(folder)} holds {what}, no comparison; choose another --run-dir."
            )
    for each in runs:
        check_folder(each, folder_of(each, folder), resume=resume)


def folder_of(prepared: Prepared, folder: Path) -> Path:
    """Return the run folder of one strategy of a comparison."""
    return folder / prepared.experiment.selection.strategy


@contextmanager
def runner(prepared: Prepared, folder: Path, *, local: bool) -> Generator[RunOne]:
    """Return what runs one experiment: this process, or one crew for all of them."""
    if local:
        yield lambda one, path, resume, watch: run_local(one, path, resume=resume, watch=watch)
        return
    with hands(prepared.experiment, prepared.problem, folder) as both:
        yield lambda one, path, resume, watch: run_on(one, both, path, resume=resume, watch=watch)
