"""The chain: manifests that name every file of a round, and the manifest before, by SHA-256."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysubset.errors import RunFolderError
from raysubset.learn.checkpoint import TRAINER, WEIGHTS, file_hash
from raysubset.storage.staging import shown

logger = logging.getLogger(__name__)
MANIFEST, OBSERVATIONS = "MANIFEST.json", "observations.safetensors"


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
    inside = all(_is_inside(name) and isinstance(files[name], str) for name in files)
    return manifest if named <= set(files) and inside else None


def _is_inside(name: str) -> bool:
    """Return whether a name stays in its folder: what a manifest names is fetched from a store."""
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def damaged_file(folder: Path, files: Mapping[str, str]) -> str:
    """Return the name of the first file that is missing or not what was recorded; "" for none."""
    for name, digest in files.items():
        path = folder / name
        if not path.is_file() or file_hash(path) != digest:
            return name
    return ""


def refuse_damaged(rounds: Path, manifests: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to build on rounds whose record is no longer what was committed.

    Raises:
        RunFolderError: a choice or figures that are missing or others; the file is named.
    """
    for manifest in manifests:
        folder = rounds / f"{manifest['round']:04d}"
        kept = {n: manifest["files"][n] for n in ("selection.parquet", "metrics.json")}
        if damaged := damaged_file(folder, kept):
            raise RunFolderError(
                f"{shown(folder / damaged)} is missing or not what its manifest recorded; put it "
                "back, or start a new run with another --run-dir."
            )
