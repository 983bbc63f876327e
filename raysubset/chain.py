"""The chain: manifests that name every file of a round, and the manifest before, by SHA-256.

The first names what the run was begun with too; the run's own, written at its end, the result.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from raysubset.errors import RunFolderError
from raysubset.files import json_bytes, read_object
from raysubset.learn.checkpoint import TRAINER, WEIGHTS, file_hash
from raysubset.learn.skipped import SKIPPED
from raysubset.learn.transform import TRANSFORM
from raysubset.storage.staging import shown

logger = logging.getLogger(__name__)
MANIFEST, OBSERVATIONS = "MANIFEST.json", "observations.safetensors"
RESULT = "result.json"
EXPERIMENT, ENVIRONMENT = "experiment.yaml", "environment.json"
FINGERPRINT, PARTS = "fingerprint.json", "parts.parquet"
OPTIONAL = (PARTS, SKIPPED, TRANSFORM)
BEGUN_WITH = (EXPERIMENT, ENVIRONMENT, FINGERPRINT, *OPTIONAL)
"""What a run folder holds before its first round; the first round's manifest names them."""


def committed_chain(rounds: Path, data: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (hash, manifest) of rounds 0, 1, ... of this data, as far as the chain holds."""
    parent, number = "", 0
    while (path := rounds / f"{number:04d}" / MANIFEST).is_file():
        content = path.read_bytes()
        manifest = _manifest(content)
        link = {"parent": parent, "round": number, "data": data}
        if manifest is None or any(manifest.get(key) != link[key] for key in link):
            logger.warning("%s does not continue the chain; rounds from it on are redone", path)
            return
        parent, number = hashlib.sha256(content).hexdigest(), number + 1
        yield parent, manifest


def named_first(run: Path, number: int) -> dict[str, dict[str, str]]:
    """Return what the first round's manifest names beside its own files; {} for other rounds."""
    there = (name for name in BEGUN_WITH if number == 0 and (run / name).is_file())
    named = {name: file_hash(run / name) for name in there}
    return {"run": named} if named else {}


def named_last(result: Mapping[str, Any], link: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what ends a run, name -> value: its own manifest, and the result that it names.

    In the order in which they are written: a result is made once, and would stay without one.

    Args:
        result: what result.json is to hold.
        link: round (how many there are), parent and data, as in a round's manifest.
    """
    digest = hashlib.sha256(json_bytes(dict(result))).hexdigest()
    return {MANIFEST: {**link, "files": {RESULT: digest}}, RESULT: dict(result)}


def read_result(run: Path) -> dict[str, Any] | None:
    """Return what the finished run gave; None without one, or where its manifest has another."""
    path = run / RESULT
    if not path.is_file():
        return None
    content, manifest = path.read_bytes(), read_object(run / MANIFEST)
    files = None if manifest is None else manifest.get("files")
    if isinstance(files, dict) and files.get(RESULT) != hashlib.sha256(content).hexdigest():
        logger.warning("%s is not what its manifest recorded; it is made again", path)
        return None
    return read_object(path)


def read_metrics(round_: Path) -> dict[str, Any]:
    """Return the figures of a committed round.

    Raises:
        RunFolderError: they are no figures, whatever its manifest says.
    """
    metrics = read_object(round_ / "metrics.json")
    if metrics is None or not isinstance(metrics.get("epochs", 0), int):
        raise RunFolderError(
            f"{shown(round_ / 'metrics.json')} holds no figures of a round, though its manifest "
            "names it: both were replaced. Start a new run with another --run-dir."
        )
    return metrics


def _manifest(content: bytes) -> dict[str, Any] | None:
    """Return a manifest that names files and their hashes; None for anything else."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return None
    named = {"selection.parquet", "metrics.json", OBSERVATIONS}
    named |= {f"checkpoint/{name}" for name in (WEIGHTS, TRAINER)}
    files = manifest["files"]
    inside = all(stays_inside(name) and isinstance(files[name], str) for name in files)
    return manifest if named <= set(files) and inside else None


def stays_inside(name: str) -> bool:
    """Return whether a name is of something in its folder: what is named comes from a store."""
    path = PurePosixPath(name)
    leaves = path.is_absolute() or ".." in path.parts
    return bool(path.name) and not leaves and "\0" not in name


def damaged_file(folder: Path, files: Mapping[str, str]) -> str:
    """Return the name of the first file that is missing or not what was recorded; "" for none."""
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or file_hash(path) != digest:
            return name
    return ""


def _refuse_other_beginning(run: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse options that are not those of the first round: --resume reads them from there."""
    named = manifest.get("run")
    digest = named.get(EXPERIMENT) if isinstance(named, dict) else None
    if digest is not None and damaged_file(run, {EXPERIMENT: digest}):
        raise RunFolderError(
            f"{shown(run / EXPERIMENT)} is not what the first round's manifest recorded; put it "
            "back, or start a new run with another --run-dir."
        )


def refuse_damaged(rounds: Path, manifests: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to build on rounds whose record is no longer what was committed.

    Raises:
        RunFolderError: a choice or figures that are missing or others; the file is named.
    """
    for manifest in manifests:
        folder = rounds / f"{manifest['round']:04d}"
        _refuse_other_beginning(rounds.parent, manifest)
        kept = {n: manifest["files"][n] for n in ("selection.parquet", "metrics.json")}
        if damaged := damaged_file(folder, kept):
            raise RunFolderError(
                f"{shown(folder / damaged)} is missing or not what its manifest recorded; put it "
                "back, or start a new run with another --run-dir."
            )
