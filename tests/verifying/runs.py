"""Whole run folders to be damaged, and what is said of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysubset.cli import call
from raysubset.doctor.finding import Finding
from raysubset.files import json_bytes
from raysubset.verifying.examination import verify
from tests.small_runs import SMALL

FINISHED = [f"--{name}={value}" for name, value in SMALL.items()]
FINISHED += ["--selection.glister.picks=blocks(3)"]


def finished(folder: Path, *more: str) -> Path:
    """Run as a person does, report and event files included."""
    assert call(["run", "--local", *FINISHED, *more, "--run-dir", str(folder)])[0] == 0
    return folder


def failures(place: Path, **how: Any) -> list[Finding]:
    """Return what a look finds damaged; gains are made again only where asked for."""
    examined = verify(str(place), **({"gains": False} | how))
    found = [f for _, findings in examined.folders for f in findings if f.status == "failed"]
    assert examined.exit_code == bool(found)
    assert all(finding.remedy for finding in found)
    return found


def damaged(place: Path, **how: Any) -> set[str]:
    """Return the names of the files that a look finds damaged."""
    found = failures(place, **how)
    return {each["file"] for finding in found for each in finding.facts["differences"]}


def files_of(folder: Path) -> list[str]:
    """Return every file of a run, but for hidden ones: locks are no part of it."""
    found = (p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file())
    return [p.as_posix() for p in found if not any(x.startswith(".") for x in p.parts)]


@contextmanager
def harmed(path: Path, harm: Callable[[bytes], bytes | None]) -> Generator[None]:
    """Change a file (None: remove it) and put it back."""
    content = path.read_bytes()
    changed = harm(content)
    try:
        path.unlink() if changed is None else path.write_bytes(changed)
        yield
    finally:
        path.write_bytes(content)


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder)
    return folder


def reseal(run: Path, first: int = 0) -> None:
    """Do what a forger would: write every hash from a round on anew, and the end's."""
    rounds, parent = sorted((run / "rounds").iterdir()), ""
    for number, folder in enumerate(rounds):
        path = folder / "MANIFEST.json"
        if number >= first:
            manifest = json.loads(path.read_bytes())
            manifest["parent"] = parent
            for name in manifest["files"]:
                if (folder / name).is_file():
                    manifest["files"][name] = digest(folder / name)
            for name in manifest.get("run", {}):
                manifest["run"][name] = digest(run / name)
            path.write_bytes(json_bytes(manifest))
        parent = digest(path)
    path = run / "MANIFEST.json"
    if path.is_file():
        manifest = json.loads(path.read_bytes())
        manifest |= {"parent": parent, "files": {"result.json": digest(run / "result.json")}}
        path.write_bytes(json_bytes(manifest))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
