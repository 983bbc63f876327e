"""The examination of a place: a run, a comparison, a frontier or a selection; a path or a URI."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysubset.chain import EXPERIMENT, FINGERPRINT, MANIFEST
from raysubset.doctor.finding import Finding
from raysubset.errors import RaySubsetError, RunFolderError
from raysubset.experiment import Experiment, read_yaml
from raysubset.files import read_object
from raysubset.report.pages import SUMS
from raysubset.schedule import Phase, plan
from raysubset.scratch import scratch_folder
from raysubset.storage.addresses import is_uri
from raysubset.storage.remote import Remote
from raysubset.storage.staging import shown
from raysubset.verifying.contents import (
    REPORT,
    check_events,
    check_report,
    check_round_files,
    check_run_files,
    check_tables,
    kept_from,
)
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.links import read_chain
from raysubset.verifying.progress import check_progress
from raysubset.verifying.records import Whole, check_choices, check_history, check_result
from raysubset.verifying.selected import SELECTION, check_selection
from raysubset.verifying.strangers import check_strangers

_LOOKS = 6  # a commit, a checkpoint that goes and its observations are a change each
_FRONTIER = "frontier.yaml"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found in a place.

    Attributes:
        where: the path or URI.
        folders: (what a folder is called, its findings), one a run.
        strict: whether what could not be checked counts as a failure.
    """

    where: str
    folders: tuple[tuple[str, tuple[Finding, ...]], ...]
    strict: bool = False

    @property
    def exit_code(self) -> int:
        """1 where something is damaged (or, strictly, could not be checked), else 0."""
        bad = ("failed", "skipped") if self.strict else ("failed",)
        return int(any(f.status in bad for _, findings in self.folders for f in findings))

    @property
    def verdict(self) -> str:
        """One line: what is damaged, and what was not looked at."""
        failed, left_out = self._named("failed"), self._named("skipped")
        also = f"; not checked: {', '.join(left_out)}" if left_out else ""
        if failed:
            return f"DAMAGED: {', '.join(failed)}{also}"
        if left_out and self.strict:
            return f"whole as far as it was checked, and --strict asks for all{also}"
        return f"whole{also}"

    def _named(self, status: str) -> list[str]:
        """Return the checks with a status, by folder where there are several."""
        found: list[str] = []
        for folder, findings in self.folders:
            start = f"{folder}: " if len(self.folders) > 1 else ""
            found += [start + f.name for f in findings if f.status == status]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return one document; its keys stay, and new ones may come."""
        return {
            "schema": SCHEMA,
            "where": self.where,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "strict": self.strict,
            "folders": [
                {"folder": folder, "checks": [_told(finding) for finding in findings]}
                for folder, findings in self.folders
            ],
        }


def _told(finding: Finding) -> dict[str, Any]:
    told = finding.to_json()
    return {**told, "status": "not checked"} if finding.status == "skipped" else told


def verify(
    place: str, *, gains: bool = True, model: str | None = None, strict: bool = False
) -> Examined:
    """Look at everything that lies in a place; nothing is written there, and no lock is taken.

    Args:
        place: the folder or URI of a run, a comparison, a frontier or a selection.
        gains: also make choices again, and a sample of gains, where data and weights are there.
        model: the `module:factory` of the run that may be imported.
        strict: what could not be checked fails too.

    Raises:
        RunFolderError: it holds none of these, or cannot be read.
    """
    with _fetched(place) as folder:
        looked = tuple(_folders(folder, gains=gains, model=model))
    if not looked:
        raise RunFolderError(
            f"{place} holds no run, comparison, frontier or selection; check the path."
        )
    return Examined(where=place, folders=looked, strict=strict)


@contextmanager
def _fetched(place: str) -> Generator[Path]:
    """Give the folder, or a copy of what a URI holds: of a store nothing else is asked."""
    if not is_uri(place):
        yield Path(place).absolute()
        return
    remote = Remote.at(place)
    with scratch_folder() as home:
        names = [n for n in remote.list() if not any(p in ("", ".", "..") for p in n.split("/"))]
        remote.download_all(names, home)
        yield home


def _folders(
    folder: Path, *, gains: bool, model: str | None
) -> Generator[tuple[str, tuple[Finding, ...]]]:
    if (folder / SELECTION).is_file():
        yield SELECTION, _findings(check_selection(Run(folder=folder)))
        return
    if is_run(folder):
        yield folder.name, verify_run(Run(folder=folder), gains=gains, model=model)
        return
    trial = (folder / _FRONTIER).is_file()
    home = folder / "trials" if trial else folder
    inner = [path for path in sorted(home.glob("*")) if path.is_dir() and is_run(path)]
    for path in inner:
        name = path.relative_to(folder).as_posix()
        run = Run(folder=path, prefix=f"{name}/", trial=trial)
        yield name, verify_run(run, gains=gains, model=model)
    if inner:
        yield "report", _findings([check_report(Run(folder=folder)), *_unnamed(folder, inner)])


def _unnamed(folder: Path, inner: list[Path]) -> list[Check]:
    """Say which files of a comparison or frontier nothing vouches for."""
    check, own = Check(name="other files"), {*REPORT, SUMS}
    names = [p.name for p in sorted(folder.glob("*")) if p.is_file() and p.name not in own]
    if names := [name for name in names if not name.startswith(".")]:
        check.unchecked.append(f"{', '.join(names)}: nothing vouches for it beside the runs")
    homes = {path.name for path in inner} | {"plots", "trials"}
    strange = [p.name for p in sorted(folder.glob("*")) if p.is_dir() and p.name not in homes]
    for name in strange:
        if not name.startswith("."):
            check.differs(name, "is no run, and nothing names it")
    return [check]


def is_run(folder: Path) -> bool:
    """Return whether this is a run folder, however damaged."""
    return (folder / EXPERIMENT).is_file() or any(folder.glob(f"rounds/[0-9]*/{MANIFEST}"))


def verify_run(run: Run, *, gains: bool, model: str | None) -> tuple[Finding, ...]:
    """Return the findings of every check of a run.

    A writer may be at work: what fails is looked at again where its manifests or the names of its
    files changed meanwhile, and so is everything where a file went away that was about to be read.

    Raises:
        RunFolderError: files went away at every look.
    """
    findings: tuple[Finding, ...] | None = None
    for _ in range(_LOOKS):
        with suppress(FileNotFoundError):
            before = _state(run)
            findings = _findings(_look(run, gains=gains, model=model))
            failed = any(finding.status == "failed" for finding in findings)
            if not failed or _state(run) == before:
                break
    if findings is None:
        raise RunFolderError(f"{shown(run.folder)} changes too fast; look again in a moment.")
    return findings


def _findings(checks: list[Check]) -> tuple[Finding, ...]:
    return tuple(finding for check in checks for finding in check.findings())


def _look(run: Run, *, gains: bool, model: str | None) -> list[Check]:
    experiment, identity = _experiment(run), read_object(run.folder / FINGERPRINT)
    chain = read_chain(run, identity)
    phases = _phases(experiment, identity)
    planned = None if phases is None else len(phases)
    files = check_round_files(run, chain, kept_from(run, chain, experiment))
    begun = check_run_files(run, chain, experiment)
    damaged = files.damaged | begun.damaged
    tables, found = check_tables(run, chain, damaged)
    whole = Whole(
        experiment=experiment,
        identity=identity,
        phases=phases,
        tables=found,
        damaged=damaged | tables.damaged,
    )
    checks = [check_progress(run, chain, planned), chain.check, begun, files, tables]
    checks += [check_choices(run, chain, whole), check_history(run, chain, whole.damaged)]
    checks += [check_result(run, chain, whole), check_report(run), check_events(run)]
    checks.append(check_strangers(run, chain))
    if gains:
        from raysubset.verifying.gains import check_gains  # strategies, training: 0.3 s

        checks.append(check_gains(run, chain, whole, model))
    else:
        checks.append(Check(name="gains", unchecked=["no choice was made again: --no-gains"]))
    return checks


def _experiment(run: Run) -> Experiment | None:
    try:
        return Experiment.of(read_yaml(run.folder / EXPERIMENT))
    except (RaySubsetError, OSError):
        return None


def _phases(
    experiment: Experiment | None, identity: dict[str, Any] | None
) -> tuple[Phase, ...] | None:
    if experiment is None or identity is None or not isinstance(identity.get("pool"), int):
        return None
    try:
        return plan(experiment, identity["pool"], identity.get("rows"))
    except (RaySubsetError, TypeError, ValueError, ZeroDivisionError):
        return None


def _state(run: Run) -> list[tuple[str, int]]:
    """Return what changes when a writer commits, keeps epochs or ends."""
    found: list[tuple[str, int]] = []
    for path in sorted(run.folder.rglob(MANIFEST)):
        try:
            found.append((str(path), path.stat().st_mtime_ns))
        except OSError:
            continue  # gone meanwhile
    # A writer that prunes changes no manifest.
    named = (*run.folder.glob("rounds/*/*"), *run.folder.glob("rounds/*/checkpoint/*"))
    return found + [(str(path), 0) for path in sorted(named)]
