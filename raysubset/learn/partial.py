"""Finished epochs of a round that is not finished: kept, so that a stop or a kill costs little.

    rounds/0007/partial/round.json          what the round was begun with; its hash is the key
    rounds/0007/partial/MANIFEST.json       the key, epochs done, name -> SHA-256 (written last)
    rounds/0007/partial/0003-9f2c/          weights.safetensors, trainer.pt after 3 epochs
    rounds/0007/partial/traces-0003-9f2c.safetensors    what the epochs since the last ones saw

Shape letters: K subset.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raysubset.faultpoints import reach
from raysubset.files import TRACES, sealed, unsealed, write_atomically, write_json
from raysubset.learn.checkpoint import CheckpointRef, Snapshot, file_hash, write_checkpoint
from raysubset.learn.learner import EpochTrace

logger = logging.getLogger(__name__)
MANIFEST, BEGUN = "MANIFEST.json", ("round.json", "selection.parquet")
HOLD_S = 1.0
"""A state is copied to the host at most this often: what an orderly stop can cost at most."""
_COLUMNS = ("row_K", "loss_K", "margin_K", "correct_K")


@dataclass(frozen=True, kw_only=True)
class Partial:
    """Epochs of a round that are done and kept.

    Attributes:
        key: of the round that they belong to.
        epochs: how many.
        folder: rounds/0007/partial.
        state: the sub-folder of weights and optimizer.
        files: name -> SHA-256, of that and of all traces.
        seconds: what training them took.
    """

    key: str
    epochs: int
    folder: str
    state: str
    files: Mapping[str, str]
    seconds: float

    @property
    def checkpoint(self) -> CheckpointRef:
        """Where the state after these epochs lies."""
        start = f"{self.state}/"
        files = {n.removeprefix(start): h for n, h in self.files.items() if n.startswith(start)}
        return CheckpointRef(path=str(Path(self.folder) / self.state), files=files)


@dataclass(frozen=True, kw_only=True)
class Open:
    """A round that was begun and is not committed, as its trainer needs to know it.

    Attributes:
        folder: rounds/0007/partial.
        key: ties what is kept to this round's choice and to the round before it.
        every_s: write a finished epoch at most this often; 0: each.
    """

    folder: str
    key: str
    every_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """Epochs of a round that are done, and not kept yet.

    Attributes:
        epochs: how many of the round are done.
        snapshot: the state after them.
        seconds: what training them took.
        traces: what all ranks saw of those that are not kept.
    """

    epochs: int
    snapshot: Snapshot
    seconds: float
    traces: Sequence[EpochTrace]


Write = Callable[[Open, Partial | None, Finished], Partial]
"""(the round, what is kept of it, what more is finished) -> what is kept then."""


def partial_of(open_: Open | None) -> Partial | None:
    """Return the newest epochs that are kept of a round and whole; None where there are none.

    What is damaged, or belongs to another round, is passed over with a warning: the round is
    trained from its start then, to the same end.
    """
    path = None if open_ is None else Path(open_.folder) / MANIFEST
    if open_ is None or path is None or not path.is_file():
        return None
    try:
        told = unsealed(json.loads(path.read_bytes()))
        partial = Partial(folder=open_.folder, **told)
        if partial.key != open_.key:
            logger.warning("%s belongs to another round; its epochs are trained again", path)
            return None
        for name, digest in partial.files.items():
            if file_hash(path.parent / name) != digest:
                raise ValueError(f"{name} is not what was recorded")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s is of no use (%s); its epochs are trained again", path, error)
        return None
    return partial


def traces_of(partial: Partial) -> list[EpochTrace]:
    """Return what the kept epochs saw, in their order."""
    from safetensors.numpy import load_file

    found: dict[int, EpochTrace] = {}
    for name in partial.files:
        if not name.startswith(TRACES):
            continue
        table = load_file(Path(partial.folder) / name)
        for index, epoch in enumerate(table["epoch"].tolist()):
            columns = {column: table[f"{index}.{column}"] for column in _COLUMNS}
            found[epoch] = EpochTrace(epoch=epoch, lr=float(table["lr"][index]), **columns)
    return [found[epoch] for epoch in sorted(found)]


@dataclass(kw_only=True, eq=False)
class Keeper:
    """Keeps the newest finished epoch of a round: on the host each second, on disk each every_s.

    Attributes:
        open: the round.
        before: what is kept of it already.
        snapshot: copies the training state to the host.
        writer: a thread of its own.
        write: what it does there; None: `write_partial`.
    """

    open: Open
    before: Partial | None
    snapshot: Callable[[], Snapshot]
    writer: Executor
    write: Write | None = None
    _held: Finished | None = None
    _writing: Future[None] | None = None
    _broken: bool = False

    def __post_init__(self) -> None:
        """Start the clocks."""
        self._held_at = self._written_at = time.monotonic()
        self._epochs = self.before.epochs if self.before else 0
        self._start = self._held_at - (self.before.seconds if self.before else 0.0)

    def due(self) -> bool:
        """Return whether the epoch that has just ended is to be held."""
        return time.monotonic() - self._held_at >= min(HOLD_S, self.open.every_s)

    def hold(self, traces: Sequence[EpochTrace]) -> None:
        """Copy the present state, after these epochs more; write it where it is time.

        Args:
            traces: what all ranks saw of the epochs since the last call.
        """
        if not all(np.isfinite(trace.loss_K).all() for trace in traces):
            self._broken = True  # it diverges: nobody wants to go on from here
        new = [*(self._held.traces if self._held else ()), *traces]
        snapshot, now = self.snapshot(), time.monotonic()
        self._epochs, self._held_at = self._epochs + len(traces), now
        # At once, in the end: Ctrl-C may come anywhere, and `stop` writes what stands here.
        self._held = Finished(
            epochs=self._epochs, snapshot=snapshot, seconds=now - self._start, traces=new
        )
        if now - self._written_at >= self.open.every_s and self._free():
            self._write()

    def stop(self) -> None:
        """Write what is held and not written yet, and wait for it."""
        if self._held is not None:
            self._write()
        if self._writing is not None:
            self._writing.result()

    def _free(self) -> bool:
        """Return whether nothing is being written; who wants every epoch waits for the disk."""
        if self._writing is not None and self.open.every_s == 0:
            self._writing.result()
        return self._writing is None or self._writing.done()

    def _write(self) -> None:
        assert self._held is not None
        self._writing = self.writer.submit(self._keep, self._held)
        self._held, self._written_at = None, time.monotonic()

    def _keep(self, finished: Finished) -> None:
        if self._broken:
            return
        try:
            write = self.write or write_partial
            self.before = write(self.open, self.before, finished)
        except Exception as error:  # an insurance that cannot be had must not end the run
            # (a full disk is an OSError, a RuntimeError or a SafetensorError)
            self._broken = True  # later epochs would lack these traces
            logger.warning("%d finished epochs could not be kept: %s", finished.epochs, error)


def write_partial(open_: Open, before: Partial | None, finished: Finished) -> Partial:
    """Keep this many epochs of a round, instead of fewer; what was kept is whole until it is."""
    folder, mark = Path(open_.folder), f"{finished.epochs:04d}-{uuid.uuid4().hex[:8]}"
    files, _ = write_checkpoint(folder / mark, finished.snapshot)
    named = {f"{mark}/{name}": digest for name, digest in files.items()}
    reach("epoch.state")
    name = f"{TRACES}{mark}.safetensors"
    _write_traces(folder / name, finished.traces)
    named[name] = file_hash(folder / name)
    if before is not None:
        named |= {n: digest for n, digest in before.files.items() if n.startswith(TRACES)}
    told: dict[str, Any] = {
        "key": open_.key,
        "epochs": finished.epochs,
        "state": mark,
        "files": named,
        "seconds": finished.seconds,
    }
    reach("epoch.traces")
    write_json(folder / MANIFEST, sealed(told))
    reach("epoch.kept")
    forget_others(folder, named)
    reach("epoch.cleared")
    return Partial(folder=open_.folder, **told)


def _write_traces(path: Path, traces: Sequence[EpochTrace]) -> None:
    from safetensors.numpy import save_file

    table = {
        "epoch": np.array([trace.epoch for trace in traces], dtype=np.int64),
        "lr": np.array([trace.lr for trace in traces], dtype=np.float64),
    }
    for index, trace in enumerate(traces):
        table |= {f"{index}.{c}": np.ascontiguousarray(getattr(trace, c)) for c in _COLUMNS}
    write_atomically(path, lambda p: save_file(table, p))


def forget_others(folder: Path, named: Iterable[str]) -> None:
    """Drop what neither a manifest names nor a round was begun with."""
    kept = {*(name.split("/")[0] for name in named), MANIFEST, *BEGUN}
    for path in folder.iterdir():
        if path.name in kept or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
