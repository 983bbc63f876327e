"""What a selection reads, each with its SHA-256, for the record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysubset.learn.checkpoint import file_hash
from raysubset.learn.embedded import FIT, EmbeddingFiles
from raysubset.learn.sources.files import TABLE_SUFFIXES, tables_in
from raysubset.selecting.point import Point
from raysubset.storage.staging import shown


def checkpoint_input(path: Path, point: Point | None) -> dict[str, Any]:
    """Return what a checkpoint is: its file, or its run and round; and its SHA-256."""
    if point is None:
        return {"what": "checkpoint", "path": shown(path.absolute()), "sha256": file_hash(path)}
    return {
        "what": "checkpoint",
        "path": shown(point.run),
        "round": point.round,
        "sha256": point.digest,
    }


def file_inputs(files: EmbeddingFiles) -> list[dict[str, Any]]:
    """Return every embedding file with its SHA-256."""
    found: list[dict[str, Any]] = []
    for option, text in files.named.items():
        if option == "head" and text == FIT:
            continue
        path = Path(text).expanduser()
        each = tables_in(path, TABLE_SUFFIXES) if path.is_dir() else (path,)
        found += [{"what": option, "path": str(p.absolute()), "sha256": file_hash(p)} for p in each]
    return found
