"""Contents: every file of a run against the hash that a manifest recorded of it."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysubset.chain import BEGUN_WITH, EXPERIMENT, MANIFEST, OPTIONAL, PARTS, RESULT
from raysubset.errors import RaySubsetError
from raysubset.experiment import Experiment
from raysubset.learn.checkpoint import file_hash
from raysubset.records import read_table
from raysubset.report.pages import SUMS
from raysubset.tracking.event_files import FOLDER as EVENTS
from raysubset.verifying.differences import Check, Run, short
from raysubset.verifying.links import STATE, Chain, Link

REPORT = ("report.md", "report.html")
_SUM = re.compile(r"([0-9a-f]{64})  (report\.(?:md|html)|plots/[\w.-]+\.svg)")
_AGAIN = "make the report again: raysubset report RUN"


def compare(run: Run, path: Path, digest: str, by: str, check: Check) -> bool:
    """Note a file that is missing or not what was recorded; return whether it is whole."""
    name = run.name(path)
    if not path.is_file():
        check.differs(name, f"is missing, and {by} names it")
        return False
    try:
        found = file_hash(path)
    except OSError as error:
        check.differs(name, f"cannot be read ({error.strerror})")
        return False
    if found != digest:
        told = f"{short(found)} ({path.stat().st_size:,} bytes)"
        check.differs(name, f"is not what {by} recorded", f"SHA-256 {short(digest)}", told)
    return found == digest


def check_round_files(run: Run, chain: Chain, kept_from: int) -> Check:
    """Compare every file that a round's manifest names.

    Args:
        run: where.
        chain: its manifests.
        kept_from: the first round whose state must still be there; older ones may be gone.
    """
    check, whole, gone = Check(name="files"), 0, list[int]()
    for link in chain.links:
        by = run.name(link.folder / MANIFEST)
        pruned = link.round < kept_from and _is_pruned(link)
        gone += [link.round] * pruned
        for name, digest in link.files.items():
            if not (pruned and name in STATE):
                whole += compare(run, link.folder / name, digest, by, check)
    if whole:
        check.told = f"{whole:,} files of {len(chain.links)} rounds have the SHA-256 recorded"
    if gone:
        check.unchecked.append(
            f"checkpoint and observations of {rounds_in(gone)}: not kept (older than "
            "resources.keep_checkpoints, or of a finished trial)"
        )
    return check


def _is_pruned(link: Link) -> bool:
    return not any((link.folder / name).exists() for name in (*STATE, "checkpoint"))


def rounds_in(numbers: list[int]) -> str:
    """Return "round 3", or "rounds 0-4"."""
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"rounds {numbers[0]}-{numbers[-1]}"
    return "rounds " + ", ".join(map(str, numbers))


def kept_from(run: Run, chain: Chain, experiment: Experiment | None) -> int:
    """Return the first round whose checkpoint must be there: the newest, and those kept beside it.

    A run that was resumed with other options of its own keeping has another digest; then only the
    newest is certain to be there.
    """
    count = len(chain.links)
    if run.trial and (run.folder / "trial.json").is_file():
        return count
    if experiment is None or not count:
        return max(0, count - 1)
    same = chain.links[-1].manifest.get("experiment") == experiment.digest
    return max(0, count - (experiment.resources.keep_checkpoints if same else 1))


def check_run_files(run: Run, chain: Chain, experiment: Experiment | None) -> Check:
    """Compare what the run was begun with, and its result."""
    check, whole = Check(name="run files"), 0
    named: Any = chain.links[0].manifest.get("run") if chain.links else None
    named = named if isinstance(named, dict) else {}
    for name in BEGUN_WITH:
        path = run.folder / name
        if isinstance(named.get(name), str):
            whole += compare(run, path, named[name], f"rounds/0000/{MANIFEST}", check)
        elif name not in OPTIONAL and not path.is_file():
            check.differs(run.name(path), "is missing: every run has one")
        elif path.is_file():
            check.unchecked.append(f"{run.name(path)}: no manifest names it (yet)")
    if chain.named is not None:
        digest = str(chain.named["files"].get(RESULT))
        whole += compare(run, run.folder / RESULT, digest, MANIFEST, check)
    check.told = f"{whole} have the SHA-256 recorded" if whole else ""
    _check_config(run, chain, experiment, check)
    return check


def _check_config(run: Run, chain: Chain, experiment: Experiment | None, check: Check) -> None:
    """Note rounds that were run with other options than the stored ones."""
    if experiment is None or run.name(run.folder / EXPERIMENT) in check.damaged:
        return
    digest = experiment.digest
    other = [link.round for link in chain.links if link.manifest.get("experiment") != digest]
    if other:
        check.unchecked.append(
            f"{rounds_in(other)}: run with other options than {run.name(run.folder)}/experiment"
            ".yaml, as a resumed run may be (scorers, placement, deadlines, what is kept)"
        )


def check_tables(run: Run, chain: Chain, damaged: set[str]) -> tuple[Check, dict[str, Any]]:
    """Read every Parquet file whose hash is right, with its page checksums.

    Returns:
        The check, and name -> table.
    """
    check, tables = Check(name="tables"), dict[str, Any]()
    paths = [run.folder / PARTS]
    paths += [link.folder / "selection.parquet" for link in chain.links]
    for path in paths:
        name = run.name(path)
        if name in damaged or not path.is_file():
            continue
        try:
            tables[name] = read_table(path)
        except RaySubsetError as error:
            check.differs(name, f"cannot be read: {str(error).partition(' cannot be read: ')[2]}")
    check.told = f"{len(tables)} Parquet files read with their page checksums" if tables else ""
    return check, tables


def check_report(run: Run) -> Check:
    """Compare the report's files with the sums that were written beside them."""
    check, there = Check(name="report", remedy=_AGAIN), _report_files(run)
    path = run.folder / SUMS
    if not path.is_file():
        if there:
            check.unchecked.append(
                f"{', '.join(there)}: no {run.name(path)} (an older version's, or cut short)"
            )
        return check
    sums = _sums_of(path)
    if sums is None or not set(REPORT) <= sums.keys():
        check.differs(run.name(path), "is no complete list of SHA-256 and file")
        return check
    whole = [compare(run, run.folder / n, d, run.name(path), check) for n, d in sums.items()]
    check.told = f"{sum(whole)} files have the SHA-256 in {SUMS}"
    if older := sorted(there - sums.keys()):
        check.unchecked.append(f"{', '.join(older)}: left of an older report")
    return check


def _report_files(run: Run) -> set[str]:
    plots = {f"plots/{path.name}" for path in (run.folder / "plots").glob("*.svg")}
    return plots | {name for name in REPORT if (run.folder / name).is_file()}


def _sums_of(path: Path) -> Mapping[str, str] | None:
    try:
        text = path.read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.removesuffix("\n").split("\n")
    found = [_SUM.fullmatch(line) for line in lines]
    if not text.endswith("\n") or not all(found):
        return None
    return {match[2]: match[1] for match in found if match}


def check_events(run: Run) -> Check:
    """Look at the CRC-32C of every record of the event files."""
    remedy = "nothing but TensorBoard reads it; --resume of the same command writes it again"
    check, records = Check(name="event files", remedy=remedy), 0
    for path in sorted((run.folder / EVENTS).glob("events.out.tfevents.*")):
        try:
            records += _records_in(path.read_bytes())
        except (OSError, ValueError) as error:
            check.differs(run.name(path), f"is damaged: {error}")
    check.told = f"{records:,} records have their CRC-32C" if records else ""
    return check


def _records_in(content: bytes) -> int:
    """Return how many TFRecords there are: length, its CRC, data, its CRC."""
    at = count = 0
    while at < len(content):
        head, sum_ = content[at : at + 8], content[at + 8 : at + 12]
        if len(sum_) < 4 or _masked_crc(head) != sum_:
            raise ValueError(f"record {count:,} has no valid length")
        end = at + 12 + struct.unpack("<Q", head)[0]
        if _masked_crc(content[at + 12 : end]) != content[end : end + 4]:
            raise ValueError(f"record {count:,} is not what its CRC-32C says")
        at, count = end + 4, count + 1
    if not count:
        raise ValueError("it is empty")
    return count


def _masked_crc(data: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c

    value: int = masked_crc32c(data)
    return struct.pack("<I", value)
