"""The links of a run's chain: its manifests, one a round, and the run's own at its end."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysubset.chain import FINGERPRINT, MANIFEST, OBSERVATIONS, RESULT, stays_inside
from raysubset.files import json_bytes
from raysubset.learn.checkpoint import TRAINER, WEIGHTS
from raysubset.verifying.differences import Check, Run, short

STATE = (f"checkpoint/{WEIGHTS}", f"checkpoint/{TRAINER}", OBSERVATIONS)
RECORDS = ("selection.parquet", "metrics.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_EDITED = "is not byte for byte as a ledger writes it: it was edited or damaged"


@dataclass(frozen=True, kw_only=True)
class Link:
    """A committed round.

    Attributes:
        round: its number.
        folder: rounds/0007.
        manifest: what its manifest holds.
        digest: SHA-256 of the manifest.
    """

    round: int
    folder: Path
    manifest: Mapping[str, Any]
    digest: str

    @property
    def files(self) -> Mapping[str, str]:
        """Name below the folder -> SHA-256."""
        return self.manifest["files"]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """All that the manifests of a run say.

    Attributes:
        links: the committed rounds, from 0 on, as far as manifests can be read.
        named: RUN/MANIFEST.json; None where there is none that can be read.
        check: what is wrong with them.
    """

    links: tuple[Link, ...]
    named: Mapping[str, Any] | None
    check: Check

    @property
    def parent(self) -> str:
        """The hash that the next round's manifest would name."""
        return self.links[-1].digest if self.links else ""


def read_chain(run: Run, identity: Mapping[str, Any] | None) -> Chain:
    """Return the chain of a run; reading goes on after a break, so that more is looked at."""
    check, links = Check(name="manifests"), list[Link]()
    rounds = run.folder / "rounds"
    while (path := rounds / f"{len(links):04d}" / MANIFEST).is_file():
        link = _link(run, path, links, check)
        if link is None:
            break
        links.append(link)
    _refuse_later(run, len(links), check)
    data = {str(link.manifest.get("data")) for link in links}
    if identity is not None and links and data != {identity.get("data")}:
        found = short(str(links[0].manifest.get("data")))
        expected = short(str(identity.get("data")))
        check.differs(run.name(path.parents[2] / FINGERPRINT), _OTHER, found, expected)
    named = _closing(run, links, check)
    end = "" if named is None else ", closed by the run's own"
    check.told = f"{len(links)} in an unbroken chain{end}" if links else ""
    return Chain(links=tuple(links), named=named, check=check)


_OTHER = "tells other data than the manifests do"


def read_manifest(path: Path) -> tuple[dict[str, Any] | None, bytes, str]:
    """Return (manifest, its bytes, what is wrong with it); None for what is no manifest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, b"", f"cannot be read ({error.strerror})"
    try:
        value: Any = json.loads(content)
        same = json_bytes(value) == content
    except (ValueError, RecursionError):
        return None, content, "is no JSON: it was cut or damaged"
    if not isinstance(value, dict) or not _is_list_of_files(value.get("files")):
        return None, content, "names no files with their SHA-256: it was edited or damaged"
    return value, content, "" if same else _EDITED


def _is_list_of_files(files: Any) -> bool:
    """Return whether this is name -> SHA-256, and no name leaves its folder."""
    if not isinstance(files, dict):
        return False
    digests = all(isinstance(v, str) and _DIGEST.fullmatch(v) for v in files.values())
    return digests and all(stays_inside(name) for name in files)


def _link(run: Run, path: Path, links: list[Link], check: Check) -> Link | None:
    manifest, content, wrong = read_manifest(path)
    name, number = run.name(path), len(links)
    if wrong:
        check.differs(name, wrong)
    if manifest is None:
        return None
    if manifest.get("round") != number:
        check.differs(name, "is of another round", number, manifest.get("round"))
    _check_tie(name, manifest, links, check)
    for missing in sorted({*STATE, *RECORDS} - manifest["files"].keys()):
        check.differs(name, f"does not name {missing}")
    digest = hashlib.sha256(content).hexdigest()
    return Link(round=number, folder=path.parent, manifest=manifest, digest=digest)


def _check_tie(name: str, manifest: Mapping[str, Any], links: Sequence[Link], check: Check) -> None:
    """Note a manifest that does not continue the last of the rounds before, on the same data."""
    parent = links[-1].digest if links else ""
    if manifest.get("parent") != parent:
        before = f"rounds/{len(links) - 1:04d}/{MANIFEST}" if links else "nothing"
        what = f"does not continue {before}: one of the two is not what was written"
        check.differs(name, what, short(parent), short(str(manifest.get("parent"))))
    if links and manifest.get("data") != links[0].manifest.get("data"):
        check.differs(name, "is of a run on other data")


def _refuse_later(run: Run, count: int, check: Check) -> None:
    """Note rounds that have a manifest, though one before them has none."""
    for path in sorted((run.folder / "rounds").glob(f"[0-9]*/{MANIFEST}")):
        if path.parent.name.isdigit() and int(path.parent.name) > count:
            gap = run.name(run.folder / "rounds" / f"{count:04d}" / MANIFEST)
            check.differs(gap, f"is missing or no manifest, though {run.name(path)} is there")
            return


def _closing(run: Run, links: list[Link], check: Check) -> Mapping[str, Any] | None:
    """Return the run's own manifest, which continues the last round's."""
    path = run.folder / MANIFEST
    if not path.exists():
        if (run.folder / RESULT).is_file() and links and "run" in links[0].manifest:
            check.differs(run.name(path), f"is missing beside {RESULT}: it was removed")
        elif (run.folder / RESULT).is_file():
            check.unchecked.append(
                f"{run.name(path)} is not there: the run was ended by an older version, so nothing "
                f"vouches for the last round's manifest and the test figures in {RESULT}"
            )
        return None
    manifest, _, wrong = read_manifest(path)
    if wrong:
        check.differs(run.name(path), wrong)
    if manifest is None:
        return None
    if manifest.get("round") != len(links):
        check.differs(run.name(path), "closes", f"{len(links)} rounds", manifest.get("round"))
    _check_tie(run.name(path), manifest, links, check)
    if set(manifest["files"]) != {RESULT}:
        check.differs(run.name(path), f"does not name {RESULT} alone")
    return manifest
