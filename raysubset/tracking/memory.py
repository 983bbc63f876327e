"""The memory of a run folder: which tracked run is its own, and how many rounds that one has."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from raysubset.files import write_json

TRACKING = "tracking.json"


class Memory:
    """RUN/tracking.json; trackers in several threads may keep their part in it."""

    def __init__(self, folder: Path) -> None:
        """Read what is there; a damaged file is as none, and the run is tracked anew."""
        self._path, self._lock = folder / TRACKING, threading.Lock()
        try:
            kept: Any = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        self._kept: dict[str, Any] = kept if isinstance(kept, dict) else {}
        self._kept.setdefault("id", uuid4().hex[:16])

    @property
    def id(self) -> str:
        """The folder's own name among all tracked runs."""
        return str(self._kept["id"])

    def of(self, name: str, **where: str) -> dict[str, Any]:
        """Return what a tracker kept; {} where it kept nothing, or of another place."""
        kept = self._kept.get(name)
        if not isinstance(kept, dict) or any(kept.get(k) != v for k, v in where.items()):
            return {}
        return dict(kept)

    def keep(self, name: str, values: Mapping[str, Any]) -> None:
        """Write down a tracker's part."""
        with self._lock:
            self._kept[name] = dict(values)
            write_json(self._path, self._kept)
