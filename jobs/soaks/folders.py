"""Two run folders of one seed: what may differ between them, and whether anything else does.

A run's times are its machine's, and the seed decides everything else. `MAY_DIFFER` is the one list
of what that means: what it names is masked, a manifest's hashes are made again from what is left,
and then all files are compared byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from raysubset.files import SEAL

TIMES = ("seconds_*", "speed_up", "peak_bytes", "private_bytes")
"""What the machine decides: how long it took and when, and how much memory its processes had."""
WHOLE = ("*",)
REPORTS = ("report.html", "report.md", "report.sha256", "plots/*")
"""Drawn from the files below, and from nothing but them and the folder's own path."""
MAY_DIFFER: Mapping[str, tuple[str, ...]] = {
    "history.jsonl": TIMES,
    "result.json": TIMES,
    "rounds/*/metrics.json": TIMES,
    "rounds/*/ahead/round.json": (*TIMES, SEAL),
    "environment.json": ("started",),
    ".lock": WHOLE,  # the process that wrote last
    "tensorboard/*": WHOLE,  # named and stamped by the clock; it tells what history.jsonl tells
    **dict.fromkeys(REPORTS, WHOLE),
}
"""Files of a run folder, and the fields of them that two runs of one seed need not share."""
ON_RAY = ("scoring_retries",)
"""What only a run on Ray tells: ranges that a lost scorer did not bring."""
MANIFEST = "MANIFEST.json"
_MASK = "*"


def differences(mine: Path, other: Path, *, across: bool = False) -> list[str]:
    """Return what differs between two finished runs and must not; [] where nothing does.

    Args:
        mine: a run folder.
        other: one of the same seed.
        across: one was made on Ray or disturbed, the other in one process undisturbed: fields that
            may differ may also be absent, and so may `ON_RAY`.

    Raises:
        ValueError: a manifest does not hold the hash of one of its files.
    """
    a, b = masked(mine, across=across), masked(other, across=across)
    told = [f"{name} lies in {mine} only" for name in sorted(a.keys() - b.keys())]
    told += [f"{name} lies in {other} only" for name in sorted(b.keys() - a.keys())]
    both = sorted(a.keys() & b.keys())
    return told + [f"{name}: {_first(a[name], b[name])}" for name in both if a[name] != b[name]]


def masked(folder: Path, *, across: bool = False) -> dict[str, bytes]:
    """Return the content of every file that decides something, without what may differ."""
    found: dict[str, bytes] = {}
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    # Manifests after what they name, and the run's own after its rounds'.
    for name in sorted(names, key=lambda n: (n.endswith(MANIFEST), n == MANIFEST)):
        content, fields = (folder / name).read_bytes(), _fields(name)
        if fields == WHOLE:
            continue
        if Path(name).name == MANIFEST:
            content = _manifest(folder, name, content, found)
        elif fields:
            fields = (*fields, *ON_RAY) if across else fields
            content = _without(content, fields, drop=across, by_line=name.endswith(".jsonl"))
        found[name] = content
    return found


def _fields(name: str) -> tuple[str, ...]:
    """Return the fields of a file that may differ; `WHOLE` for a file that may."""
    return next((f for pattern, f in MAY_DIFFER.items() if fnmatchcase(name, pattern)), ())


def _manifest(folder: Path, name: str, content: bytes, found: Mapping[str, bytes]) -> bytes:
    """Return a manifest with the hashes of the masked files, once its own are seen to be right."""
    told, round_ = json.loads(content), Path(name).parent
    for place, named in ((round_, told["files"]), (Path(), told.get("run", {}))):
        for file, digest in named.items():
            path = folder / place / file
            if path.is_file() and _hash(path.read_bytes()) != digest:
                raise ValueError(f"{path} is not what {name} recorded")
            named[file] = _hash(found[str(place / file)]) if path.is_file() else digest
    rounds = round_.parent if name != MANIFEST else Path("rounds")
    before = rounds / f"{told['round'] - 1:04d}" / MANIFEST
    if told["parent"]:
        if _hash((folder / before).read_bytes()) != told["parent"]:
            raise ValueError(f"{name} does not follow {before}")
        told["parent"] = _hash(found[str(before)])
    return json.dumps(told, sort_keys=True).encode()


def _without(content: bytes, fields: tuple[str, ...], *, drop: bool, by_line: bool) -> bytes:
    texts = content.decode().splitlines() if by_line else [content.decode()]
    lines = [json.dumps(_mask(json.loads(text), fields, drop), indent=1) for text in texts]
    return "\n".join(lines).encode()


def _mask(value: Any, fields: tuple[str, ...], drop: bool) -> Any:
    """Return a JSON value with a mark for each such field, or without it; pairs are fields too."""

    def named(name: object) -> bool:
        return isinstance(name, str) and any(fnmatchcase(name, field) for field in fields)

    if isinstance(value, dict):
        kept = {k: _MASK if named(k) else _mask(v, fields, drop) for k, v in value.items()}
        return {k: v for k, v in kept.items() if not (drop and named(k))}
    if isinstance(value, list):
        if len(value) == 2 and named(value[0]):
            return None if drop else [value[0], _MASK]
        inner = [_mask(each, fields, drop) for each in value]
        return [each for each in inner if each is not None] if drop else inner
    return value


def _first(a: bytes, b: bytes) -> str:
    """Return the first line that differs, or how many bytes do."""
    try:
        lines = zip(a.decode().splitlines(), b.decode().splitlines(), strict=False)
        pair = next(((x, y) for x, y in lines if x != y), None)
    except UnicodeDecodeError:
        pair = None
    if pair is None:
        return f"{len(a)} and {len(b)} bytes, which differ"
    return f"{pair[0].strip()[:80]} and {pair[1].strip()[:80]}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
