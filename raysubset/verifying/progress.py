"""Progress: how far a run is, and whether what it would go on from is whole."""

from __future__ import annotations

from pathlib import Path

from raysubset.chain import MANIFEST, RESULT
from raysubset.files import json_bytes, read_object
from raysubset.learn.partial import BEGUN
from raysubset.unfinished import PARTIAL, read_begun
from raysubset.verifying.contents import compare
from raysubset.verifying.differences import Check, Run
from raysubset.verifying.links import Chain, read_manifest

_REMEDY = "the same command with --resume does again what is missing or damaged here"


def check_progress(run: Run, chain: Chain, planned: int | None) -> Check:
    """Say how far the run is, and look at what is kept of the round in progress.

    Args:
        run: where.
        chain: its manifests.
        planned: how many rounds there will be; None where the plan cannot be read.
    """
    check, done = Check(name="progress", remedy=_REMEDY), len(chain.links)
    finished = (run.folder / RESULT).is_file()
    if planned is not None and (finished or chain.named is not None) and done != planned:
        name = run.name(run.folder / "rounds" / f"{done:04d}" / MANIFEST)
        check.differs(name, "is missing in a finished run", f"{planned} rounds", done)
    if not finished and chain.named is not None:
        check.differs(run.name(run.folder / RESULT), "is missing, and MANIFEST.json names it")
    of = "" if planned is None else f" of {planned}"
    check.told = f"{'finished, ' if finished else ''}{done}{of} rounds committed"
    if not finished:
        check.unchecked.append(_open_round(run, chain, check))
    return check


def _open_round(run: Run, chain: Chain, check: Check) -> str:
    """Look at the round that is not committed; return what is to be said of it."""
    number = len(chain.links)
    partial = run.folder / "rounds" / f"{number:04d}" / PARTIAL
    path = partial / BEGUN[0]
    if not path.is_file():
        return "not finished; nothing vouches for a round before its manifest is there"
    data = chain.links[0].manifest.get("data") if chain.links else None
    link = {"round": number, "parent": chain.parent} | ({"data": data} if data else {})
    told = read_object(path)
    if told is not None and isinstance(told.get("selection"), str):
        compare(run, partial / BEGUN[1], told["selection"], run.name(path), check)
    known = bool(check.differences) or read_begun(partial, link) is not None
    if not known or json_bytes(told) != path.read_bytes():
        check.differs(run.name(path), "is not what this round was begun with")
    kept = _kept_epochs(run, partial, check)
    return f"not finished: round {number} is in progress or was cut short, {kept} epochs kept"


def _kept_epochs(run: Run, partial: Path, check: Check) -> int:
    path = partial / MANIFEST
    if not path.is_file():
        return 0
    manifest, _, wrong = read_manifest(path)
    if manifest is None or wrong:
        check.differs(run.name(path), wrong)
        return 0
    by = run.name(path)
    whole = [compare(run, partial / n, d, by, check) for n, d in manifest["files"].items()]
    epochs = manifest.get("epochs")
    return epochs if isinstance(epochs, int) and all(whole) else 0
