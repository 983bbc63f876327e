"""The ledger: what a run leaves behind, and the only place that decides what is done.

    RUN/experiment.yaml  environment.json  fingerprint.json  parts.parquet
    RUN/history.jsonl  result.json  MANIFEST.json  report.html  report.md  plots/
    RUN/rounds/0007/selection.parquet  metrics.json  checkpoint/  MANIFEST.json (written last)
    RUN/rounds/0007/partial/  while the round is trained: see `unfinished` and `learn.partial`

A round is done when its manifest is there. A manifest holds the SHA-256 of every file of its
round and of the manifest before it (see `chain`). Where the folder stands in for a URI, each file
is uploaded too, the manifest last; of the round in progress, `storage.mirror` uploads what is kept.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysubset.chain import (
    ENVIRONMENT,
    MANIFEST,
    OBSERVATIONS,
    RESULT,
    committed_chain,
    damaged_file,
    named_first,
    named_last,
    read_metrics,
    read_result,
    refuse_damaged,
)
from raysubset.core.observations import Observations
from raysubset.experiment import Experiment
from raysubset.faultpoints import reach
from raysubset.files import (
    forget_unfinished,
    nearest_folder,
    refuse_lost,
    take_lock,
    write_json,
    write_text,
)
from raysubset.finished import Round as Round
from raysubset.learn.checkpoint import CheckpointRef, Files, file_hash
from raysubset.learn.partial import Open
from raysubset.learn.weights import Weights
from raysubset.pending import Pending
from raysubset.records import (
    PoolKeys,
    history_lines,
    read_history,
    read_observations,
    read_pool_keys,
    read_selection,
    write_observations,
    write_selection,
    write_table,
)
from raysubset.same_run import EXPERIMENT as EXPERIMENT
from raysubset.same_run import FINGERPRINT, PARTS, refuse_foreign, refuse_other
from raysubset.schedule import Phase
from raysubset.storage import disk, staging
from raysubset.storage.mirror import Mirror
from raysubset.strategies.selection import Selection
from raysubset.timeline import KEY, Clock, with_checkpoint
from raysubset.unfinished import (
    AHEAD,
    PARTIAL,
    begin_round,
    forget_round,
    read_begun,
    write_choice,
)

logger = logging.getLogger(__name__)
Saved = Callable[[], tuple[Files, float]]
Parts = Callable[[], pa.Table]


class Ledger:
    """The run folder of one run; one writer at a time."""

    def __init__(self, path: Path, experiment: Experiment, identity: Mapping[str, Any]) -> None:
        """Use `Ledger.open`."""
        self.path, self.experiment, self.identity = path, experiment, dict(identity)
        self.name, self.rounds = staging.shown(path), path / "rounds"
        self.done, self.clock = 0, Clock.start()
        self.committed: Callable[[], object] = lambda: None  # called after each committed round
        self._parent = ""
        self._checkpoint: CheckpointRef | None = None
        self._pending, self._mirror = Pending(), Mirror()
        self._lock: Any = None
        self._keys: PoolKeys | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        experiment: Experiment,
        identity: Mapping[str, Any],
        environment: Mapping[str, Any],
        *,
        parts: Parts | None = None,
        resume: bool = False,
    ) -> Ledger:
        """Return the ledger of a new run, or of a used folder that is to be resumed.

        Args:
            path: the run folder; made where it does not exist.
            experiment: the resolved config.
            identity: what a resumed run must have in common with the one that began.
            environment: versions and hardware, for the record.
            parts: gives which id belongs to which part, written once as parts.parquet.
            resume: continue a used folder.

        Raises:
            RunFolderError: a used folder without `resume`, another config or other data (the
                difference is shown), a folder of something else, or one that cannot be written.
        """
        ledger = cls(Path(path).absolute(), experiment, identity)
        refuse_foreign(ledger.path)
        with ExitStack() as undo:
            undo.callback(ledger.close)
            try:
                ledger.rounds.mkdir(parents=True, exist_ok=True)
                ledger._lock = take_lock(ledger.path, "run folder", ledger.name)
                forget_unfinished(ledger.path)
                staging.take(ledger.path)
                reach("folder.taken")
                # Asked under the lock: another process may have used the folder meanwhile.
                if (ledger.path / EXPERIMENT).is_file():
                    refuse_other(ledger.path, experiment, identity, resume=resume, parts=parts)
                    ledger._recover()
                else:
                    ledger._begin(environment, parts)
                ledger._keys = read_pool_keys(ledger.path / PARTS)
            except OSError as error:
                raise disk.unwritable(ledger.path, error) from None
            undo.pop_all()
        return ledger

    def check(self, *, resume: bool = False, parts: Parts | None = None) -> None:
        """Refuse what `open` would refuse, before anything starts, and leave nothing behind."""
        try:
            refuse_foreign(self.path)
            if (self.path / EXPERIMENT).is_file():
                refuse_other(self.path, self.experiment, self.identity, resume=resume, parts=parts)
            with tempfile.TemporaryFile(dir=nearest_folder(self.path)):
                pass
        except OSError as error:
            raise disk.unwritable(self.path, error) from None

    @contextmanager
    def _disk_errors(self) -> Generator[None]:
        """Tell a full or vanished disk in a sentence; the rounds committed so far are whole."""
        try:
            yield
        except OSError as error:
            raise disk.no_longer_writable(self.path, error) from error

    def _refuse_lost(self) -> None:
        """Refuse to write where another process took the folder over."""
        if self._lock is not None:  # None: it was let go of in good order, and commits no more
            refuse_lost(self._lock, f"run folder {self.name}")

    @property
    def weights(self) -> Weights | None:
        """The state after the last committed round; None before the first."""
        if self._checkpoint is None:
            return None
        return Weights(round=self.done - 1, checkpoint=self._checkpoint)

    def observations(self, num_pool: int) -> Observations:
        """Return what training saw up to the last committed round."""
        if self.done == 0:
            return Observations.none(num_pool)
        return read_observations(self._folder(self.done - 1) / OBSERVATIONS)

    def chosen(self, phase: Phase) -> Selection:
        """Return the choice of the last committed round, for a phase that goes on with it."""
        return read_selection(
            self._folder(self.done - 1) / "selection.parquet",
            num_pool=int(self.identity["pool"]),
            num_classes=int(self.identity["parts"]["classes"]),
            round_=phase.round,
        )

    @property
    def result(self) -> dict[str, Any] | None:
        """What the finished run gave; None while it is not finished, or where it is damaged."""
        return read_result(self.path)

    def begun(self, phase: Phase) -> Selection | None:
        """Return the choice with which a phase was begun, or made ahead; None without one."""
        begun = read_begun(self._partial(phase.round), self._link(phase.round))
        ahead = self._folder(phase.round - 1) / AHEAD
        return read_begun(ahead, self._ahead_link(phase.round)) if begun is None else begun

    def begin(self, phase: Phase, selection: Selection) -> Open:
        """Write a phase's choice down before it is trained on; return what its trainer keeps by."""
        number, every_s = phase.round, self.experiment.resources.checkpoint_every_s
        folder = self._partial(number)
        with self._disk_errors():
            self._refuse_lost()
            begun = begin_round(folder, selection, phase, self._link(number), every_s)
            self._mirror.begin(folder)
        return begun

    def append(self, round_: Round, saved: Saved) -> None:
        """Commit a round as soon as its state is saved, in a thread beside what comes next."""
        if round_.following is not None:
            phase, choice = round_.following
            with self._disk_errors():  # now: it is the next thing that is asked for
                ahead = self._folder(round_.phase.round) / AHEAD
                ahead.parent.mkdir(exist_ok=True)
                write_choice(ahead, choice, phase, self._ahead_link(phase.round))
                reach("ahead.written")
        self._pending.begin(lambda: self._whole(round_, saved))

    def settle(self) -> None:
        """Wait until the pending round is committed: the next one starts from its checkpoint."""
        if self._pending:
            with self._pending.settled() as self._checkpoint:
                self.done += 1
                staging.keep_readable(self.path)
                self.committed()

    def waited(self) -> float:
        """Return the seconds that `settle` waited since this was last asked."""
        return self._pending.waited()

    def _whole(self, round_: Round, saved: Saved) -> CheckpointRef | None:
        """Write what there is of a round; once its state is saved, commit it."""
        folder = self._folder(round_.phase.round)
        with self._disk_errors():
            with self._pending.open_folder() as ours:  # while it is, its lock is not closed
                if ours:
                    self._refuse_lost()
            folder.mkdir(exist_ok=True)
            chosen = folder / "selection.parquet"
            write_selection(chosen, round_.selection, round_.phase, self._keys)
            write_observations(folder / OBSERVATIONS, round_.observations)
            reach("commit.begun")
            files, write_s = saved()
            reach("commit.state")
            metrics = dict(round_.metrics)
            metrics["seconds_checkpoint_write"] = write_s
            if KEY in metrics:
                metrics[KEY] = with_checkpoint(metrics[KEY], write_s=write_s)
            with self._pending.open_folder() as ours:
                return self._commit(round_, metrics, files) if ours else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Record what the run gave."""
        with self._disk_errors():
            self._refuse_lost()
            for name, value in named_last(result, self._link(self.done)).items():
                write_json(self.path / name, value)
                staging.keep(self.path / name)
            reach("result.written")

    def close(self) -> None:
        """Let go of the folder."""
        self._pending.close()
        lock, self._lock = self._lock, None
        with ExitStack() as ending:
            if lock is not None:
                ending.callback(lock.close)
            ending.callback(staging.leave, self.path)
            self._mirror.close()

    def history(self) -> list[dict[str, Any]]:
        """Return the lines of history.jsonl."""
        return read_history(self.path)

    def _upload(self, round_: Round, files: Files) -> None:
        """Upload what only a manifest makes valid, before it."""
        folder = self._folder(round_.phase.round)
        for name in (*(f"checkpoint/{n}" for n in files), *round_.written_early):
            staging.keep(folder / name)

    def _commit(self, round_: Round, metrics: dict[str, Any], files: Files) -> CheckpointRef:
        number = round_.phase.round
        self._refuse_lost()
        self._upload(round_, files)
        metrics = {"strategy": round_.phase.strategy, **metrics}
        folder = self._folder(number)
        write_json(folder / "metrics.json", metrics | {"trace": round_.epochs})
        reach("metrics.written")
        named = {f"checkpoint/{name}": digest for name, digest in files.items()}
        for name in ("metrics.json", *round_.written_early):
            named[name] = file_hash(folder / name)
        manifest = {
            **self._link(number),
            "files": named,
            "experiment": self.experiment.digest,
            **named_first(self.path, number),
        }
        with open(self.path / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(history_lines(number, metrics, round_.epochs))
            file.flush()
            os.fsync(file.fileno())
        reach("history.written")
        write_json(folder / MANIFEST, manifest)
        reach("manifest.written")
        for path in (folder / "metrics.json", self.path / "history.jsonl", folder / MANIFEST):
            staging.keep(path)
        self._parent = file_hash(folder / MANIFEST)
        self._mirror.end(self._partial(number))
        reach("partial.dropped")
        self._prune(number + 1)
        reach("prune.done")
        return CheckpointRef(path=str(folder / "checkpoint"), files=files)

    def _prune(self, done: int) -> None:
        for number in range(done - self.experiment.resources.keep_checkpoints):
            shutil.rmtree(self._folder(number) / "checkpoint", ignore_errors=True)
            reach("prune.half")
            (self._folder(number) / OBSERVATIONS).unlink(missing_ok=True)
            staging.drop(self._folder(number) / "checkpoint", self._folder(number) / OBSERVATIONS)

    def _folder(self, number: int) -> Path:
        return self.rounds / f"{number:04d}"

    def _partial(self, number: int) -> Path:
        return self._folder(number) / PARTIAL

    def _ahead_link(self, number: int) -> dict[str, Any]:
        return {"round": number, "data": self.identity["data"]}  # the manifest ties the rest

    def _link(self, number: int) -> dict[str, Any]:
        return {"round": number, "parent": self._parent, "data": self.identity["data"]}

    def _begin(self, environment: Mapping[str, Any], parts: Parts | None) -> None:
        write_json(self.path / ENVIRONMENT, dict(environment))
        write_json(self.path / FINGERPRINT, self.identity)
        if parts is not None:
            write_table(self.path / PARTS, parts())
        # Last: a folder is used once it holds this, and a crash before it left nothing to keep.
        write_text(self.path / EXPERIMENT, self.experiment.to_yaml())
        for name in (ENVIRONMENT, FINGERPRINT, PARTS, EXPERIMENT):
            staging.keep(self.path / name)
        reach("folder.begun")

    def _recover(self) -> None:
        """Find the last committed round whose chain and checkpoint are whole."""
        chain = list(committed_chain(self.rounds, self.identity["data"]))
        while chain:
            digest, manifest = chain[-1]
            number = manifest["round"]
            folder = self._folder(number)
            staging.fetch_files(folder / name for name in manifest["files"])
            damaged = damaged_file(folder, manifest["files"])
            if not damaged:
                files = {
                    name.removeprefix("checkpoint/"): sha
                    for name, sha in manifest["files"].items()
                    if name.startswith("checkpoint/")
                }
                self._checkpoint = CheckpointRef(path=str(folder / "checkpoint"), files=files)
                self._parent, self.done = digest, number + 1
                break
            logger.warning("round %d is damaged (%s); going back one round", number, damaged)
            chain.pop()
        refuse_damaged(self.rounds, (manifest for _, manifest in chain))
        reach("recovery.begun")
        self._forget_after(self.done)
        self._prune(self.done)  # a crash came in the middle of it
        reach("recovery.done")

    def _forget_after(self, done: int) -> None:
        """Drop what was not committed, and write the history of what was."""
        late = [p for p in self.rounds.iterdir() if p.name.isdigit() and int(p.name) >= done]
        if late or any(line["round"] >= done for line in self.history()):
            for path in (self.path / RESULT, self.path / MANIFEST):
                path.unlink(missing_ok=True)
                staging.drop(path)
        for folder in late:
            forget_round(folder, but_partial=int(folder.name) == done)
        for number in range(done):  # a crash came between a commit and this
            self._mirror.end(self._partial(number))
        reach("recovery.dropped")
        lines: list[str] = []
        for number in range(done):
            metrics = read_metrics(self._folder(number))
            lines.append(history_lines(number, metrics, metrics.pop("trace", [])))
        write_text(self.path / "history.jsonl", "".join(lines))
        staging.keep(self.path / "history.jsonl")
