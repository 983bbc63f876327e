"""Strangers: what lies in a run folder, and who answers for it."""

from __future__ import annotations

import re
from pathlib import Path

from raysubset.answers import Format, export
from raysubset.chain import BEGUN_WITH, MANIFEST, RESULT
from raysubset.errors import RaySubsetError
from raysubset.files import TEMPORARY, read_object
from raysubset.report.pages import SUMS
from raysubset.scratch import scratch_folder
from raysubset.tracking.event_files import FOLDER as EVENTS
from raysubset.tracking.memory import TRACKING
from raysubset.unfinished import PARTIAL
from raysubset.verifying.contents import REPORT
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.links import Chain

_OWN = {*BEGUN_WITH, *REPORT, SUMS, MANIFEST, RESULT, "history.jsonl"}
_OF_TRIALS = {"trial.json", "failed.json", "stopped.json"}
_EXPORT = re.compile(r"ids-round-(\d+)\.(txt|csv|json|parquet)")

REMEDY = "move it out of the run folder: nothing here wrote it, or a round that is gone did"


def check_strangers(run: Run, chain: Chain) -> Check:
    """Find what no manifest names; look at exported ids, which are made of the rounds."""
    check, known = Check(name="other files", remedy=REMEDY), _named(run, chain)
    temporary, files = 0, sorted(p for p in run.folder.rglob("*") if not p.is_dir())
    for path in files:
        name = path.relative_to(run.folder).as_posix()
        if any(part.startswith(".") for part in Path(name).parts):
            temporary += path.name.endswith(TEMPORARY)
        elif name in known or _is_derived(name) or _is_open(name, len(chain.links)):
            continue
        elif match := _EXPORT.fullmatch(name):
            _check_export(run, path, int(match[1]), match[2], check)
        elif _is_left_over(name, chain):
            check.unchecked.append(f"{run.name(path)}: left over of a committed round, unused")
        elif name == TRACKING or (run.trial and name in _OF_TRIALS):
            check.unchecked.append(f"{run.name(path)}: nothing vouches for it")
        else:
            check.differs(run.name(path), "is named by no manifest")
    if temporary:
        what = f"{temporary} hidden temporary files: of a writer at work, or of one that was killed"
        check.unchecked.append(what)
    check.told = f"{len(files):,} files, and each has somebody to answer for it"
    return check


def _named(run: Run, chain: Chain) -> set[str]:
    named = set(_OWN)
    for link in chain.links:
        folder = link.folder.relative_to(run.folder).as_posix()
        named |= {f"{folder}/{name}" for name in (MANIFEST, *link.files)}
    return named


def _is_derived(name: str) -> bool:
    """Return whether a check of its own looks at it."""
    folder, _, last = name.rpartition("/")
    svg = folder == "plots" and last.endswith(".svg")
    return svg or (folder == EVENTS and last.startswith("events.out.tfevents."))


def _is_open(name: str, done: int) -> bool:
    """Return whether it is of the round that is not committed yet."""
    return name.startswith(f"rounds/{done:04d}/")


def _is_left_over(name: str, chain: Chain) -> bool:
    """Return whether a crash between a commit and what follows it left this."""
    parts = name.split("/")
    if len(parts) < 4 or parts[2] != PARTIAL or not parts[1].isdigit():
        return False
    return int(parts[1]) < len(chain.links)


def _check_export(run: Run, path: Path, number: int, kind: str, check: Check) -> None:
    """Export once more, elsewhere, and compare."""
    name, format_ = run.name(path), _format(kind)
    with scratch_folder() as folder:
        again = folder / path.name
        try:
            export(run.folder, format_, round_=number, output=str(again))
            same = again.read_bytes() == path.read_bytes() or _lacks_keys(path, again)
        except (RaySubsetError, OSError, KeyError, ValueError) as error:
            check.unchecked.append(f"{name}: it cannot be made again to compare ({error})")
            return
    if not same and kind == "parquet":  # another version of pyarrow writes other bytes
        check.unchecked.append(f"{name}: not the bytes that exporting gives now")
    elif not same:
        check.differs(name, f"is not what exporting round {number} gives")


def _lacks_keys(path: Path, again: Path) -> bool:
    """Return whether an export differs by nothing but keys, which JSON had none of once."""
    found, made = read_object(path), read_object(again)
    if found is None or made is None or "keys" in found:
        return False
    return found == {name: value for name, value in made.items() if name != "keys"}


def _format(kind: str) -> Format:
    formats: dict[str, Format] = {"csv": "csv", "json": "json", "parquet": "parquet"}
    return formats.get(kind, "txt")
