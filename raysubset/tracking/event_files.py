"""TensorBoard event files: a run's figures by example visits, in RUN/tensorboard."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from raysubset.tracking.tracker import Ending, Facts, Told, outcome

FOLDER = "tensorboard"


class EventFiles:
    """Writes one event file with every round that there is, and removes those before it.

    A run that goes on so has no figure twice and lacks none, wherever it was stopped.
    tensorboardX's SummaryWriter hands events to a thread that a full disk ends, and then waits
    for that thread for ever; its RecordWriter writes here and raises here.
    """

    name = "TensorBoard"

    def __init__(self, facts: Facts) -> None:
        """Write below the run folder; nothing is made yet, but imported: it takes a while."""
        _events()
        self._facts, self._folder = facts, facts.folder / FOLDER
        self._writer: Any = None
        self._older: list[Path] = []

    def begin(self) -> int:
        """Start a new file; what a reader has seen of older ones is to be forgotten."""
        from tensorboardX.record_writer import RecordWriter

        self._folder.mkdir(exist_ok=True)
        self._older = sorted(self._folder.glob("events.out.tfevents.*"))
        with self._closed_by_an_error():
            self._writer = RecordWriter(str(self._folder / _new_name()))
            session, now_s = _events().SessionLog, time.time()
            self._write(now_s, 0, file_version="brain.Event:2")
            self._write(now_s, 0, session_log=session(status=session.START))
            self._text(now_s, 0, "config", {**self._facts.tags, **self._facts.params})
        return 0

    def round_done(self, told: Told) -> None:
        """Write a round's figures."""
        with self._closed_by_an_error():
            for visits, named in told.points:
                self._scalars(told.time_s, visits, named)

    def caught_up(self) -> None:
        """Bring all to disk; then the files before this one say nothing that it does not."""
        with self._closed_by_an_error():
            self._writer.flush()
        for path in self._older:
            path.unlink(missing_ok=True)
        self._older = []

    def finished(self, result: Mapping[str, Any], visits: int, time_s: float) -> None:
        """Write the test part's figures, and the outcome as a table."""
        with self._closed_by_an_error():
            self._scalars(time_s, visits, outcome(result))
            self._text(time_s, visits, "outcome", result)

    def close(self, ending: Ending) -> None:
        """Close the file."""
        with self._closed_by_an_error():
            self._writer.flush()
            self._writer.close()

    @contextmanager
    def _closed_by_an_error(self) -> Generator[None]:
        """Leave no file open that is begun anew; remove it where an older one still says more."""
        try:
            yield
        except BaseException:
            if self._writer is not None:
                with suppress(OSError):
                    self._writer.close()
                if self._older:
                    Path(self._writer.path).unlink(missing_ok=True)
                self._writer = None
            raise

    def _scalars(self, time_s: float, visits: int, named: Mapping[str, float]) -> None:
        from tensorboardX.summary import scalar

        for tag, value in named.items():
            self._write(time_s, visits, summary=scalar(tag, value))

    def _text(self, time_s: float, visits: int, tag: str, values: Mapping[str, Any]) -> None:
        from tensorboardX.summary import text

        self._write(time_s, visits, summary=text(tag, _table(values)))

    def _write(self, time_s: float, visits: int, **what: Any) -> None:
        event = _events().Event(wall_time=time_s, step=visits, **what)
        self._writer.write(event.SerializeToString())


def _new_name() -> str:
    """Return a file name that sorts after those before; two of one second stay apart."""
    return f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{time.time_ns()}"


def _events() -> Any:
    """Return protobuf's classes, which are made at import and so have no types."""
    return import_module("tensorboardX.proto.event_pb2")


def _table(values: Mapping[str, Any]) -> str:
    """Return a Markdown table, which TensorBoard draws."""
    rows = [f"| {name} | {str(value).replace('|', '&#124;')} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])
