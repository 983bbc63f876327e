"""Logs: one JSON object per line on stderr, where a machine reads them.

The library logs through plain `logging`; only the command line and the jobs call `start`. Lines
are JSON under `ray job submit` and wherever RAYSUBSET_LOG=json; RAYSUBSET_LOG=text keeps them off.
Each has time (UTC), level, logger and message, then what is known: run, round, stage, the figures
of a round; Ray's own node, worker, actor and task ids in its processes.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from raysubset.errors import ConfigError

VARIABLE = "RAYSUBSET_LOG"
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set for the driver of a submitted job
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_known: ContextVar[dict[str, Any] | None] = ContextVar("raysubset_log_fields", default=None)


@contextmanager
def fields(**values: Any) -> Generator[None]:
    """Add these fields to every line that is logged meanwhile in this thread."""
    token = _known.set({**(_known.get() or {}), **values})
    try:
        yield
    finally:
        _known.reset(token)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a field that a record gives itself wins over the context's."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(_known.get() or {}),
            **{k: v for k, v in vars(record).items() if _is_field(k)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether lines are to be JSON.

    Raises:
        ConfigError: RAYSUBSET_LOG is neither json nor text.
    """
    asked = environ.get(VARIABLE)
    if asked not in (None, "", "json", "text"):
        raise ConfigError(f"{VARIABLE}={asked} is unknown; choose json or text.")
    return asked == "json" or (not asked and _RAY_JOB in environ)


def start() -> None:
    """Log this application's lines as JSON on stderr, where they are wanted."""
    logger = logging.getLogger("raysubset")
    logger.handlers = [h for h in logger.handlers if not isinstance(h.formatter, JsonLines)]
    if not wanted():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # the root logger may be Ray's, which would say it again


def reshape(*, every: bool = False) -> None:
    """Give the lines of a Ray process this shape, where they are Ray's JSON, or `every` line."""
    for handler in logging.getLogger().handlers:
        # Ray Train's handler keeps its formatter for the file that it opens later.
        formatter = handler.formatter or getattr(handler, "_formatter", None)
        if every or type(formatter).__name__ == "JSONFormatter":
            handler.setFormatter(JsonLines())


def _is_field(name: str) -> bool:
    return name not in _STANDARD and not name.startswith("_")
